"""The shell blocks of a document, by the name in the comment before each: `<!-- recipe: NAME -->`."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.support.pages import ROOT, blocks

DOCUMENTS = ROOT / "docs"
VERIFYING = "howto/verify-a-message.md"


def recipe(name: str, document: str = VERIFYING) -> str:
    """Return the script of one block, to be run by `sh` in a folder that holds what the document says."""
    (script,) = [block.text for block in blocks(DOCUMENTS / document) if block.marks.get("recipe") == name]
    return script


@dataclass(frozen=True)
class Chapter:
    """A heading's own text: its shell blocks in order, each a name and a script."""

    title: str
    blocks: list[tuple[str, str]] = field(default_factory=list)


def chapters(document: str) -> dict[str, Chapter]:
    """Return the chapters that have shell blocks by title; what stands before the first is under the document's.

    Each block has a name.
    """
    found: dict[str, Chapter] = {}
    for block in blocks(DOCUMENTS / document):
        if block.is_command:
            assert "recipe" in block.marks, f"{block.place}: the block has no name"
            chapter = found.setdefault(block.chapter, Chapter(block.chapter))
            chapter.blocks.append((block.marks["recipe"], block.text))
    return found

"""The shell blocks of a document, by the name in the comment before each: `<!-- recipe: NAME -->`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

DOCUMENTS = Path(__file__).resolve().parents[2] / "docs"
_BLOCK = re.compile(r"^<!-- recipe: (?P<name>[a-z-]+) -->\n```sh\n(?P<script>.*?)^```$", re.DOTALL | re.MULTILINE)


def recipe(name: str, document: str = "events.md") -> str:
    """Return the script of one block, to be run by `sh` in a folder that holds what the document says."""
    blocks = {match["name"]: match["script"] for match in _BLOCK.finditer((DOCUMENTS / document).read_text())}
    return blocks[name]


@dataclass(frozen=True)
class Chapter:
    """A heading's own text: its shell blocks in order, each a name and a script."""

    title: str
    blocks: list[tuple[str, str]]


def chapters(document: str) -> dict[str, Chapter]:
    """Return the chapters by title; what stands before the first is under the document's. Each block has a name."""
    found: dict[str, Chapter] = {}
    for text in re.split(r"^##? ", (DOCUMENTS / document).read_text(), flags=re.MULTILINE)[1:]:
        title = text.partition("\n")[0]
        blocks = [(match["name"], match["script"]) for match in _BLOCK.finditer(text)]
        assert len(blocks) == text.count("```sh"), f"{document}, {title}: a block has no name"
        found[title] = Chapter(title, blocks)
    return found

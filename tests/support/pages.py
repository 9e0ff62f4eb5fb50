"""The fenced blocks of a page, in order, with the marks in the comments before them: `<!-- KEY: VALUE -->`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
SHELLS: Final = frozenset({"sh", "bash", "console"})

_FENCED: Final = re.compile(
    r"(?P<marks>(?:^[ ]*<!-- [^\n]* -->\n)*)^(?P<indent>[ ]*)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```[ ]*$",
    re.DOTALL | re.MULTILINE,
)
_MARK: Final = re.compile(r"<!-- ([a-z]+): (.*?) -->")


@dataclass(frozen=True)
class Block:
    """One fenced block; `place` says where it stands (`docs/tutorial.md:12`), for messages."""

    place: str
    language: str
    text: str
    marks: dict[str, str] = field(default_factory=dict)
    chapter: str = ""

    @property
    def is_command(self) -> bool:
        """Whether it is one that a reader types."""
        return self.language in SHELLS


class Covered:
    """A page whose blocks are run by tests, each under the name in its mark `recipe`; what none runs is found out."""

    def __init__(self, page: Path) -> None:
        self._blocks = [block for block in blocks(page) if block.language]
        self._names: set[str] = set()

    def by(self, name: str) -> pytest.MarkDecorator:
        """The test runs the block of this name, its argument `block`."""
        (block,) = [block for block in self._blocks if block.marks.get("recipe") == name]
        self._names.add(name)
        return pytest.mark.parametrize("block", [block], ids=[name])

    def left(self) -> list[str]:
        """Return where the blocks stand that no test runs; those without a language are drawings."""
        return [block.place for block in self._blocks if block.marks.get("recipe") not in self._names]


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page; a block that isn't closed is an error, since all after it would be misread."""
    return blocks_of(page.read_text(), str(page.relative_to(ROOT)) if page.is_relative_to(ROOT) else page.name)


def blocks_of(text: str, name: str) -> list[Block]:
    """Return the blocks of a page's text; `name` is the page in messages."""
    found = []
    for match in _FENCED.finditer(text):
        before = text[: match.start("indent")]
        headings = re.findall(r"^#+ +(.+?) *$", without_blocks(before), re.MULTILINE)
        indent = match["indent"]
        found.append(
            Block(
                place=f"{name}:{before.count(chr(10)) + 1}",
                language=match["language"],
                text=re.sub(f"^{indent}", "", match["text"], flags=re.MULTILINE),
                marks=dict(_MARK.findall(match["marks"])),
                chapter=headings[-1] if headings else "",
            )
        )
    fences = len(re.findall(r"^ *```", text, re.MULTILINE))
    assert fences == 2 * len(found), f"{name}: {fences} fences, {len(found)} blocks"
    return found


def without_blocks(text: str) -> str:
    """Return the text with its fenced blocks taken out: prose, headings and tables."""
    return _FENCED.sub("", text)

"""base64 that is wrapped: in lines of 76 characters (MIME, GNU's base64), of 64 (PEM), or of any width from 48 on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

_BLANKS: Final = b" \t\r\n"
# Lines of base64 alone. It begins with one plain byte, and gives nothing back, so that it costs next to nothing.
_LINES: Final = re.compile(rb"\n(?:[ \t]*+[A-Za-z0-9+/]{48,}+={0,2}+[ \t\r]*+\n)+")


@dataclass(frozen=True)
class Passage:
    """Lines of base64, the line before them, which may end with some, and the one after, which may begin with some."""

    start: int
    """Where it begins in the data."""
    text: bytes = field(repr=False)

    @property
    def joined(self) -> bytes:
        """The text without line breaks and blanks."""
        return self.text.translate(None, _BLANKS)

    def place(self, begin: int, end: int) -> tuple[int, int]:
        """Return where in the data a part of `joined` begins and ends."""
        return self.start + self._places[begin], self.start + self._places[end - 1] + 1

    @cached_property
    def _places(self) -> list[int]:
        return [place for place, byte in enumerate(self.text) if byte not in _BLANKS]


def passages(data: bytes) -> Iterator[Passage]:
    """Yield what may hold wrapped base64."""
    lines = b"\n" + data  # the first line is one, too
    for run in _LINES.finditer(lines):
        begin = lines.rfind(b"\n", 0, run.start()) + 1
        end = lines.find(b"\n", run.end())
        yield Passage(begin - 1, lines[begin : end if end >= 0 else None])


def reach(length: int) -> int:
    """Return over how many bytes so much base64 is spread, breaks, indents and whole lines at both ends included."""
    return 2 * length + 256

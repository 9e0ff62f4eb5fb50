"""Reads the audit log back, rotated files included, from any sequence or time on. All of it blocks.

Sequences only grow, so a place is found by halving. Times don't: a clock is set back now and then, and a line's time
says nothing of the lines around it. So where a time is asked for, lines are looked at one by one.
"""

from __future__ import annotations

import gzip
import os
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import msgspec
from msgspec import Struct

from secretsd.audit.logfiles import find_files

_OFFSETS_PER_STEP = 65_536
_LOOKS = 3
_LOOK_SECONDS = 0.03
"""Between two looks at the files where a line seems to be missing: a rotation of hundreds of files is faster."""
_SEQUENCE_DIGITS = 20

_Key: TypeAlias = tuple[int, int, int]


class _Moved(Exception):
    """A line is missing where files were just rotated."""


class Peek(Struct, frozen=True):
    """As much of a line as tells its place."""

    sequence: str
    prev: str
    time: str
    type: str

    @property
    def number(self) -> int:
        """The sequence as a number."""
        return int(self.sequence)


def peek(line: bytes) -> Peek | None:
    """Return a line's place, None when it isn't a line of the log."""
    try:
        place = msgspec.json.decode(line, type=Peek)
        digits = place.sequence
        return place if len(digits) == _SEQUENCE_DIGITS and digits.isascii() and digits.isdigit() else None
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


class LogReader:
    """Finds lines by sequence across the log's files; plain files are searched by halves, compressed ones through."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._first: dict[_Key, int] = {}
        self._last: dict[_Key, int] = {}

    def lines(self, after: int) -> Iterator[tuple[Peek, bytes]]:
        """Yield place and bytes (without newline) of the lines after sequence `after`; each sequence once, in order.

        A file that is moved or removed meanwhile is read to its end. Raises OSError.
        """
        last, looks = after, _LOOKS
        while True:
            try:
                for place, line in self._as_listed(last):
                    if place.number > last + 1 and looks > 1:
                        raise _Moved  # noqa: TRY301 — handled as the missing file that is the other sign of it
                    last, looks = place.number, _LOOKS
                    yield place, line
            except (_Moved, FileNotFoundError):
                # The files were rotated between their listing and their opening; a true gap is there again.
                looks -= 1
                if looks == 0:
                    raise
                time.sleep(_LOOK_SECONDS)
            else:
                return

    def beginning(self, after: int, since: str) -> int | None:
        """Return the sequence after which the lines begin that are asked for from `since` on and after `after`.

        They begin with the log's first line that is not older than `since` (RFC 3339 as the log has it) and leave none
        out from there on, also those that a clock set back made older. So it is `after` where that one doesn't come
        after it. None where no line is young enough. Raises OSError.
        """
        newest = next(self.lines(after - 1), None) if after > 0 else None
        if newest is not None and newest[0].number == after and newest[0].time >= since:
            return after
        young = (place.number - 1 for place, _ in self.lines(0) if place.time >= since)
        first = next(young, None)
        return None if first is None else max(first, after)

    def first_sequence(self, wanted: int = 0) -> int | None:
        """Return the sequence of the oldest line that is still there.

        Where that is beyond `wanted`, it is looked for again: files that are being rotated can escape a listing.
        """
        oldest: int | None = None
        for look in range(_LOOKS):
            if look > 0:
                time.sleep(_LOOK_SECONDS)
            firsts = [first for first, _ in self.by_first()]
            oldest = min(firsts if oldest is None else [*firsts, oldest], default=None)
            if not wanted or (oldest is not None and oldest <= wanted):
                break
        return oldest

    def _as_listed(self, after: int) -> Iterator[tuple[Peek, bytes]]:
        last = after
        for file in self._files_from(after):
            for place, line in _lines_of(file, last):
                if place.number > last:
                    last = place.number
                    yield place, line

    def _files_from(self, after: int) -> list[Path]:
        """Return the files that may hold lines after `after`, oldest first."""
        ordered = self.by_first()
        starts = [index for index, (first, _) in enumerate(ordered) if first <= after + 1]
        start = starts[-1] if starts else 0
        # Where a batch was being repeated when the machine stopped, it is whole only in the file before.
        while start > 0 and self._last_sequence(ordered[start - 1][1]) > after:
            start -= 1
        return [path for _, path in ordered[start:]]

    def by_first(self) -> list[tuple[int, Path]]:
        """Return the files that have a line, each with its first sequence, oldest first."""
        found: dict[_Key, int] = {}
        ordered: list[tuple[int, Path]] = []
        for path in find_files(self.path):
            try:
                key = _key(path)
                first = self._first.get(key) or _first_sequence(path)
            except (OSError, EOFError, zlib.error):
                continue
            if first is not None:
                found[key] = first
                ordered.append((first, path))
        self._first = found
        self._last = {key: last for key, last in self._last.items() if key in found}
        # The active file comes last among those that begin alike: a batch repeated in it stands in the older one too.
        return sorted(ordered, key=lambda item: (item[0], item[1] == self.path))

    def _last_sequence(self, path: Path) -> int:
        try:
            key = _key(path)
            if key not in self._last:
                line = last_line(path)
                place = None if line is None else peek(line)
                self._last[key] = 0 if place is None else place.number
            return self._last[key]
        except (OSError, EOFError, zlib.error):
            return 0


def _key(path: Path) -> _Key:
    """Return what tells a file and its content; an inode alone is often given to the next new file."""
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _first_sequence(path: Path) -> int | None:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        for line in file:
            place = peek(line)
            if place is not None:
                return place.number
    return None


def _lines_of(path: Path, after: int) -> Iterator[tuple[Peek, bytes]]:
    if path.suffix == ".gz":
        with gzip.open(path, "rb") as packed:
            yield from _wanted(iter(packed), after)
    else:
        with path.open("rb") as plain:
            plain.seek(_start(plain.fileno(), after))
            yield from _wanted(iter(plain), after)


def _wanted(lines: Iterator[bytes], after: int) -> Iterator[tuple[Peek, bytes]]:
    for line in lines:
        if not line.endswith(b"\n"):
            return
        place = peek(line)
        if place is not None and place.number > after:
            yield place, line[:-1]


def _start(descriptor: int, after: int) -> int:
    """Return an offset at a line's start before which every line is unwanted; found by halving."""
    low, high = 0, os.fstat(descriptor).st_size
    while high - low > _OFFSETS_PER_STEP:
        middle = (low + high) // 2
        chunk = os.pread(descriptor, _OFFSETS_PER_STEP, middle)
        begin = chunk.find(b"\n") + 1
        end = chunk.find(b"\n", begin) + 1
        place = peek(chunk[begin:end]) if 0 < begin < end else None
        if place is None:
            return low
        if place.number > after:
            high = middle
        else:
            low = middle + begin
    return low


def last_line(path: Path) -> bytes | None:
    """Return a file's last whole line without its newline, whatever it says; None when it has none.

    Raises OSError, EOFError, zlib.error.
    """
    if path.suffix == ".gz":
        newest: bytes | None = None
        with gzip.open(path, "rb") as packed:
            for line in packed:
                newest = line[:-1] if line.endswith(b"\n") else newest
        return newest
    with path.open("rb") as plain:
        size = os.fstat(plain.fileno()).st_size
        reach = _OFFSETS_PER_STEP
        while True:
            start = max(0, size - reach)
            chunk = os.pread(plain.fileno(), size - start, start)
            end = chunk.rfind(b"\n")
            begin = chunk.rfind(b"\n", 0, max(end, 0)) + 1
            if end >= 0 and (begin > 0 or start == 0):
                return chunk[begin:end]
            if start == 0:
                return None
            reach *= 4

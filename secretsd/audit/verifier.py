"""Verifies audit files offline: every signature, the chain across rotated files, keys that were rotated."""

from __future__ import annotations

import gzip
import hashlib
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from secretsd_bus import ZERO_HASH, Event, KeyRing, Refused, VerifyKey, b64url_encode, verify_line

from secretsd import files
from secretsd.audit import pruned
from secretsd.audit.eventkeys import keys_in
from secretsd.audit.logfiles import find_files
from secretsd.audit.pruned import Found, Pruned
from secretsd.audit.signed import NotSigned
from secretsd.errors import KeyFileError, SecretsdError

__all__ = ["ChainBroken", "Report", "Walk", "find_files", "verify_files"]

LINE_MOST: Final = 1_048_576
"""Bytes in one line; ours are a few KiB."""

PROGRESS_LINES: Final = 1000
_DIGEST_BYTES: Final = 32


class ChainBroken(SecretsdError):
    """The log was edited, cut or mixed up; `path` and `line_number` (from 1) name the first line that shows it."""

    def __init__(self, path: Path, line_number: int, reason: str) -> None:
        super().__init__(f"{path}, line {line_number}: {reason}")
        self.path = path
        self.line_number = line_number
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Report:
    """A log that verifies; `first`, `last` (sequences) and `head` are None where it has no line.

    `lines` counts each sequence once. `starts_at_genesis`: the log's very first line is there; if not, what came
    before is vouched for by the `prev` of the first line that is. `torn` names an unfinished line at the end of
    the newest file: nobody was told that it was written, and a daemon that starts sets it aside. `key` is the one in
    force behind the last line. `pruned` is the record of what was removed before the first line, where there is one;
    `missing` are the lines between the two that nothing accounts for, the first and the last.
    """

    files: tuple[Path, ...]
    lines: int
    first: int | None
    last: int | None
    head: str | None
    starts_at_genesis: bool
    torn: tuple[Path, int] | None
    key: VerifyKey | None = None
    pruned: Pruned | None = None
    missing: tuple[int, int] | None = None


def verify_files(
    paths: Sequence[Path],
    trusted: VerifyKey | None,
    progress: Callable[[int], None] | None = None,
    *,
    record_key: VerifyKey | None = None,
) -> Report:
    """Verify the files, plain or .gz, in whatever order they are given, as one log.

    Without `trusted` the keys are those in audit.sign.pub beside the first of `paths` (one PEM or more). The key
    that the log begins with is enough: `audit.key_rotated` is followed, and from there on the old key signs
    nothing more. Lines that repeat earlier ones byte for byte count once. `progress` gets the number of lines so
    far, every thousand. A record of what was pruned, beside the first of `paths`, says what came before; a key of the
    log must have signed it, or `record_key`. Raises ChainBroken for the first bad line, KeyFileError when there is no
    key, OSError.
    """
    if not paths:
        return Report((), 0, None, None, None, starts_at_genesis=False, torn=None)
    ring = KeyRing(_keys_beside(paths[0]) if trusted is None else [trusted])
    walk = Walk(ring, _record_beside(paths[0], ring))
    torn: tuple[Path, int] | None = None
    placed = [(place, path) for path in set(paths) if (place := _place(path)) is not None]
    ordered = [path for _, path in sorted(placed)]
    for path in ordered:
        for number, line in _lines(path):
            if not line.endswith(b"\n"):
                torn = _torn(path, number, line, is_newest=path == ordered[-1])
                break
            reason = walk.step(line[:-1])
            if reason is not None:
                raise ChainBroken(path, number, reason)
            if progress is not None and walk.lines % PROGRESS_LINES == 0:
                progress(walk.lines)
    walk.check_record(record_key)
    return Report(
        files=tuple(ordered),
        lines=walk.lines,
        first=walk.first,
        last=walk.last,
        head=walk.head,
        starts_at_genesis=walk.first == 1,
        torn=torn,
        key=walk.key,
        pruned=walk.pruned,
        missing=walk.missing,
    )


class Walk:
    """Goes along the chain. Keeps 32 bytes for each line, to know a repeated one again."""

    def __init__(self, ring: KeyRing, found: Found | None = None) -> None:
        self._ring = ring
        self._found = found
        self._keyid: str | None = None
        self._digests = bytearray()
        self.first: int | None = None
        self.last: int | None = None
        self.head: str | None = None

    @property
    def lines(self) -> int:
        """How many lines there were, each sequence once."""
        return len(self._digests) // _DIGEST_BYTES

    @property
    def key(self) -> VerifyKey | None:
        """The key in force behind the last line."""
        return None if self._keyid is None else self._ring.get(self._keyid)

    @property
    def pruned(self) -> Pruned | None:
        """The record of what was removed from this log before its first line here."""
        return None if self._found is None or self.first is None else self._found.record

    @property
    def missing(self) -> tuple[int, int] | None:
        """The lines after the record's that are not here, first and last: a log rotation, or somebody, removed them."""
        record = self.pruned
        if record is None or self.first is None or self.first <= record.last + 1:
            return None
        return record.last + 1, self.first - 1

    def check_record(self, also: VerifyKey | None) -> None:
        """Return when a key of this log, or `also`, signed the record, if there is one. Raises ChainBroken."""
        if self._found is None:
            return
        if also is not None:
            self._ring.add(also)
        try:
            self._found.document.check(self._ring)
        except NotSigned as error:
            raise ChainBroken(self._found.path, 1, str(error)) from error

    def step(self, raw: bytes) -> str | None:
        """Take the next line; return what is wrong with it, None when it is good."""
        try:
            event = verify_line(raw, self._ring)
        except Refused as refusal:
            return str(refusal)
        if event.sequence is None or event.prev is None:
            return f"{event.type} has no place in a log"
        digest = hashlib.sha256(raw).digest()
        if self.first is not None and self.last is not None and event.sequence <= self.last:
            return self._repeated(event.sequence - self.first, event.sequence, digest)
        return self._out_of_place(event, event.sequence) or self._take(event, event.sequence, digest)

    def _repeated(self, index: int, sequence: int, digest: bytes) -> str | None:
        start = index * _DIGEST_BYTES
        if index >= 0 and self._digests[start : start + _DIGEST_BYTES] == digest:
            return None
        return f"sequence {sequence} is there a second time, with another content"

    def _out_of_place(self, event: Event, sequence: int) -> str | None:
        if self.last is None:
            if (sequence == 1) != (event.prev == ZERO_HASH):
                return f"sequence {sequence} and prev don't agree on whether this is the log's first line"
            return self._off_the_record(event, sequence)
        if sequence != self.last + 1:
            missing = sequence - self.last - 1
            return f"sequence {sequence} follows {self.last}: {missing} line{'s are' if missing > 1 else ' is'} missing"
        if event.prev != self.head:
            return f"prev is not the hash of line {self.last}: that line was altered, or this one is of another log"
        if event.keyid != self._keyid:
            return f"signed by {event.keyid}, and the log's key is {self._keyid} here"
        return None

    def _off_the_record(self, event: Event, sequence: int) -> str | None:
        """Compare the first line with what the record of prunings says came before; another log's says nothing."""
        if self._found is None or not event.id.startswith(f"{self._found.record.log_id}-"):
            self._found = None
            return None
        record = self._found.record
        if sequence == record.last + 1 and event.prev != record.head:
            return f"prev is not the hash of line {record.last}, the last that {self._found.path.name} says was pruned"
        return None

    def _take(self, event: Event, sequence: int, digest: bytes) -> str | None:
        pruned = None if self._found is None else self._found.record
        if pruned is not None and sequence == pruned.last and b64url_encode(digest) != pruned.head:
            return f"it is another line {sequence} than the one that was pruned"
        self._keyid = event.keyid
        if event.type == "audit.key_rotated":
            key = self._ring.follow(event)
            if key is None:
                return "it introduces a key without that key's own proof"
            self._keyid = key.keyid
        self.first = sequence if self.first is None else self.first
        self.last, self.head = sequence, b64url_encode(digest)
        self._digests += digest
        return None


class _Sequence(msgspec.Struct):
    sequence: str


def _place(path: Path) -> tuple[float, int] | None:
    """Return where a file belongs, None when it is empty: by its first sequence, the shortest name last of equals.

    A batch that is repeated in a new file leaves two files that begin alike; the active one has the shortest name.
    """
    for _, line in _lines(path):
        if not line.endswith(b"\n"):
            return math.inf, -len(path.name)  # nothing but a torn line: it can only be the newest file
        try:
            return int(msgspec.json.decode(line, type=_Sequence).sequence), -len(path.name)
        except (msgspec.MsgspecError, RecursionError, ValueError):
            raise ChainBroken(path, 1, "not-json: not an event with a sequence") from None
    return None


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield number and bytes of each line, its newline included. Raises ChainBroken for a damaged .gz, OSError."""
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            while line := file.readline(LINE_MOST):
                number += 1
                yield number, line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ChainBroken(path, number + 1, f"the compressed file is damaged or cut short: {error}") from error


def _torn(path: Path, number: int, line: bytes, *, is_newest: bool) -> tuple[Path, int]:
    if len(line) == LINE_MOST:
        raise ChainBroken(path, number, "not-json: longer than any event")
    if not is_newest:
        raise ChainBroken(path, number, "the line is torn, and newer files follow")
    return path, number


def _record_beside(path: Path, ring: KeyRing) -> Found | None:
    """Return the record of what was pruned, `ring` made to know the keys from before."""
    try:
        found = pruned.beside(path)
    except NotSigned as error:
        raise ChainBroken(path.with_name(pruned.PRUNED_NAME), 1, str(error)) from error
    if found is not None:
        found.introduce(ring)
    return found


def _keys_beside(path: Path) -> list[VerifyKey]:
    file = path.with_name("audit.sign.pub")
    try:
        return keys_in(files.read_regular(file)) or [VerifyKey.from_pem(b"")]
    except (OSError, ValueError) as error:
        raise KeyFileError(
            f"no key to verify with: {file}: {error.strerror if isinstance(error, OSError) else error}; "
            "bring the log's audit.sign.pub there, or name the key that it begins with (--pubkey of `audit verify`)"
        ) from error

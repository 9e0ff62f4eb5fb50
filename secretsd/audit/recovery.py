"""Finds where the audit log ends at start, and what it knows that the vault must know too. All of it blocks."""

from __future__ import annotations

import contextlib
import os
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from secretsd_bus import Event, KeyRing, Refused, VerifyKey, line_hash, verify_line

from secretsd import files
from secretsd.audit.logfiles import TORN_INFIX, find_files
from secretsd.audit.reader import LogReader, Peek, last_line, peek
from secretsd.errors import VaultError

WITH_GENERATION: Final = (
    "jarvis.secretsd.secret.created",
    "jarvis.secretsd.secret.updated",
    "jarvis.secretsd.secret.rotated",
    "jarvis.secretsd.secret.rotation_started",
    "jarvis.secretsd.secret.rotation_failed",
    "jarvis.secretsd.secret.key_published",
    "jarvis.secretsd.secret.expiring",
    "jarvis.secretsd.secret.expired",
    "jarvis.secretsd.secret.retired",
    "jarvis.secretsd.secret.deleted",
    "jarvis.secretsd.policy.reloaded",
    "jarvis.secretsd.daemon.started",
    "jarvis.secretsd.vault.key_rotated",
    "jarvis.secretsd.audit.key_rotated",
)
"""The types whose `data` names the vault's epoch and generation."""

_TAIL_STEP: Final = 65_536
_LISTINGS: Final = 20
_LISTING_SECONDS: Final = 0.03


@dataclass(frozen=True, slots=True)
class Reach:
    """How far the log reaches, with the lines since the vault's mark that name a generation."""

    sequence: int
    head: str
    last_time: str | None
    since_mark: tuple[Event, ...]
    gone: tuple[int, int] | None = None
    """First and last of the lines since the mark that are no longer there: their files were rotated away."""


def set_aside_torn_tail(path: Path) -> Path | None:
    """Move what follows the last newline of the log into a file of its own; return that file, None when all is whole.

    Such a tail was never acknowledged: a line counts from its newline on. After a crash the file may have been rotated
    before this start, so those are looked at too. Raises OSError.
    """
    plain = [file for file in find_files(path) if file.suffix != ".gz"]
    torn = [aside for file in plain if (aside := _set_aside(file)) is not None]
    return torn[0] if torn else None


def _set_aside(file: Path) -> Path | None:
    with file.open("rb") as reading:
        size = os.fstat(reading.fileno()).st_size
        whole = _end_of_last_line(reading.fileno(), size)
        if whole == size:
            return None
        tail = os.pread(reading.fileno(), size - whole, whole)
    torn = file.with_name(f"{file.name}{TORN_INFIX}{whole}")
    files.replace(torn, tail)
    descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.ftruncate(descriptor, whole)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return torn


def newest_line(path: Path) -> bytes | None:
    """Return the log's newest line, wherever it is, None where there is none. Raises VaultError for a damaged file."""
    newest = _newest_line(path)
    return None if newest is None else newest[1]


def reach(
    path: Path, *, log_id: str, sequence: int, head: str, key: VerifyKey, also: Sequence[VerifyKey] = ()
) -> Reach:
    """Return how far the log in `path` and its rotated files reaches, given the vault's mark.

    `key` is the one in force; `also` are those of the past, which signed earlier lines. That no old key signs after
    its time is the chain's doing: the newest line vouches for all before it.

    Raises VaultError when it ends before the mark, isn't the log of the mark, or was broken after it.
    """
    newest = _newest_line(path)
    if newest is None and sequence == 0:
        return Reach(0, head, None, ())
    if newest is None or newest[0].number < sequence:
        ends = 0 if newest is None else newest[0].number
        raise VaultError(
            f"the audit log {path} is older than the vault: it ends at line {ends} and the vault knows {sequence}, "
            f"{sequence - ends} more. Put the missing files back; if they are lost, run "
            "`secretsctl vault accept-rollback`"
        )
    ring = KeyRing([key, *also])
    _check_newest(path, newest[1], log_id, ring)
    oldest = LogReader(path).first_sequence() or 1
    gone = (sequence + 1, oldest - 1) if oldest > sequence + 1 else None
    since_mark = _lines_since(path, sequence, head, newest[0].number, ring, gone)
    return Reach(newest[0].number, line_hash(newest[1]), newest[0].time, since_mark, gone)


@dataclass(frozen=True, slots=True)
class End:
    """Where a log ends, whatever the vault says, and the epochs that its last lines tell of."""

    log_id: str
    sequence: int
    head: str
    epochs: tuple[str, ...]


def end_of_log(path: Path, key: VerifyKey, also: Sequence[VerifyKey] = ()) -> End | None:
    """Return the log's end, None where there is no line. Raises VaultError when none of the keys signed its last line.

    `key` is the one in force, `also` are those of the past.
    """
    ring = KeyRing([key, *also])
    newest = _newest_line(path)
    if newest is None:
        return None
    place, line = newest
    log_id = _verified(path, line, ring).id.rpartition("-")[0]
    epochs: dict[str, None] = {}
    for found, raw in LogReader(path).lines(0):
        if found.type in WITH_GENERATION:
            with contextlib.suppress(Refused):
                epochs[str(verify_line(raw, ring).data.get("epoch"))] = None
    return End(log_id, place.number, line_hash(line), tuple(epochs))


def _check_newest(path: Path, line: bytes, log_id: str, ring: KeyRing) -> None:
    event = _verified(path, line, ring)
    if event.id.rpartition("-")[0] != log_id:
        raise VaultError(f"{path} is the log of another vault: put the log back that belongs to this one")


def _verified(path: Path, line: bytes, ring: KeyRing) -> Event:
    try:
        return verify_line(line, ring)
    except Refused as error:
        raise VaultError(
            f"the newest line of {path} fails verification ({error.slug}): it was edited, or audit.sign.key is not the "
            "key that signed it. Restore the log and its key from one backup; `secretsctl audit verify` names the line"
        ) from error


def _lines_since(
    path: Path, sequence: int, head: str, newest: int, ring: KeyRing, gone: tuple[int, int] | None
) -> tuple[Event, ...]:
    named: list[Event] = []
    expected = sequence if gone is None else gone[1]
    previous = head if gone is None else None
    for place, line in LogReader(path).lines(max(sequence - 1, 0)):
        if place.number == sequence:
            if line_hash(line) != head:
                raise VaultError(
                    f"line {sequence} of {path} is not the one that the vault knows: the two are not of one time. "
                    "Restore both from one backup, then run `secretsctl vault accept-rollback`"
                )
            continue
        expected += 1
        if place.number != expected or previous not in {place.prev, None}:
            raise VaultError(
                f"the chain of {path} is broken at line {place.number} ({expected} was due): lines are missing or "
                "altered. Put the files back; `secretsctl audit verify` names the first bad line"
            )
        previous = line_hash(line)
        if place.type in WITH_GENERATION:
            try:
                named.append(verify_line(line, ring))
            except Refused as error:
                raise VaultError(f"line {place.number} of {path} fails verification ({error.slug})") from error
    if expected != newest:
        raise VaultError(
            f"the chain of {path} ends at line {expected} and {newest} was seen: put the missing files back"
        )
    return tuple(named)


def _newest_line(path: Path) -> tuple[Peek, bytes] | None:
    """Return the newest line anywhere. Compressed files are asked only where the active one has no line.

    Beside a running daemon a file may be moved between its listing and its reading: then they are listed again.
    """
    for _ in range(_LISTINGS):
        with contextlib.suppress(FileNotFoundError):
            return _newest_as_listed(path)
        time.sleep(_LISTING_SECONDS)
    raise VaultError(f"the files of {path} are moved again and again while they are read: try again in a moment")


def _newest_as_listed(path: Path) -> tuple[Peek, bytes] | None:
    found = find_files(path)
    ordered = [file for _, file in LogReader(path).by_first()]
    asked = [file for file in found if file.suffix != ".gz"]
    if path not in ordered:
        # Besides the newest of them those that tell no first line: a damaged one may be the newest.
        asked += [file for file in ordered if file.suffix == ".gz"][-1:]
        asked += [file for file in found if file.suffix == ".gz" and file not in ordered]
    lasts = [last for file in asked if (last := _last_of(file)) is not None]
    return max(lasts, key=lambda last: last[0].number, default=None)


def _last_of(file: Path) -> tuple[Peek, bytes] | None:
    """Return a file's last line. Raises VaultError when that is none of a log: what comes after it would be lost."""
    try:
        line = last_line(file)
    except FileNotFoundError:
        raise
    except (OSError, EOFError, zlib.error) as error:
        raise VaultError(f"can't read {file}: {error}; restore it from its backup") from error
    if line is None:
        return None
    place = peek(line)
    if place is None:
        raise VaultError(
            f"{file} ends with a line that is none of the log: it was edited. Restore it from its backup, or take what "
            "does not belong there off its end; `secretsctl audit verify` names the line"
        )
    return place, line


def _end_of_last_line(descriptor: int, size: int) -> int:
    end = size
    while end > 0:
        start = max(0, end - _TAIL_STEP)
        newline = os.pread(descriptor, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0

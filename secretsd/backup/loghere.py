"""The log that is here, compared with a backup's: whether it goes on from there and is kept (docs/backup.md)."""

from __future__ import annotations

import zlib
from pathlib import Path

import msgspec
from secretsd_bus import line_hash

from secretsd.audit import recovery
from secretsd.audit.eventkeys import EventKeys
from secretsd.audit.reader import LogReader, last_line
from secretsd.backup.judgement import LogHere
from secretsd.backup.manifest import Checkpoint
from secretsd.errors import VaultError

_ANOTHER_WAY = "the audit log that is here went another way than the backup's, so its lines would be moved aside"


def look(path: Path, keys: EventKeys, at: Checkpoint, backup_log: Path) -> LogHere | None:
    """Return how the log in `path` stands to a backup's; None for one without a line.

    One of `keys` should have signed each of its lines. Raises OSError.
    """
    log_id = _claimed_id(path)
    if log_id is None:
        return None
    if log_id != at.log_id:
        return LogHere(log_id, lost_because="the audit log that is here is another one, begun since the backup")
    key, past = keys.current.public, [one.key for one in keys.past]
    try:
        end = recovery.end_of_log(path, key, past)
        if end is None:
            return None
        if end.sequence < at.sequence:
            return LogHere(
                log_id, lost_because=None if _hash_at(backup_log, end.sequence) == end.head else _ANOTHER_WAY
            )
        reach = recovery.reach(path, log_id=log_id, sequence=at.sequence, head=at.head, key=key, also=past)
    except (VaultError, EOFError, zlib.error):
        return LogHere(
            log_id,
            lost_because="the audit log that is here doesn't verify as one that goes on from the backup's, so its "
            "lines would be moved aside",
        )
    gone = None
    if reach.gone is not None:
        gone = f"lines {reach.gone[0]} to {reach.gone[1]} of the audit log are no longer here, and may tell of commits"
    return LogHere(log_id, reach.since_mark, gone)


class _Id(msgspec.Struct, frozen=True):
    id: str


def _claimed_id(path: Path) -> str | None:
    """Return the id of the log that its newest line claims, not verified; None where there is no line."""
    for _, file in reversed(LogReader(path).by_first()):
        try:
            line = last_line(file)
            if line is not None:
                return msgspec.json.decode(line, type=_Id).id.rpartition("-")[0]
        except (EOFError, zlib.error, msgspec.MsgspecError, UnicodeError, RecursionError):
            return ""
    return None


def _hash_at(path: Path, sequence: int) -> str | None:
    found = next(LogReader(path).lines(sequence - 1), None)
    return line_hash(found[1]) if found is not None and found[0].number == sequence else None

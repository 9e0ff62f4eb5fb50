"""How far the broker has acknowledged, kept beside the vault. Damage to it costs repetitions, never an event."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct

from secretsd import files

SUFFIX: Final = ".bus"


class Cursor(Struct, frozen=True):
    """`changes` and `audit` are the sequences up to which everything owed in a lane is acknowledged.

    None: no broker was ever reached, and the first one is owed nothing older. `session` counts connections.
    """

    log_id: str
    session: int = 0
    changes: int | None = None
    audit: int | None = None
    format: Literal[1] = 1


def load(path: Path, log_id: str) -> Cursor:
    """Return the cursor in `path`; a fresh one when there is none, or it is of another log.

    Where it can't be read all of the log is owed, as far as `replay_max` lets it be.
    """
    try:
        cursor = msgspec.json.decode(path.read_bytes(), type=Cursor)
    except FileNotFoundError:
        return Cursor(log_id)
    except (OSError, msgspec.MsgspecError, UnicodeError, RecursionError):
        return Cursor(log_id, changes=0, audit=0)
    return cursor if cursor.log_id == log_id else Cursor(log_id, session=cursor.session)


def save(path: Path, cursor: Cursor) -> None:
    """Replace the file durably; blocks. Raises OSError."""
    files.replace(path, msgspec.json.encode(cursor) + b"\n")

"""How far the broker has acknowledged, kept beside the vault. Damage to it costs repetitions, never an event."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct

from secretsd import files
from secretsd.outbox.homeassistant.tally import Tally

SUFFIX: Final = ".bus"


class Cursor(Struct, frozen=True):
    """`changes`, `audit` and `homeassistant` are the sequences up to which all owed in a lane is acknowledged.

    None: no broker was ever reached, and the first one is owed nothing older. `session` counts connections; after a
    loss of the file it goes on from the time in seconds, which no count of connections ever reaches.
    """

    log_id: str
    session: int = 0
    changes: int | None = None
    audit: int | None = None
    homeassistant: int | None = None
    tally: Tally = Tally()
    format: Literal[1] = 1


def load(path: Path, log_id: str, now_ms: int) -> Cursor:
    """Return the cursor in `path`.

    It is made with the vault (`begin`), so one that is missing was lost, as one that can't be read: all of the log is
    owed, as far as `replay_max` lets it be. So is all of another log, which follows one that was lost.
    """
    found = _read(path)
    if found is None:
        return Cursor(log_id, session=now_ms // 1000, changes=0, audit=0)
    if found.log_id != log_id:
        owed = None if found.changes is None else 0
        return Cursor(log_id, session=found.session, changes=owed, audit=owed)
    return found


def begin(path: Path, log_id: str) -> None:
    """Write the cursor of a new vault; a session number of an older one there is not used again. Raises OSError."""
    found = _read(path)
    save(path, Cursor(log_id, session=0 if found is None else found.session))


def _read(path: Path) -> Cursor | None:
    try:
        return msgspec.json.decode(files.read_regular(path), type=Cursor)
    except (OSError, msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def save(path: Path, cursor: Cursor) -> None:
    """Replace the file durably; blocks. Raises OSError."""
    files.replace(path, msgspec.json.encode(cursor) + b"\n")

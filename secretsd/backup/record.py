"""vault.json.backup: which backup was made last, and whether it was proven (docs/backup.md). For doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from secretsd import files
from secretsd.backup.manifest import Manifest
from secretsd.daemon.firststart import StateFiles


class LastBackup(Struct, frozen=True):
    """The newest backup. `file` is None for one that went to a stream; `verified_at` until it was proven."""

    created_at: str
    file: str | None
    epoch: str
    generation: int
    sequence: int
    head: str
    verified_at: str | None = None
    format: Literal[1] = 1


def path_for(state: StateFiles) -> Path:
    """Return where the record lies."""
    return state.backup


def load(state: StateFiles) -> LastBackup | None:
    """Return the record; None where there is none, or it can't be understood. Raises OSError."""
    try:
        return msgspec.json.decode(files.read_regular(path_for(state)), type=LastBackup)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def save(state: StateFiles, last: LastBackup) -> None:
    """Replace the record. Raises OSError."""
    path = path_for(state)
    files.replace(path, msgspec.json.encode(last) + b"\n")
    files.give_to_owner_of(state.vault, path)


def note_verified(state: StateFiles, manifest: Manifest, now: str) -> bool:
    """Note that the backup with this manifest was proven; False when it isn't the newest. Raises OSError."""
    last = load(state)
    if last is None or (last.created_at, last.head) != (manifest.created_at, manifest.checkpoint.head):
        return False
    save(state, msgspec.structs.replace(last, verified_at=now))
    return True

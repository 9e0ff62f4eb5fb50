"""Puts restored files where the daemon reads them, so that it can be gone on with after a crash (docs/backup.md).

Once the journal is there, everything is decided: what follows are renames, each of which is done or not yet done.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from secretsd import files
from secretsd.audit.logfiles import find_files
from secretsd.audit.pruned import PRUNED_NAME
from secretsd.daemon.firststart import STAGE_NAME, StateFiles
from secretsd.errors import BackupError


class Journal(Struct, frozen=True, forbid_unknown_fields=True):
    """What is going on: the name of the folders for the old files, and what is said when it is done."""

    aside: str
    epoch: str
    generation: int
    sequence: int
    log_kept: bool
    created_at: str
    format: Literal[1] = 1


def stages(state: StateFiles) -> tuple[Path, Path]:
    """Return the folders in which new files wait: beside the vault, beside the log."""
    return state.vault_stage, state.audit_stage


def clear_stages(state: StateFiles) -> None:
    """Remove what an attempt left that came to nothing. Raises OSError."""
    for stage in set(stages(state)):
        if stage.is_symlink() or stage.is_file():
            stage.unlink()
        elif stage.is_dir():
            shutil.rmtree(stage)


def make_stages(state: StateFiles) -> tuple[Path, Path]:
    """Make the folders anew, 0700, and return them. Raises OSError."""
    clear_stages(state)
    for stage in set(stages(state)):
        stage.mkdir(mode=files.PRIVATE_FOLDER)
    return stages(state)


def decide(state: StateFiles, journal: Journal) -> None:
    """Write the journal: from here on the restore will be done. Raises OSError when it will not."""
    for stage in set(stages(state)):
        files.sync_folder(stage)
        files.sync_folder(stage.parent)
    files.replace(state.restoring, msgspec.json.encode(journal) + b"\n")


def unfinished(state: StateFiles) -> Journal | None:
    """Return the journal of a restore that was broken off; None where there is none. Raises BackupError, OSError."""
    try:
        return msgspec.json.decode(files.read_regular(state.restoring), type=Journal)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise BackupError(
            f"{state.restoring} can't be understood: was it edited? The new files wait in {STAGE_NAME} beside vault "
            "and log, the old ones that were moved are in before-restore-…"
        ) from error


def finish(state: StateFiles, journal: Journal) -> None:
    """Move the old files aside and the new ones into their place, from wherever that was.

    Raises OSError, and BackupError where all is in place but may not survive a crash of the machine.
    """
    vault_stage, audit_stage = stages(state)
    if (audit_stage / state.audit.name).exists():
        # As long as the new log waits, any log that is found is the old one.
        for old in (*find_files(state.audit), state.audit.with_name(PRUNED_NAME), state.past_keys):
            _set_aside(old, journal)
    for target in _targets(state):
        staged = (vault_stage if target.parent == vault_stage.parent else audit_stage) / target.name
        if staged.exists():
            _set_aside(target, journal)
            staged.rename(target)
            files.sync_folder(target.parent)
    clear_stages(state)
    state.restoring.unlink(missing_ok=True)
    try:
        files.sync_folder(state.restoring.parent)
    except OSError as error:
        raise BackupError(
            f"all of the backup is in place, but {error.filename} can't be synced ({error.strerror}): should a crash "
            f"of the machine bring {state.restoring.name} back, `secretsctl backup restore --resume` ends it"
        ) from error


def _targets(state: StateFiles) -> Iterator[Path]:
    """Yield what may wait to be placed, in order.

    The new log comes before what belongs to it: as long as it waits, what lies there of those is the old.
    """
    yield from (state.sign_key, state.sign_pub, state.audit, state.past_keys, state.audit.with_name(PRUNED_NAME))
    yield from (state.cursor, state.vault)


def _set_aside(old: Path, journal: Journal) -> None:
    if not old.exists():
        return
    folder = old.parent / journal.aside
    folder.mkdir(mode=files.PRIVATE_FOLDER, exist_ok=True)
    name = folder / old.name
    number = 0
    while name.exists():
        number += 1
        name = folder / f"{old.name}~{number}"
    old.rename(name)
    files.sync_folder(folder)
    files.sync_folder(old.parent)

"""Makes a backup: a snapshot, its manifest, an archive of both, sealed (docs/backup.md)."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from secretsd_bus import rfc3339

from secretsd import files
from secretsd.backup import archive, manifest, record, snapshot
from secretsd.backup.archive import Member
from secretsd.backup.manifest import LOG, MANIFEST, ORDER, Manifest, Part
from secretsd.backup.record import LastBackup
from secretsd.backup.snapshot import Changed, Progress, Snapshot
from secretsd.clock import SystemClock
from secretsd.config import Config
from secretsd.crypto import agestream
from secretsd.crypto.age import Recipients
from secretsd.crypto.sensitive import Sensitive
from secretsd.daemon.firststart import StateFiles
from secretsd.errors import BackupError
from secretsd.service.reads import VERSION


@dataclass(frozen=True, slots=True)
class Made:
    """A backup that was made. `path` is None for a stream; `not_recorded` says why doctor won't know of it."""

    path: Path | None
    manifest: Manifest
    gap_before: bool
    not_recorded: str | None


def to_file(
    config: Config,
    target: Path,
    to: Recipients | Sensitive,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Made:
    """Make a backup in the file `target`, 0600; in a folder, under a name with node and time. It is whole or not there.

    Raises BackupError, AgeError, VaultError, OSError.
    """
    now_ms = SystemClock().now_ms()
    path = target / _name(config.bus.node, now_ms) if target.is_dir() else target
    unfit = files.unfit(path)
    if unfit is not None:
        raise BackupError(f"{path} {unfit}; - is standard output")
    if path.exists() and not overwrite:
        raise BackupError(f"{path} exists: name another file, or give --force")
    path.parent.stat()  # a folder that isn't there is told before the log is read
    part = files.hidden_beside(path)
    for left in reversed(range(snapshot.TRIES)):
        taken = snapshot.take(config, progress)
        try:
            with _private_file(part) as file:
                made = _write(config, taken, file, to, now_ms)
                file.flush()
                os.fsync(file.fileno())
            break
        except (Changed, FileNotFoundError):
            # The log was pruned or compressed between its two readings.
            part.unlink(missing_ok=True)
            if left == 0:
                raise
        except OSError as error:
            part.unlink(missing_ok=True)
            # A write that failed names no file, and there are two disks that may be full.
            named = path if error.filename in (None, str(part)) else error.filename
            raise OSError(error.errno, error.strerror, str(named)) from error
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    _place(part, path)
    return Made(path, made, taken.cut.gap_before, _recorded(config, path, made))


def to_stream(config: Config, target: IO[bytes], to: Recipients | Sensitive, progress: Progress | None = None) -> Made:
    """Write a backup to a stream. Raises as `to_file`; what was written then is no whole age file."""
    taken = snapshot.take(config, progress)
    made = _write(config, taken, target, to, SystemClock().now_ms())
    target.flush()
    return Made(None, made, taken.cut.gap_before, _recorded(config, None, made))


def _write(config: Config, taken: Snapshot, target: IO[bytes], to: Recipients | Sensitive, now_ms: int) -> Manifest:
    parts = {name: Part(len(data), hashlib.sha256(data).hexdigest()) for name, data in taken.small.items()}
    about = Manifest(
        format=manifest.FORMAT,
        created_at=rfc3339(now_ms),
        version=VERSION,
        node=config.bus.node,
        vault_id=taken.position.vault_id,
        checkpoint=taken.checkpoint,
        files={**parts, LOG: taken.cut.part},
    )
    whole = {MANIFEST: manifest.encode(about, taken.key), **taken.small}

    def members() -> Iterator[Member]:
        for name in ORDER:
            if name in whole:
                yield Member(name, len(whole[name]), [whole[name]])
        yield Member(LOG, taken.cut.part.size, snapshot.log_lines(StateFiles(config), taken.cut))

    agestream.seal(archive.Stream(archive.written(members(), now_ms // 1000)), target, to)
    return about


def _recorded(config: Config, path: Path | None, made: Manifest) -> str | None:
    """Note the backup for doctor; return why that can't be done."""
    at = made.checkpoint
    last = LastBackup(
        created_at=made.created_at,
        file=None if path is None else str(path.absolute()),
        epoch=at.epoch,
        generation=at.generation,
        sequence=at.sequence,
        head=at.head,
    )
    try:
        record.save(StateFiles(config), last)
    except OSError as error:
        return f"{error.filename or record.path_for(StateFiles(config))}: {error.strerror}"
    return None


def _place(part: Path, path: Path) -> None:
    try:
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
    try:
        files.sync_folder(path.parent)
    except OSError as error:
        raise BackupError(
            f"{path} is a whole backup, but its folder could not be synced ({error.strerror}): a crash of the machine "
            "may take it away again. Prove it, and make another one when the disk is well"
        ) from error


@contextlib.contextmanager
def _private_file(path: Path) -> Iterator[IO[bytes]]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, files.PRIVATE_FILE), "wb") as file:
        yield file


def _name(node: str, now_ms: int) -> str:
    return f"secretsd-{node}-{datetime.fromtimestamp(now_ms / 1000, UTC):%Y%m%dT%H%M%SZ}.age"

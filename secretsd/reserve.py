"""Space that is kept for the moment when the disk is full, so that an operator can still act. All of it blocks.

With a full disk nothing can be audited, so nothing is released. Without a reserve nothing could be changed either,
not even the secret that leaked. What is reserved is given up for a person's changes only, never for reads.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from secretsd import files

log = logging.getLogger(__name__)

RESERVED_BYTES: Final = 4 * 1024 * 1024
FREE_BEFORE_BYTES: Final = 4 * RESERVED_BYTES
"""So much has to be free before space is first taken: a reserve must not be what fills the disk."""
FREE_AGAIN_BYTES: Final = 2 * RESERVED_BYTES
"""So much has to be free before it is taken back: less, since a small volume may never be as empty again."""
FILE_NAME: Final = ".secretsd.reserve"
SPENT: Final = (
    "the disk is full, and what is left is kept for changes by hand until "
    f"{FREE_AGAIN_BYTES // (1024 * 1024)} MiB are free"
)
"""Why nothing is read while a reserve is spent."""
_WRITE: Final = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Reserve:
    """One file of empty blocks on each file system that is written to; an empty one where they were given up.

    That file is how the next start knows that what is free was kept for changes. Where none was ever taken, as on a
    small volume, nothing is kept and all of it is for everybody. `folders` are the vault's and the audit log's, in
    this order.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        by_device = {folder.stat().st_dev: folder / FILE_NAME for folder in folders}
        self._paths = [by_device[folder.stat().st_dev] for folder in folders]
        self._turn = threading.Lock()
        self.spent = False
        """Whether the log's space was given up and could not be taken back since: then only changes may be written."""

    def take(self) -> bool:
        """Take the space where it isn't taken yet; False where a file system hasn't enough."""
        with self._turn:
            taken = [_take(path) for path in self._paths]
            if not taken or taken[-1]:
                if self.spent:
                    log.info("there is room on the disk again: secrets are read as before")
                self.spent = False
            elif _is_given_up(self._paths[-1]):
                if not self.spent:
                    log.warning("%s; nothing is read until then", SPENT)
                self.spent = True
            return all(taken)

    def give_up(self, *, for_lines: bool = True) -> bool:
        """Free the space where the log is, or where the vault is; tell whether there was any to free."""
        with self._turn:
            if not self._paths:
                return False
            path = self._paths[-1] if for_lines else self._paths[0]
            freed = _empty(path)
            if freed and path == self._paths[-1]:
                self.spent = True
            return freed

    def put_back(self) -> None:
        """Take again what was borrowed of the log's to make room, if it fits: that was kept before, and is."""
        with self._turn:
            if self._paths and _is_given_up(self._paths[-1]):
                _fill(self._paths[-1])


def _take(path: Path) -> bool:
    size = _size(path)
    if size is not None and size >= RESERVED_BYTES:
        return True
    if size is None:
        with contextlib.suppress(OSError):
            _new(path).unlink()  # of a start that was killed
    try:
        space = os.statvfs(path.parent)
    except OSError:
        return False
    needed = FREE_BEFORE_BYTES if size is None else FREE_AGAIN_BYTES
    return space.f_bavail * space.f_frsize >= needed and (_make(path) if size is None else _fill(path))


def _make(path: Path) -> bool:
    """Make the file. It gets its name when it is full, since one that isn't was given up."""
    new = _new(path)
    if os.path.lexists(path) or not _fill(new):
        return False
    try:
        new.rename(path)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink()
        return False
    return True


def _fill(path: Path) -> bool:
    """Let the file have its blocks; where that fails it is as it was, missing or empty."""
    kept = _size(path) is not None
    try:
        descriptor = os.open(path, _WRITE | os.O_CREAT, files.PRIVATE_FILE)
        try:
            os.posix_fallocate(descriptor, 0, RESERVED_BYTES)
        except OSError:
            os.ftruncate(descriptor, 0)
            raise
        finally:
            os.close(descriptor)
    except OSError:
        if not kept:
            with contextlib.suppress(OSError):
                path.unlink()
        return False
    return True


def _new(path: Path) -> Path:
    return path.with_name(path.name + files.TEMPORARY_SUFFIX)


def _is_given_up(path: Path) -> bool:
    """Tell whether a file has less than its blocks: none, or a part where a kill came between."""
    size = _size(path)
    return size is not None and size < RESERVED_BYTES


def _empty(path: Path) -> bool:
    """Free the file's blocks and leave its name; False where there were none."""
    if not _size(path):
        return False
    try:
        descriptor = os.open(path, _WRITE)
        try:
            os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)
    except OSError:
        return False
    return True


def _size(path: Path) -> int | None:
    """Return the file's size, None where there is no such file."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None

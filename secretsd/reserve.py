"""Space that is kept for the moment when the disk is full, so that an operator can still act. All of it blocks.

With a full disk nothing can be audited, so nothing is released. Without a reserve nothing could be changed either,
not even the secret that leaked. What is reserved is given up for a person's changes only, never for reads.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from secretsd import files

RESERVED_BYTES: Final = 4 * 1024 * 1024
FREE_BEFORE_BYTES: Final = 4 * RESERVED_BYTES
"""So much has to be free before space is taken: a reserve must not be what fills the disk."""
FILE_NAME: Final = ".secretsd.reserve"


class Reserve:
    """One file of empty blocks on each file system that is written to.

    `folders` are the vault's and the audit log's, in this order.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        by_device = {folder.stat().st_dev: folder / FILE_NAME for folder in folders}
        self._paths = [by_device[folder.stat().st_dev] for folder in folders]
        self.spent = False
        """Whether the log's space was given up and could not be taken back since: then only changes may be written."""

    def take(self) -> bool:
        """Take the space where it isn't taken yet; False where a file system hasn't enough."""
        taken = [_take(path) for path in self._paths]
        if not taken or taken[-1]:
            self.spent = False
        return all(taken)

    def give_up(self, *, for_lines: bool = True) -> bool:
        """Free the space where the log is, or where the vault is; tell whether there was any to free."""
        if not self._paths:
            return False
        path = self._paths[-1] if for_lines else self._paths[0]
        freed = _remove(path)
        self.spent = self.spent or (freed and path == self._paths[-1])
        return freed


def _take(path: Path) -> bool:
    try:
        if path.exists() and path.stat().st_size == RESERVED_BYTES:
            return True
        space = os.statvfs(path.parent)
        if space.f_bavail * space.f_frsize < FREE_BEFORE_BYTES:
            return False
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(path, flags, files.PRIVATE_FILE)
        try:
            os.posix_fallocate(descriptor, 0, RESERVED_BYTES)
        finally:
            os.close(descriptor)
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
        return False
    return True


def _remove(path: Path) -> bool:
    try:
        path.unlink()
    except OSError:
        return False
    return True

"""Space that is kept for the moment when the disk is full, so that an operator can still act. All of it blocks.

With a full disk nothing can be audited, so nothing is released. Without a reserve nothing could be changed either,
not even the secret that leaked. What is reserved is given up for changes only, never for reads.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Final

from secretsd import files

RESERVED_BYTES: Final = 4 * 1024 * 1024
FREE_BEFORE_BYTES: Final = 4 * RESERVED_BYTES
"""So much has to be free before space is taken: a reserve must not be what fills the disk."""


def is_full(error: OSError) -> bool:
    """Tell whether the file system, or our share of it, is full."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT}


class Reserve:
    """A file of blocks that hold nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.spent = False
        """Whether it was given up and could not be taken back since."""

    def take(self) -> bool:
        """Make sure that the space is there; False where the disk hasn't enough."""
        try:
            if self._path.exists() and self._path.stat().st_size == RESERVED_BYTES:
                self.spent = False
                return True
            space = os.statvfs(self._path.parent)
            if space.f_bavail * space.f_frsize < FREE_BEFORE_BYTES:
                return False
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, files.PRIVATE_FILE)
            try:
                os.posix_fallocate(descriptor, 0, RESERVED_BYTES)
            finally:
                os.close(descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                self._path.unlink()
            return False
        self.spent = False
        return True

    def give_up(self) -> bool:
        """Free the space; tell whether there was any to free."""
        try:
            self._path.unlink()
        except OSError:
            return False
        self.spent = True
        return True

"""Files that settings name: read at once, or refused."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def read_regular(path: Path) -> bytes:
    """Return the bytes of a file. Raises OSError, also where it isn't a regular file."""
    # Without O_NONBLOCK a named pipe that nobody writes to would be waited for without end, and without a word.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return file.read()

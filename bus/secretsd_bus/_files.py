"""Files that settings name: read at once, or refused."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def read_at_once(path: Path) -> bytes:
    """Return what is in a file, or in a pipe that somebody writes to. Raises OSError, also where nobody does."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
        os.set_blocking(file.fileno(), True)
        data = file.read()
        if not data and stat.S_ISFIFO(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is a pipe that nobody writes to", str(path))
        return data


def read_regular(path: Path) -> bytes:
    """Return the bytes of a file. Raises OSError, also where it isn't a regular file."""
    # Without O_NONBLOCK a named pipe that nobody writes to would be waited for without end, and without a word.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return file.read()

"""vault.json on disk: locked by one daemon, read whole, replaced whole."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from secretsd import files
from secretsd.errors import StartupError, VaultError, VaultLocked, VaultWriteError


class CommitUncertain(VaultWriteError):
    """The document is in place, but a crash now may bring back the one before."""


class Lock:
    """The lock that makes one daemon the only one on a vault; held as long as the object lives."""

    def __init__(self, path: Path) -> None:
        """Take the lock file `path`. Raises VaultLocked when another process has it."""
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, files.PRIVATE_FILE)
        except OSError as error:
            raise StartupError(
                f"can't open the lock {path}: {error.strerror}; give the daemon's user a writable folder there"
            ) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise VaultLocked(
                f"another secretsd works on this vault (it holds {path}): stop it, or give this one a vault of its own"
            ) from error

    def release(self) -> None:
        """Give the lock up; the file stays, since removing it would let two others lock two files."""
        os.close(self._descriptor)


def read(path: Path) -> bytes:
    """Return the bytes of vault.json. Raises VaultError when it can't be read, or others can."""
    try:
        return files.read_private(path)
    except files.ReadableByOthers as error:
        raise VaultError(str(error)) from error
    except OSError as error:
        raise VaultError(f"can't read {path}: {error.strerror}") from error


def write(path: Path, data: bytes) -> None:
    """Replace vault.json durably; blocks for two fsyncs.

    Raises VaultWriteError when nothing changed, CommitUncertain when the new document may not survive a crash.
    """
    try:
        files.replace(path, data)
    except files.NotSynced as error:
        raise CommitUncertain(f"can't sync the folder of {path}: {error.strerror}") from error
    except OSError as error:
        raise VaultWriteError(f"can't write {path}: {error.strerror}") from error

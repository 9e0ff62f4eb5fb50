"""Files that are private and durable: how they are read, replaced and synced. All of it blocks."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

PRIVATE_FILE: Final = 0o600
PRIVATE_FOLDER: Final = 0o700
TEMPORARY_SUFFIX: Final = ".new"
"""What `replace` calls a file until it is whole: the name of the one that it replaces, and this."""
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


class ReadableByOthers(Exception):
    """Group or others have a permission on a file that is the owner's alone."""

    def __init__(self, path: Path, mode: int) -> None:
        super().__init__(
            f"{path} may be used by others (mode {mode:04o}): run `chmod 600 {path}`, and think what is in it lost if "
            "others had a look"
        )


class NotSynced(OSError):
    """The new content is in place, but the folder could not be synced: a crash may bring back the old one."""


def is_full(error: OSError) -> bool:
    """Tell whether the disk, or what this user may have of it, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def read_private(path: Path) -> bytes:
    """Return the bytes of a file that only its owner may use. Raises OSError, or ReadableByOthers."""
    with _open_regular(path, os.O_NOFOLLOW) as file:
        mode = os.fstat(file.fileno()).st_mode & 0o777
        if mode & 0o077:
            raise ReadableByOthers(path, mode)
        return file.read()


def read_regular(path: Path, most: int = -1) -> bytes:
    """Return the bytes of a file, at most so many. Raises OSError, also where it isn't a regular file."""
    with _open_regular(path) as file:
        return file.read(most)


def read_at_once(path: Path) -> bytes:
    """Return what is in a file, or in a pipe that somebody writes to; nothing where nobody does. Raises OSError."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
        os.set_blocking(file.fileno(), True)
        return file.read()


def _open_regular(path: Path, also: int = 0) -> BinaryIO:
    # Without O_NONBLOCK a named pipe that nobody writes to would be waited for without end, and without a word.
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | also), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return file


def replace(path: Path, data: bytes, mode: int = PRIVATE_FILE) -> None:
    """Make `data` the content of a file of the state, durably and atomically.

    A temporary file, `path` with `.new` behind it, is written and synced, then renamed, and the folder synced. Raises
    OSError when nothing changed, its subclass NotSynced when the new content is in place but may not survive.
    """
    _replace(path, path.with_name(path.name + TEMPORARY_SUFFIX), data, mode, None)


def save(path: Path, data: bytes, mode: int = PRIVATE_FILE, *, owner: tuple[int, int] | None = None) -> None:
    """Make `data` the content of a file that somebody named, as `replace` does, and touch nothing else of theirs.

    The file is this process's user's, or belongs to `owner` (uid, gid) where that is given. Raises as `replace`, and
    OSError where `unfit` says something.
    """
    reason = unfit(path)
    if reason is not None:
        raise OSError(errno.EINVAL, f"it {reason}", str(path))
    temporary = hidden_beside(path)
    try:
        _replace(path, temporary, data, mode, owner)
    except KeyboardInterrupt:
        temporary.unlink(missing_ok=True)
        raise


def unfit(path: Path) -> str | None:
    """Return what is wrong with `path` as a file to be written: "is a link: …". None where nothing is.

    A rename would put a file in the place of /dev/stdout, which is a link, as it would in that of any other.
    """
    try:
        mode = path.lstat().st_mode
    except OSError:
        return None  # it isn't there, or writing will tell
    if stat.S_ISLNK(mode):
        return "is a link: name the file itself"
    if stat.S_ISDIR(mode):
        return "is a folder: name a file in it"
    return None if stat.S_ISREG(mode) else "is no ordinary file"


def hidden_beside(path: Path) -> Path:
    """Return a name beside `path` that is nobody's: a file of it is renamed when it is whole."""
    return path.with_name(f".secretsctl-{secrets.token_hex(8)}.new")


def _replace(path: Path, temporary: Path, data: bytes, mode: int, owner: tuple[int, int] | None) -> None:
    try:
        with naming(path):
            try:
                descriptor = os.open(temporary, _NEW, PRIVATE_FILE)
            except FileExistsError:
                temporary.unlink()
                descriptor = os.open(temporary, _NEW, PRIVATE_FILE)
            try:
                write_all(descriptor, data)
                # Only now: what an interrupted write leaves is nobody else's to read.
                if owner is not None:
                    os.fchown(descriptor, *owner)
                if mode != PRIVATE_FILE:
                    os.fchmod(descriptor, mode)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    try:
        sync_folder(path.parent)
    except OSError as error:
        raise NotSynced(error.errno, error.strerror, str(path.parent)) from error


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let each error name this file: a descriptor's names none, and a temporary file's says nothing to anybody."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`, however the kernel cuts it up."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_folder(path: Path) -> None:
    """Make the folder's entries durable. Raises OSError."""
    with naming(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def entry(path: Path) -> Path:
    """Return `path` with the links and `..` before its last part followed; a link at its end is what is replaced."""
    return Path(os.path.realpath(path.parent)) / path.name


def make_folder(path: Path) -> None:
    """Make the folder, 0700, and its parents, 0755; what exists is left as it is. Raises OSError."""
    if path.is_dir():
        return
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)


def give_to_owner_of(reference: Path, *paths: Path) -> None:
    """Where root works, let the files belong to whom `reference` belongs: the daemon's user. Raises OSError."""
    if os.geteuid() != 0:
        return
    owner = reference.stat()
    for path in paths:
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)

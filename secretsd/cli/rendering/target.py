"""The file that a template becomes: staged beside it, put in place at once, taken back where a check says no.

Beside FILE lie, hidden from the globs of configurations: `.FILE.new` (staged), `.FILE.old` (what was there, until a
check of the file in place has passed), `.FILE.secretsctl.json`, the note of what was acted on last, and
`.FILE.secretsctl.lock`, for there is one keeper of a file. The note holds names, kids and versions, never values.
"""

from __future__ import annotations

import contextlib
import fcntl
import grp
import os
import pwd
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from secretsd import files
from secretsd.cli.errors import Failed
from secretsd.cli.running.folder import Delivered

_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


class Note(msgspec.Struct, frozen=True):
    """What the file in force was made of. `owed`: the reload that is to follow hasn't succeeded yet."""

    secrets: dict[str, Delivered] = {}
    owed: bool = True


@dataclass(frozen=True)
class Access:
    """Who may use the file. `owner` None: who runs this."""

    mode: int = files.PRIVATE_FILE
    owner: tuple[int, int] | None = None


class Target:
    """One file. What its methods raise is Failed."""

    def __init__(self, path: Path, access: Access) -> None:
        self.path = path
        self._access = access
        self.staged = path.with_name(f".{path.name}.new")
        self._old = path.with_name(f".{path.name}.old")
        self._note = path.with_name(f".{path.name}.secretsctl.json")
        self._lock_path = path.with_name(f".{path.name}.secretsctl.lock")
        self._lock: int | None = None
        self._is_placed = False

    def open(self) -> Note:
        """Return what was acted on last; a file that no check has passed before a crash is taken back first.

        Until `close` nobody else can open it.
        """
        try:
            self._take_lock()
            if self.path.is_symlink() or (self.path.exists() and not self.path.is_file()):
                raise Failed(f"{self.path} is no plain file: name the file itself")
            if self._old.exists():
                self._old.replace(self.path)
            self.staged.unlink(missing_ok=True)
        except OSError as error:
            raise self._failed("used", error) from None
        return self._remembered()

    def _take_lock(self) -> None:
        """Keep others from taking a file back whose check is under way here."""
        if self._lock is not None:
            return
        descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, files.PRIVATE_FILE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if not isinstance(error, BlockingIOError):
                raise
        else:
            self._lock = descriptor
            return
        raise Failed(
            f"another `secretsctl template` keeps {self.path}", hint="SIGHUP lets that one read its templates anew"
        )

    def close(self) -> None:
        """Let others open it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _remembered(self) -> Note:
        try:
            return msgspec.json.decode(files.read_private(self._note), type=Note)
        except FileNotFoundError:
            return Note()
        except (OSError, files.ReadableByOthers) as error:
            reason = str(error)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            reason = "it isn't a note of this command"
        raise Failed(f"{self._note} can't be used: {reason}", hint=f"look at it, then remove it: rm {self._note}")

    def remember(self, note: Note) -> None:
        """Note what was acted on, durably."""
        try:
            files.replace(self._note, msgspec.json.encode(note))
        except OSError as error:
            raise self._failed("noted", error) from None

    def holds(self, data: bytes) -> bool:
        """Tell whether the file is there with this content, and open to whom it should be."""
        try:
            found = self.path.stat()
            owner = self._access.owner or (found.st_uid, found.st_gid)
            fits = stat.S_IMODE(found.st_mode) == self._access.mode and (found.st_uid, found.st_gid) == owner
            return fits and self.path.read_bytes() == data
        except OSError:
            return False

    def stage(self, data: bytes) -> None:
        """Write what the file is to become beside it, durably."""
        self._is_placed = False
        try:
            self.staged.unlink(missing_ok=True)
            descriptor = os.open(self.staged, _NEW, files.PRIVATE_FILE)
            try:
                if self._access.owner is not None:
                    os.fchown(descriptor, *self._access.owner)
                os.fchmod(descriptor, self._access.mode)
                files.write_all(descriptor, data)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            self.discard()
            raise self._failed("written", error) from None

    def discard(self) -> None:
        """Drop what was staged."""
        with contextlib.suppress(OSError):
            self.staged.unlink(missing_ok=True)

    def place(self) -> None:
        """Put what was staged in place of the file, at once and durably; what was there is kept until `accept`."""
        try:
            self._old.unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):
                os.link(self.path, self._old)
            self.staged.replace(self.path)
            self._is_placed = True
            files.sync_folder(self.path.parent)
        except OSError as error:
            raise self._failed("replaced", error) from None

    def take_back(self) -> None:
        """Bring back what was in place before; where nothing was, nothing is."""
        if not self._is_placed:
            self.accept()
            return
        try:
            if self._old.exists():
                self._old.replace(self.path)
            else:
                self.path.unlink(missing_ok=True)
            files.sync_folder(self.path.parent)
        except OSError as error:
            raise self._failed("brought back", error) from None

    def accept(self) -> None:
        """Let what is in place stay."""
        with contextlib.suppress(OSError):
            self._old.unlink(missing_ok=True)

    def _failed(self, done: str, error: OSError) -> Failed:
        return Failed(f"{self.path} can't be {done}: {error.strerror}")


def parse_mode(text: str) -> int:
    """Return the mode that octal digits stand for. Raises ValueError."""
    if not re.fullmatch("[0-7]{3,4}", text):
        raise ValueError('a mode is three or four octal digits, such as "0640"')
    mode = int(text, 8)
    if mode & ~0o666 or not mode & 0o400:
        raise ValueError("a mode gives its owner reading, and nobody execution")
    return mode


def parse_owner(text: str) -> tuple[int, int]:
    """Return uid and gid of "USER", "USER:GROUP" or ":GROUP", by name or number. Raises ValueError."""
    user, colon, group = text.partition(":")
    try:
        if not user:
            uid, own = os.geteuid(), os.getegid()
        elif user.isdecimal():
            uid, own = int(user), os.getegid()
        else:
            found = pwd.getpwnam(user)
            uid, own = found.pw_uid, found.pw_gid
        if not colon:
            return uid, own
        return uid, int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise ValueError("there is no such user or group here") from None

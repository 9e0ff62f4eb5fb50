"""The folder of `run --files`: each secret a file of its name, replaced at once, and a note of what is there.

The note, `.secretsctl-run.json`, holds names, kids and versions, never values. It lies beside the files, so it is
there exactly as long as they are. By it the next run knows which files are ours and what has changed meanwhile.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from secretsd_client import Secret

from secretsd import files
from secretsd.cli.errors import Failed
from secretsd.model import is_name

NOTE: Final = ".secretsctl-run.json"
_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})


class Delivered(msgspec.Struct, frozen=True):
    """The version of a secret that was acted on last."""

    kid: str
    version: int


@dataclass(frozen=True)
class Difference:
    """What has become of a secret since it was acted on last. None: there was, or is, none."""

    name: str
    before: int | None
    after: int | None

    def __str__(self) -> str:
        if self.after is None:
            return f"{self.name} (removed)"
        return f"{self.name} (version {self.after})"


def filesystem(device: int, mountinfo: str) -> str | None:
    """Return the type of the file system with this device number, of /proc/self/mountinfo (proc(5))."""
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in mountinfo.splitlines():
        fields, _, mount = line.partition(" - ")
        if fields.split()[2:3] == [number]:
            return mount.split()[0]
    return None


class Folder:
    """A private folder of files. What it raises is Failed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(cls, path: Path, *, on_disk: bool, mountinfo: Path = Path("/proc/self/mountinfo")) -> Folder:
        """Return the folder, made 0700 if it isn't there. Refuses one that others may enter, or that is on a disk."""
        try:
            files.make_folder(path)
            found = path.stat()
            kind = filesystem(found.st_dev, mountinfo.read_text())
        except OSError as error:
            raise Failed(f"{path} can't be used: {error.strerror}") from None
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise Failed(
                f"{path} isn't private: secrets' files need a folder of the user who runs this, mode 0700",
                hint=f"take another folder, or run `chmod 700 {shlex.quote(str(path))}`"
                if _is_free(path, found)
                else "take another folder, one for this alone: /dev/shm/NAME or below /run (RuntimeDirectory=)",
            )
        if kind not in _IN_MEMORY and not on_disk:
            raise Failed(
                f"{path} is on a disk ({kind or 'unknown file system'}): values would be written to it",
                hint="take a folder below /dev/shm or /run (for systemd: RuntimeDirectory=); --on-disk allows it",
            )
        return cls(path)

    def remembered(self) -> dict[str, Delivered]:
        """Return what was acted on last, nothing where there is no note. Refuses one that isn't a note of ours."""
        note = self.path / NOTE
        try:
            known = msgspec.json.decode(files.read_private(note), type=dict[str, Delivered])
        except FileNotFoundError:
            return {}
        except (OSError, files.ReadableByOthers) as error:
            raise Failed(f"{note} can't be read: {error}") from None
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            known = {"": Delivered("", 0)}
        if not all(map(is_name, known)):  # names become paths of files that may be removed
            raise Failed(f"{note} isn't a note of this command", hint=f"look at it, then remove it: rm {note}")
        return known

    def update(self, secrets: Iterable[Secret]) -> None:
        """Make each secret's value the content of its file, atomically, 0600."""
        for secret in secrets:
            self._replace(secret.name, secret.data)

    def remove(self, names: Iterable[str]) -> None:
        """Take files away that are no longer asked for, or whose secret is deleted."""
        for name in names:
            try:
                (self.path / name).unlink(missing_ok=True)
            except OSError as error:
                raise Failed(f"{self.path / name} can't be removed: {error.strerror}") from None

    def remember(self, delivered: Mapping[str, Delivered]) -> None:
        """Note what was acted on."""
        self._replace(NOTE, msgspec.json.encode(dict(sorted(delivered.items()))))

    def _replace(self, name: str, data: bytes) -> None:
        try:
            files.save(self.path / name, data)
        except OSError as error:
            raise Failed(f"{self.path / name} can't be written: {error.strerror}") from None


def _is_free(path: Path, found: os.stat_result) -> bool:
    """Tell whether nobody else can need the folder: to be told to close /dev/shm or /tmp would harm every service."""
    if found.st_uid != os.geteuid() or found.st_mode & stat.S_ISVTX:
        return False
    try:
        return next(path.iterdir(), None) is None
    except OSError:
        return False


def differences(before: Mapping[str, Delivered], now: Mapping[str, Delivered]) -> list[Difference]:
    """Return what is new, changed or gone, by name."""
    return [
        Difference(name, before[name].version if name in before else None, now[name].version if name in now else None)
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]

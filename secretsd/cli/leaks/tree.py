"""The files below a path, and the git repositories among them. Nothing is followed out of it."""

from __future__ import annotations

import fnmatch
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

CHUNK_BYTES: Final = 1024 * 1024
_OF_THE_KERNEL: Final = frozenset({"/proc", "/sys", "/dev"})


@dataclass
class Skipped:
    """What was not looked into: by intent, or because it could not be read."""

    symlinks: int = 0
    special: int = 0
    """Sockets, pipes, devices."""
    excluded: int = 0
    unreadable: list[str] = field(default_factory=list)
    """Paths with the reason: nothing is proven about these."""

    def failed(self, path: str | Path, error: OSError) -> None:
        """Note a path that can't be read."""
        self.unreadable.append(f"{path}: {error.strerror or 'can not be read'}")


@dataclass
class Tree:
    """A walk below `root`; `git_folders`, `checkouts` and `skipped` fill while `files` is gone through."""

    root: Path
    exclude: Sequence[str] = ()
    skipped: Skipped = field(default_factory=Skipped)
    git_folders: list[Path] = field(default_factory=list)
    checkouts: list[Path] = field(default_factory=list)
    """Folders whose `.git` is a file that points to a git folder elsewhere: worktrees and submodules."""

    def files(self) -> Iterator[Path]:
        """Yield the ordinary files, in the order of their names; of a git folder all but its object store."""
        try:
            mode = self.root.stat().st_mode
        except OSError as error:
            self.skipped.failed(self.root, error)
            return
        if stat.S_ISREG(mode):
            yield self.root
        elif stat.S_ISDIR(mode):
            yield from self._below(self.root)
        else:
            self.skipped.special += 1

    def _below(self, root: Path) -> Iterator[Path]:
        waiting = [root]
        while waiting:
            folder = waiting.pop()
            try:
                with os.scandir(folder) as scan:
                    entries = sorted(scan, key=lambda one: one.name)
            except OSError as error:
                self.skipped.failed(folder, error)
                continue
            if {"HEAD", "objects", "refs"} <= {one.name for one in entries}:
                self.git_folders.append(folder)
                # Its objects are compressed: git itself is asked for what is in them.
                entries = [one for one in entries if one.name != "objects"]
            if any(one.name == ".git" and one.is_file(follow_symlinks=False) for one in entries):
                self.checkouts.append(folder)
            wanted = [one for one in entries if self._wanted(one)]
            yield from (Path(one.path) for one in wanted if one.is_file(follow_symlinks=False))
            waiting.extend(Path(one.path) for one in reversed(wanted) if one.is_dir(follow_symlinks=False))

    def _wanted(self, entry: os.DirEntry[str]) -> bool:
        """Tell whether an entry is looked into; count it where it isn't."""
        if self._excluded(entry):
            self.skipped.excluded += 1
        elif entry.is_symlink():
            self.skipped.symlinks += 1
        elif entry.is_dir(follow_symlinks=False):
            return entry.path not in _OF_THE_KERNEL
        elif entry.is_file(follow_symlinks=False):
            return True
        else:
            self.skipped.special += 1
        return False

    def _excluded(self, entry: os.DirEntry[str]) -> bool:
        below = os.path.relpath(entry.path, self.root)
        return any(fnmatch.fnmatchcase(entry.name, one) or fnmatch.fnmatchcase(below, one) for one in self.exclude)


def chunks(path: Path) -> Iterator[bytes]:
    """Yield a file's bytes, however many, a mebibyte at a time. Raises OSError; a link put in its place isn't followed.

    A file that shrinks or grows meanwhile is read as far as it goes.
    """
    # O_NONBLOCK: a pipe put in its place must not hold everything up.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk

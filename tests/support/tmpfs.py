"""A small disk of its own for a folder, so that it can be full."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

PAGE_BYTES = 4096


class SmallDisk:
    """A tmpfs mounted at `folder` (made if it is missing). A context manager; leaving unmounts it."""

    def __init__(self, folder: Path, size_kib: int) -> None:
        self.folder = folder
        self._size_kib = size_kib
        self._ballast = folder / "ballast"

    def __enter__(self) -> Self:
        self.folder.mkdir(mode=0o700, exist_ok=True)
        options = f"size={self._size_kib}k,mode=700"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(self.folder)], check=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)

    def fill(self) -> None:
        """Take all space that is left. What a file has begun of a page stays its own."""
        with self._ballast.open("ab", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(bytes(PAGE_BYTES))
            except OSError:
                return

    def free(self) -> None:
        """Give the space back."""
        self._ballast.unlink(missing_ok=True)


def why_not() -> str | None:
    """Return why no small disk can be had here, None where it can."""
    if os.geteuid() != 0:
        return "mounting a tmpfs needs root"
    tried = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "-o", "size=64k", "none", "/mnt"],
        capture_output=True,
        text=True,
        check=False,
    )
    return None if tried.returncode == 0 else f"no tmpfs can be mounted here: {tried.stderr.strip()}"

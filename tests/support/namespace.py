"""A network of its own, with nothing but loopback, for programs that name a fixed port."""

from __future__ import annotations

import shutil
import subprocess
from types import TracebackType
from typing import Self


class Namespace:
    """User and network namespaces that live as long as the context; `prefix` puts a command into them."""

    def __enter__(self) -> Self:
        self._keeper = subprocess.Popen(
            ["unshare", "-rn", "sh", "-c", "ip link set lo up && echo ready && exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._keeper.stdout is not None
        assert self._keeper.stdout.readline() == b"ready\n"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._keeper.communicate()

    @property
    def prefix(self) -> list[str]:
        """What comes before a command that is to run inside."""
        return ["nsenter", f"--target={self._keeper.pid}", "--user", "--net", "--preserve-credentials"]


def available() -> bool:
    """Tell whether this machine lets us make such a namespace."""
    if not all(map(shutil.which, ("unshare", "nsenter", "ip"))):
        return False
    tried = subprocess.run(["unshare", "-rn", "ip", "link", "set", "lo", "up"], capture_output=True, check=False)
    return tried.returncode == 0

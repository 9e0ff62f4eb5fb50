"""Says which versions are in use, once their callbacks have run: in the background, never in a reader's way.

The daemon keeps a superseded version for whom it knows to use it (docs/consumers.md). What can't be said now is said
later, and of each name only the newest.
"""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass

from secretsd_client._daemon import Daemon
from secretsd_client._errors import SecretsError, SecretsUnavailable
from secretsd_client._model import Secret

_GATHER_SECS = 0.05
"""Several names that changed together are said one after another on one connection."""
_PAUSE_FIRST = 0.5
_PAUSE_MOST = 30.0


@dataclass
class _Running:
    callbacks: int
    failed: bool = False


class Acknowledgements:
    """What is to be said. Used on the client's loop; `run` says it."""

    def __init__(self, daemon: Daemon, counts: Counter[str]) -> None:
        self._daemon = daemon
        self._counts = counts
        self._running: dict[tuple[str, str], _Running] = {}
        self._wanted: dict[str, str] = {}
        self._said: dict[str, str] = {}
        self._wake = asyncio.Event()

    def began(self, secret: Secret, callbacks: int) -> None:
        """Note that so many callbacks are about to be told of this version, besides those that are being told."""
        self._running.setdefault((secret.name, secret.kid), _Running(0)).callbacks += callbacks

    def ran(self, name: str, kid: str, *, failed: bool) -> None:
        """Note that one of them has run; after the last the version is in use, unless one failed."""
        running = self._running.get((name, kid))
        if running is None:
            return
        running.callbacks -= 1
        running.failed |= failed
        if running.callbacks == 0:
            del self._running[name, kid]
            if not running.failed:
                self.in_use(name, kid)

    def in_use(self, name: str, kid: str) -> None:
        """Have it said that this version is in use; nothing is said twice in a row."""
        if self._said.get(name) == kid:
            self._wanted.pop(name, None)
            return
        self._wanted[name] = kid
        self._wake.set()

    async def run(self) -> None:
        """Say what is to be said, for ever. Who can't be asked is asked again; who refuses isn't."""
        pause = 0.0
        while True:
            await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(max(_GATHER_SECS, pause * (0.5 + random.random() / 2)))  # noqa: S311 - out of step, no secret
            try:
                await self._say_all()
                pause = 0.0
            except SecretsUnavailable:
                pause = min(_PAUSE_MOST, max(_PAUSE_FIRST, pause * 2))
                self._wake.set()

    async def _say_all(self) -> None:
        for name, kid in list(self._wanted.items()):
            try:
                await self._daemon.acknowledge(name, kid)
            except SecretsUnavailable:
                raise
            except SecretsError:
                pass  # the version is gone, or may not be read any more, or the daemon is an older one
            else:
                self._said[name] = kid
                self._counts["acknowledged"] += 1
            if self._wanted.get(name) == kid:
                del self._wanted[name]

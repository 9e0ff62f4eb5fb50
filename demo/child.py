"""The processes that the try-out starts, and how they end: asked first, then made to, never left behind."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from demo.errors import TryoutError

PATIENCE_SECS = 15.0  # longer than the daemon takes to publish what it owes before it signs off
LAST_LINES = 12


@dataclass(frozen=True)
class Child:
    """A running process and the file that its words go to."""

    name: str
    process: asyncio.subprocess.Process
    log: Path

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.returncode is None

    async def outlive(self) -> None:
        """Wait for its end and raise TryoutError with its last words: none is meant to end by itself."""
        await self.process.wait()
        raise self.died()

    def died(self, advice: str | None = None) -> TryoutError:
        """Make the error that tells about an end that nobody asked for."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        words = "\n".join(f"    {line}" for line in lines[-LAST_LINES:]) or "    (nothing)"
        return TryoutError(
            f"{self.name} ended by itself with status {self.process.returncode}. "
            f"Its last words, from {self.log}:\n{words}\n  "
            + (advice or f"run again; if it dies again, start afresh with: rm -r {self.log.parent}")
        )

    async def stop(self) -> None:
        """Ask it to end, and after a while end it; it is reaped in either case."""
        if self.running:
            self.process.terminate()
        try:
            async with asyncio.timeout(PATIENCE_SECS):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


@asynccontextmanager
async def running(
    name: str,
    argv: Sequence[str | Path],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    talks: bool = False,
) -> AsyncIterator[Child]:
    """Run a child process for the length of a `with`; with `talks` its stdin and stdout are pipes to us.

    It gets a session of its own: Ctrl-C on the terminal is for the try-out alone, which ends its children in
    order. Should the try-out be killed, the kernel ends them (`setpriv`, where there is one).
    """
    tied = [setpriv, "--pdeathsig", "TERM", "--"] if (setpriv := shutil.which("setpriv")) else []
    pipe = asyncio.subprocess.PIPE
    with _log(log) as words:
        process = await asyncio.create_subprocess_exec(
            *tied,
            *argv,
            stdin=pipe if talks else asyncio.subprocess.DEVNULL,
            stdout=pipe if talks else words,
            stderr=words,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
    child = Child(name, process, log)
    try:
        yield child
    finally:
        await child.stop()


def _log(path: Path) -> BinaryIO:
    return open(path, "ab", opener=lambda name, flags: os.open(name, flags, 0o600))

"""The child process: started with secrets in its environment, signalled, ended, its status."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from typing import Final, Self

from secretsd.cli.errors import Failed

PASSED_ON: Final = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
    signal.SIGCONT,
)
_FROM_THE_TERMINAL: Final = frozenset({signal.SIGINT, signal.SIGQUIT, signal.SIGWINCH})


class CannotStart(Failed):
    """The command can't be executed. The exit codes are those of shells and env(1)."""

    exit_code = 126


class CannotFind(CannotStart):
    """There is no such command."""

    exit_code = 127


class Child:
    """One run of the command."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.ended: asyncio.Task[int] = asyncio.create_task(self._wait())

    @classmethod
    async def start(cls, command: Sequence[str], environment: Mapping[bytes, bytes]) -> Self:
        """Start it, with our own standard streams. Raises CannotStart.

        It stays in our process group, so that it may read from the terminal.
        """
        try:
            return cls(await asyncio.create_subprocess_exec(*command, env=environment))
        except OSError as error:
            kind = CannotFind if isinstance(error, FileNotFoundError) else CannotStart
            failed = kind(f"{command[0]} can't be started: {error.strerror}")
        raise failed

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; nothing happens when it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def stop(self, grace_secs: float | None) -> None:
        """End it: SIGTERM, and SIGKILL when it hasn't ended after `grace_secs` (None: never)."""
        self.signal(signal.SIGTERM)
        done, _ = await asyncio.wait({self.ended}, timeout=grace_secs)
        if not done:
            self.signal(signal.SIGKILL)
            await self.ended

    async def _wait(self) -> int:
        """Return the status as a shell gives it: 128 and the number of the signal that ended it."""
        status = await self._process.wait()
        return status if status >= 0 else 128 - status


def at_the_terminal() -> bool:
    """Tell whether we are in the foreground of a terminal, which sends its signals to the child too."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def wanted_signals() -> list[signal.Signals]:
    """Return the signals that are passed on: not those that whoever started us has ignored (nohup)."""
    return [number for number in PASSED_ON if signal.getsignal(number) is not signal.SIG_IGN]


def is_doubled(number: signal.Signals) -> bool:
    """Tell whether the child has had this signal from the terminal itself."""
    return number in _FROM_THE_TERMINAL and at_the_terminal()

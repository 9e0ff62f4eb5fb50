"""Living under make."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Literal

PERIOD_SECS = 0.5


def was_interrupted(status: str, number: signal.Signals = signal.SIGINT) -> bool:
    """Whether a process whose `/proc/PID/status` this is sits in its handler for the signal.

    There the signal is blocked, and GNU make has put back its default action.
    """
    masks = dict(line.split(":\t", 1) for line in status.splitlines() if line.startswith(("SigBlk", "SigCgt")))
    bit = 1 << (number - 1)
    return bool(int(masks["SigBlk"], 16) & bit) and not int(masks["SigCgt"], 16) & bit


def our_make() -> Path | None:
    """Return the `/proc/PID/status` of the make that started us, if one did."""
    status = Path(f"/proc/{os.getppid()}/status")
    if "MAKELEVEL" not in os.environ or not status.exists():
        return None
    return status if status.read_text().startswith("Name:\tmake\n") else None


async def follow(status: Path, stop: Callable[[], object]) -> None:
    """Call `stop` once when our make was interrupted alone.

    Ctrl-C reaches make and us alike. But with `kill -INT` of make's process alone, make waits for us for ever
    without a word: it counts on the terminal to have told us.
    """
    while not (ended := _ended(status)):  # noqa: ASYNC110 - another process's state sets no event of ours
        await asyncio.sleep(PERIOD_SECS)
    if ended == "interrupted":
        stop()


def _ended(status: Path) -> Literal["interrupted", "gone"] | None:
    try:
        return "interrupted" if was_interrupted(status.read_text()) else None
    except FileNotFoundError:  # and nobody waits
        return "gone"

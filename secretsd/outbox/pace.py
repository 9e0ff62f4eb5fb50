"""When the audit backlog may go on: requests and changes come first, yet it never stands still for good. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

SLICE: Final = 16
"""Events published without a look at who else waits: about a millisecond of the event loop."""
REST_SECONDS: Final = 0.05
"""How long the backlog steps aside at most. So it takes some hundredths of a loop that is never idle."""


class Pace:
    """Lets a slice go, and the next one when nobody waits for an audit line, at the latest after a rest."""

    def __init__(self, somebody_waits: Callable[[], bool]) -> None:
        self._somebody_waits = somebody_waits
        self._gone = 0
        self._rested_at = 0.0

    def rest(self, now_seconds: float) -> float:
        """Return the seconds that the backlog has to wait yet; 0: it may go on."""
        if self._gone < SLICE:
            return 0.0
        left = self._rested_at - now_seconds
        if left > 0 and self._somebody_waits():
            return left
        self._gone = 0
        return 0.0

    def went(self, now_seconds: float) -> None:
        """Note one event published."""
        self._gone += 1
        if self._gone == SLICE:
            self._rested_at = now_seconds + REST_SECONDS

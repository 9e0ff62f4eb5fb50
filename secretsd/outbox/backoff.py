"""How long to wait before the broker is asked again. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

FIRST_SECONDS: Final = 0.2
MOST_SECONDS: Final = 5.0
HELD_SECONDS: Final = 5.0
"""A connection that ends before is as good as none: a broker that takes and ends each must not be kept busy."""


class Backoff:
    """Longer and longer, from the beginning again after a connection that held."""

    def __init__(self, spread: Callable[[float, float], float]) -> None:
        """`spread` is random between its arguments: several daemons needn't ask at once."""
        self._spread = spread
        self._pause = FIRST_SECONDS

    def next(self, held_seconds: float) -> float:
        """Return the seconds to wait after a connection that stood for `held_seconds`, 0 for one that never did."""
        if held_seconds >= HELD_SECONDS:
            self._pause = FIRST_SECONDS
        pause, self._pause = self._pause, min(self._pause * 2, MOST_SECONDS)
        return pause * self._spread(0.5, 1.0)

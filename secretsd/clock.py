"""Time as an argument: what asks for the time is given a clock."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from typing import Final, Protocol

DAY_MS: Final = 86_400_000
JUMP_MS: Final = 60_000
"""How far wall clock and elapsed time may part between two looks; NTP slews far less."""
SETTLING_MS: Final = 300_000


class Clock(Protocol):
    """Wall time for what is written down, elapsed time for what is measured."""

    def now_ms(self) -> int:
        """Return the wall clock, in milliseconds since the epoch (UTC)."""

    def elapsed_ms(self) -> int:
        """Return milliseconds since some fixed moment; never set back, and running on while the machine sleeps."""


class SystemClock:
    """The machine's clocks."""

    def now_ms(self) -> int:
        """Return CLOCK_REALTIME in milliseconds."""
        return time.time_ns() // 1_000_000

    def elapsed_ms(self) -> int:
        """Return CLOCK_BOOTTIME in milliseconds: unlike CLOCK_MONOTONIC it counts the time asleep."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


class ClockGuard:
    """Tells when the wall clock can't be trusted; then nothing scheduled happens. Pure but for the clock it is given.

    It is in doubt after a jump against the elapsed time, and from the start where the last audit line is from another
    day than the clock says. The doubt ends when the clock comes back, or when the kernel calls it synchronised:
    after the last jump not before SETTLING_MS, since whoever set the clock may not have been NTP.
    """

    def __init__(self, clock: Clock, synchronised: Callable[[], bool]) -> None:
        self._clock = clock
        self._synchronised = synchronised
        self._offset = clock.now_ms() - clock.elapsed_ms()
        self._jumped_at: int | None = None
        self._told = 0
        """By how much it jumped, as `doubt` has it."""
        self._unproven: str | None = None
        """The doubt from the start, which a jump forth and back doesn't end."""
        self.doubt: str | None = None

    def compare(self, last_line_ms: int) -> None:
        """Weigh the clock against the time of the newest audit line, at start."""
        ahead = self._clock.now_ms() - last_line_ms
        if (ahead > DAY_MS or ahead < -JUMP_MS) and not self._synchronised():
            self.doubt = self._unproven = (
                f"the clock is {abs(ahead) // 60_000} min {'past' if ahead > 0 else 'before'} the last audit line and "
                "not synchronised: start NTP; nothing scheduled happens"
            )

    def check(self) -> bool:
        """Look at the clock; return whether it can be trusted. To be called every second or so."""
        offset = self._clock.now_ms() - self._clock.elapsed_ms()
        moved = offset - self._offset
        if abs(moved) > JUMP_MS:
            # It may jump again. Lesser moves leave the words as they are: who is shown them would be told each second.
            if self._jumped_at is None or abs(moved - self._told) > JUMP_MS:
                self._jumped_at, self._told = self._clock.elapsed_ms(), moved
                self.doubt = (
                    f"the clock jumped by {moved // 1000} s: set it right or let NTP do it; scheduled rotations wait. "
                    "A restart accepts it where it is within a day of the last audit line"
                )
        elif self._jumped_at is not None:
            self._jumped_at, self._offset, self.doubt = None, offset, self._unproven
        else:
            # Slewing and drift are followed, so that only a sudden move counts.
            self._offset = offset
        if self.doubt is not None and self._synchronised() and self._settled():
            self._trust(offset)
        return self.doubt is None

    def _settled(self) -> bool:
        return self._jumped_at is None or self._clock.elapsed_ms() - self._jumped_at >= SETTLING_MS

    def _trust(self, offset: int) -> None:
        self._offset = offset
        self._jumped_at = None
        self._unproven = None
        self.doubt = None


def kernel_synchronised() -> bool:
    """Tell whether the kernel calls its clock synchronised (adjtimex(2) answers other than TIME_ERROR)."""
    unsynchronised = 5
    try:
        return int(ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(256))) not in {
            -1,
            unsynchronised,
        }
    except (OSError, AttributeError):
        return False

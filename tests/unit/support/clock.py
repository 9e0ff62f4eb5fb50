"""A clock that stands until it is moved."""

from __future__ import annotations

from secretsd.clock import ClockGuard

START_MS = 1_795_453_200_000
"""2026-11-23T17:00:00Z."""

SECOND_MS = 1000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000


class FakeClock:
    """Wall clock and elapsed time, moved together (`advance`) or apart (`jump`)."""

    def __init__(self, now_ms: int = START_MS) -> None:
        self._now_ms = now_ms
        self._elapsed_ms = 5_000

    def now_ms(self) -> int:
        return self._now_ms

    def elapsed_ms(self) -> int:
        return self._elapsed_ms

    def advance(self, milliseconds: int) -> None:
        """Let time pass."""
        self._now_ms += milliseconds
        self._elapsed_ms += milliseconds

    def advance_to(self, instant_ms: int) -> None:
        """Let time pass until `instant_ms`, which must lie ahead."""
        assert instant_ms >= self._now_ms
        self.advance(instant_ms - self._now_ms)

    def jump(self, milliseconds: int) -> None:
        """Set the wall clock forth or back; no time passes."""
        self._now_ms += milliseconds


class Sync:
    """What the kernel says of its clock."""

    def __init__(self, *, synchronised: bool = False) -> None:
        self.synchronised = synchronised

    def __call__(self) -> bool:
        return self.synchronised


def guard(clock: FakeClock, sync: Sync | None = None) -> ClockGuard:
    """Return a guard over `clock`, by default on a machine that was never synchronised."""
    return ClockGuard(clock, sync or Sync())

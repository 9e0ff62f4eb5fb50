"""How many refusals and rotations there were, counted from the log's lines, each once. Pure.

The counts are kept beside the cursors of the bus, so that they go on over a restart: a counter that Home Assistant
reads must not fall, and what happened while it was away shows in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from secretsd.outbox.lane import Line

HOUR_MS: Final = 3_600_000
_DAY_HOURS: Final = 24
_REFUSALS: Final = frozenset({"access.denied", "access.failed"})


class Hour(Struct, frozen=True):
    """What fell into one hour, numbered from the epoch."""

    hour: int
    denials: int = 0
    rotations: int = 0


class _Counted(Struct, frozen=True):
    count: int = 1


class _Line(Struct, frozen=True):
    data: _Counted


class Tally(Struct, frozen=True):
    """Counts up to the line `seen`; None before there was one, and then nothing older is counted."""

    seen: int | None = None
    denials: int = 0
    rotations: int = 0
    hours: tuple[Hour, ...] = ()

    def beginning_at(self, sequence: int) -> Tally:
        """Return a tally that can follow a log whose newest line is `sequence`."""
        return self if self.seen is not None and self.seen <= sequence else replace(self, seen=sequence)

    def followed(self, lines: Iterable[Line], now_ms: int) -> Tally:
        """Return the tally with the lines counted that come next in the log; others are left to be read later."""
        seen, denials, rotations = self.seen, 0, 0
        for line in lines:
            if seen is not None and line.sequence == seen + 1:
                seen = line.sequence
                denials += _refusals(line)
                rotations += line.type == "secret.rotated"
        if not denials and not rotations:
            return self if seen == self.seen else replace(self, seen=seen)
        return Tally(seen, self.denials + denials, self.rotations + rotations, self._hours(now_ms, denials, rotations))

    def recent(self, now_ms: int) -> Hour:
        """Return the sums of the running hour and the 23 before."""
        hours = [hour for hour in self.hours if hour.hour > now_ms // HOUR_MS - _DAY_HOURS]
        return Hour(now_ms // HOUR_MS, sum(hour.denials for hour in hours), sum(hour.rotations for hour in hours))

    def _hours(self, now_ms: int, denials: int, rotations: int) -> tuple[Hour, ...]:
        running = now_ms // HOUR_MS
        past = [hour for hour in self.hours if running - _DAY_HOURS < hour.hour < running]
        now = next((hour for hour in self.hours if hour.hour == running), Hour(running))
        return (*past, Hour(running, now.denials + denials, now.rotations + rotations))


def _refusals(line: Line) -> int:
    # One line can stand for many (docs/adr/0016-refusals-are-folded.md).
    return msgspec.json.decode(line.raw, type=_Line).data.count if line.type in _REFUSALS else 0

"""Maintenance windows: when a rotation may happen by itself (docs/rotation.md)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final

from secretsd.model import NEVER_MS
from secretsd.policy.zones import DEFAULT_ZONE, instant_ms, zone

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES: Final = 24 * 60
_AHEAD_DAYS: Final = 15
"""Within which every window opens: a weekly one may be skipped once, where the clocks are put forward over it."""


@dataclass(frozen=True, slots=True)
class Window:
    """The time from `start` to `end`, minutes after midnight on the clocks of `zone`, on `days` (0 is Monday).

    An end that isn't after the start is on the day after. `label` is how people call it.
    """

    days: frozenset[int]
    start: int
    end: int
    zone: str = DEFAULT_ZONE
    label: str = ""

    def next_open(self, instant: int) -> int:
        """Return the first instant from `instant` (epoch ms) on at which the window is open, NEVER_MS for none."""
        try:
            today = datetime.fromtimestamp(instant / 1000, UTC).astimezone(zone(self.zone)).toordinal()
            for ordinal in range(today - 1, today + _AHEAD_DAYS):
                opens, closes = _span(self, ordinal)
                if instant < closes and opens < closes:
                    return max(instant, opens)
        except (OverflowError, ValueError):
            pass
        return NEVER_MS


def described(days: frozenset[int], start: int, end: int, zone_name: str) -> str:
    """Return what a window without a name is called: "sat, sun 02:00-04:00 Europe/Berlin"."""
    when = "" if len(days) == len(DAYS) else ", ".join(DAYS[day] for day in sorted(days)) + " "
    return f"{when}{_clock(start)}-{_clock(end)} {zone_name}"


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


@lru_cache(maxsize=16_384)
def _span(window: Window, ordinal: int) -> tuple[int, int]:
    """Return when the window opens on a day and when it has closed, which is no later where it doesn't open."""
    day = date.fromordinal(ordinal)
    if day.weekday() not in window.days:
        return 0, 0
    opens = _at(day, window.start, window.zone, fold=0)
    closes = _at(day + timedelta(days=window.end <= window.start), window.end, window.zone, fold=1)
    return opens, closes


def _at(day: date, minutes: int, zone_name: str, *, fold: int) -> int:
    midnight = datetime.combine(day + timedelta(days=minutes // DAY_MINUTES), time())
    return instant_ms(
        midnight.replace(hour=minutes % DAY_MINUTES // 60, minute=minutes % 60, tzinfo=zone(zone_name)), fold=fold
    )

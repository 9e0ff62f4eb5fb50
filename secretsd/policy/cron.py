"""Cron expressions: when a secret is due by the calendar (docs/rotation.md)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from cronsim import CronSim, CronSimError

from secretsd.config.reader import shown
from secretsd.model import NEVER_MS
from secretsd.policy.zones import DEFAULT_ZONE, zone

MINUTE_MS: Final = 60_000
FIELDS: Final = 5
MACROS: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_RANGES: Final = {
    "minute": (0, "0 to 59"),
    "hour": (1, "0 to 23"),
    "day-of-month": (2, "1 to 31 or L"),
    "month": (3, "1 to 12 or JAN to DEC"),
    "day-of-week": (4, "0 to 7 or SUN to SAT"),
}
"""What the library calls each field, where it stands, and what may be in it."""
_SOME_DAY_MS: Final = 1_704_067_200_000
"""2024-01-01, from where an expression has to find an instant, so that the answer is the same every day."""


@dataclass(frozen=True, slots=True)
class Cron:
    """An expression of five fields, minutes to days of the week, on the clocks of `zone`."""

    expression: str
    zone: str = DEFAULT_ZONE

    def after(self, instant_ms: int) -> int:
        """Return the first instant later than `instant_ms` that the expression names, NEVER_MS for none in 50 years.

        Clocks that are put forward or back are taken as Debian's cron takes them: an expression that names hours and
        minutes counts a skipped time when the clocks are put forward and a repeated one the first time; one with `*`
        for either counts real minutes.
        """
        return _after(self, instant_ms - instant_ms % MINUTE_MS)


def parse_cron(text: str, zone_name: str) -> Cron:
    """Return the expression in `text`, macros spelled out. Raises ValueError with what is allowed."""
    expression = " ".join(MACROS.get(text.strip().lower(), text).split())
    if len(expression.split()) != FIELDS:
        raise ValueError('five fields, "minute hour day month weekday", or @daily, @weekly, @monthly and so on')
    cron = Cron(expression, zone_name)
    try:
        if cron.after(_SOME_DAY_MS) == NEVER_MS:
            raise ValueError("a day that comes; no day is like this within fifty years")
    except CronSimError as error:
        raise ValueError(_allowed(expression, str(error))) from None
    return cron


def _allowed(expression: str, said: str) -> str:
    """Return what is allowed in place of the field of `expression` that the library `said` is bad."""
    field = said.removeprefix("Bad ")
    place, span = _RANGES[field]
    given = expression.split()[place]
    try:
        # A day by itself that is bad beside these months is in none of them.
        CronSim(" ".join(given if one == place else "*" for one in range(FIELDS)), datetime(2024, 1, 1, tzinfo=UTC))
    except CronSimError:
        return f"five fields as in crontab(5), for the {field} {span}, not {shown(given)}"
    return f"a day that comes; none of the months has a day {given}"


@lru_cache(maxsize=16_384)
def _after(cron: Cron, minute_ms: int) -> int:
    start = datetime.fromtimestamp(minute_ms / 1000, zone(cron.zone))
    try:
        # Where an hour comes twice the library may name the first one though that has passed.
        for found in CronSim(cron.expression, start):
            instant = round(found.timestamp() * 1000)
            if instant > minute_ms:
                return min(instant, NEVER_MS)
    except (OverflowError, ValueError):
        pass
    return NEVER_MS

"""Time zones by name, and local times as instants where clocks are put forward or back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from secretsd.config.reader import nearest

DEFAULT_ZONE: Final = "UTC"


@lru_cache
def zone(name: str) -> ZoneInfo:
    """Return the zone called `name`, as the tz database has it. Raises ValueError with what is allowed."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        known = available_timezones()
        alike = next((one for one in known if one.casefold() == name.casefold()), None)
        by_place = {one.rpartition("/")[2]: one for one in sorted(known)}
        place = nearest(name.rpartition("/")[2], by_place)
        near = alike or nearest(name, sorted(known)) or (by_place[place] if place else None)
        hint = f"did you mean {near}? " if near else ""
        raise ValueError(f'{hint}allowed: a zone of the tz database, such as "Europe/Berlin" or "UTC"') from None


def instant_ms(local: datetime, *, fold: int) -> int:
    """Return when clocks show `local`, which carries its zone, in epoch ms.

    A time that is skipped stands for the moment at which the clocks are put forward; of a time that comes twice,
    `fold` 0 is the first and 1 the second.
    """
    local = local.replace(fold=fold)
    while local.astimezone(UTC).astimezone(local.tzinfo).replace(fold=fold) != local:
        local += timedelta(minutes=1)
    return round(local.timestamp() * 1000)

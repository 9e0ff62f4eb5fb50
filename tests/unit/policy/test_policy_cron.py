"""When a cron expression comes due, through changes of the clocks; and which ones are refused."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secretsd.errors import PolicyError
from secretsd.model import NEVER_MS
from secretsd.policy import parse
from secretsd.policy.cron import Cron, parse_cron

BERLIN = "Europe/Berlin"


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def instants(expression: str, start: str, count: int) -> list[str]:
    """The next instants on Berlin's clocks, with their offset from UTC."""
    cron, instant, found = Cron(expression, BERLIN), ms(start), []
    for _ in range(count):
        instant = cron.after(instant)
        found.append(datetime.fromtimestamp(instant / 1000, ZoneInfo(BERLIN)).strftime("%m-%d %H:%M%z"))
    return found


@pytest.mark.parametrize(
    ("expression", "start", "expected"),
    [
        ("0 3 1 * *", "2026-02-28T12:00+01:00", ["03-01 03:00+0100", "04-01 03:00+0200"]),
        # The clocks are put forward on March 29: 02:30 is skipped.
        ("30 2 * * *", "2026-03-28T12:00+01:00", ["03-29 03:00+0200", "03-30 02:30+0200"]),
        ("*/30 * * * *", "2026-03-29T01:10+01:00", ["03-29 01:30+0100", "03-29 03:00+0200", "03-29 03:30+0200"]),
        # They are put back on October 25: 02:30 comes twice.
        ("30 2 * * *", "2026-10-24T12:00+02:00", ["10-25 02:30+0200", "10-26 02:30+0100"]),
        ("30 2 * * *", "2026-10-25T02:10+01:00", ["10-26 02:30+0100"]),
        ("*/30 * * * *", "2026-10-25T02:10+02:00", ["10-25 02:30+0200", "10-25 02:00+0100", "10-25 02:30+0100"]),
        ("0 0 L * *", "2028-02-01T00:00+01:00", ["02-29 00:00+0100"]),
        ("0 4 * * MON#1", "2026-11-28T00:00+01:00", ["12-07 04:00+0100"]),
    ],
)
def test_a_schedule_follows_the_clocks_of_its_zone(expression: str, start: str, expected: list[str]) -> None:
    assert instants(expression, start, len(expected)) == expected


@given(
    st.sampled_from(["30 2 * * *", "*/20 * * * *", "0 3 1 * *", "15 1-3 * * 0", "59 23 L * *"]),
    st.sampled_from([BERLIN, "UTC", "Australia/Lord_Howe", "America/New_York"]),
    st.integers(ms("2026-01-01T00:00Z"), ms("2028-01-01T00:00Z")),
)
def test_the_next_instant_is_later_and_nothing_lies_in_between(expression: str, zone: str, start: int) -> None:
    cron = Cron(expression, zone)
    after = cron.after(start)
    assert start < after < start + 40 * 86_400_000
    assert cron.after(after - 1) == after


def test_macros_are_spelled_out() -> None:
    assert parse_cron("@Daily", BERLIN) == Cron("0 0 * * *", BERLIN)


def test_a_schedule_ends_with_the_calendar() -> None:
    assert Cron("0 0 * * *").after(NEVER_MS) == NEVER_MS


def refusal(members: str) -> str:
    with pytest.raises(PolicyError) as caught:
        parse(f"clients: {{}}\nsecrets:\n  report: {{{members}}}\n".encode())
    return str(caught.value)


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        ('rotation_schedule: "0 0 30 2 *"', "a day that comes; none of the months has a day 30"),
        ('rotation_schedule: "0 0 */31 * 1#5"', "no day is like this within fifty years"),
        ('rotation_schedule: "61 * * * *"', 'for the minute 0 to 59, not "61"'),
        ('rotation_schedule: "0 0 32 2 *"', 'for the day-of-month 1 to 31 or L, not "32"'),
        ('rotation_schedule: "0 0 * * MON#6"', 'for the day-of-week 0 to 7 or SUN to SAT, not "MON#6"'),
        ('rotation_schedule: "0 * * * * *"', "five fields"),
        ('rotation_schedule: "@never"', "five fields"),
        ("rotation_schedule: 5", "a cron expression in quotes"),
        ('rotation_schedule: "@daily", rotation_period: 1d', "rotation_period says when too; keep one of the two"),
        ('rotation_schedule: "@daily", rotation_days: 1', "rotation_days says when too; keep one of the two"),
        ('rotation_schedule: "@daily", time_zone: Europe/Berlni', "did you mean Europe/Berlin?"),
        ('rotation_schedule: "@daily", time_zone: europe/berlin', "did you mean Europe/Berlin?"),
        ('rotation_schedule: "@daily", time_zone: Berlin', "did you mean Europe/Berlin?"),
        ('rotation_schedule: "@daily", time_zone: ../../etc/passwd', "unknown zone"),
        ("time_zone: UTC", "there is no rotation_schedule that it is for"),
    ],
)
def test_what_is_no_schedule_is_refused_with_its_line(members: str, complaint: str) -> None:
    said = refusal(members)
    assert "line 3: secrets.report." in said
    assert complaint in said


def test_a_schedule_that_only_announces_is_warned_about() -> None:
    said = parse(b'clients: {a: {}}\nsecrets: {report: {rotation_schedule: "@daily"}}').warnings
    assert any("it rotates by itself with rotation: auto only" in one for one in said)

"""Windows and distances: when they are open, and what a policy may ask for."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secretsd.errors import PolicyError
from secretsd.model import NEVER_MS
from secretsd.policy import Policy, parse
from secretsd.policy.windows import Window, described

BERLIN = "Europe/Berlin"
DAY_MS = 86_400_000
NIGHT = Window(frozenset(range(7)), 120, 180, BERLIN)
WEEKEND = Window(frozenset({4}), 23 * 60, 60, BERLIN)


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def opened(window: Window, at: str) -> str:
    instant = datetime.fromtimestamp(window.next_open(ms(at)) / 1000, ZoneInfo(window.zone))
    return instant.strftime("%m-%d %H:%M%z")


@pytest.mark.parametrize(
    ("window", "at", "expected"),
    [
        (NIGHT, "2026-11-28T01:59:59+01:00", "11-28 02:00+0100"),
        (NIGHT, "2026-11-28T02:30+01:00", "11-28 02:30+0100"),
        (NIGHT, "2026-11-28T03:00+01:00", "11-29 02:00+0100"),
        # Over midnight: Friday's window is open on Saturday.
        (WEEKEND, "2026-11-28T00:59+01:00", "11-28 00:59+0100"),
        (WEEKEND, "2026-11-28T01:00+01:00", "12-04 23:00+0100"),
        # The clocks are put forward over it: it doesn't open on that day.
        (NIGHT, "2026-03-29T00:00+01:00", "03-30 02:00+0200"),
        # They are put back in it: it is open for both of the hours.
        (NIGHT, "2026-10-25T02:59+02:00", "10-25 02:59+0200"),
        (NIGHT, "2026-10-25T02:59+01:00", "10-25 02:59+0100"),
        # It begins in the skipped hour: it opens when the clocks are put forward.
        (Window(frozenset({6}), 150, 240, BERLIN), "2026-03-29T00:00+01:00", "03-29 03:00+0200"),
        (Window(frozenset({5}), 0, 1440, BERLIN), "2026-11-27T12:00+01:00", "11-28 00:00+0100"),
    ],
)
def test_a_window_opens_on_the_clocks_of_its_zone(window: Window, at: str, expected: str) -> None:
    assert opened(window, at) == expected


@given(
    st.frozensets(st.integers(0, 6), min_size=1),
    st.integers(0, 1439),
    st.integers(1, 1440),
    st.sampled_from([BERLIN, "UTC", "Australia/Lord_Howe", "Pacific/Apia"]),
    st.integers(ms("2011-12-01T00:00Z"), ms("2012-12-01T00:00Z")),
)
def test_every_window_opens_within_a_fortnight_and_is_open_then(
    days: frozenset[int], start: int, end: int, zone: str, at: int
) -> None:
    window = Window(days, start, end, zone)
    if start % 1440 == end % 1440:
        return
    opens = window.next_open(at)
    assert at <= opens < at + 15 * DAY_MS
    assert window.next_open(opens) == opens


def test_a_window_at_the_end_of_time_opens_no_more() -> None:
    assert NIGHT.next_open(NEVER_MS) == NEVER_MS


def test_a_window_without_a_name_says_when_it_is() -> None:
    assert described(frozenset({5, 6}), 120, 240, BERLIN) == "sat, sun 02:00-04:00 Europe/Berlin"
    assert described(frozenset(range(7)), 1380, 60, "UTC") == "23:00-01:00 UTC"


def policy(secrets: str, windows: str = "") -> Policy:
    lines = ["clients: {a: {}}", "secrets:", *(f"  {line}" for line in secrets.splitlines())]
    return parse("\n".join([*lines, "windows:", *(f"  {line}" for line in windows.splitlines())]).encode())


def refusal(secrets: str, windows: str = "") -> str:
    with pytest.raises(PolicyError) as caught:
        policy(secrets, windows)
    return str(caught.value)


def test_a_rule_names_a_window_or_has_one_of_its_own() -> None:
    found = policy(
        'a: {rotation: auto, window: night}\nb: {rotation: auto, window: {days: [sat], from: 22:00, to: "02:00"}, '
        "time_zone: Europe/Berlin}",
        'night: {from: "02:00", to: "04:00", time_zone: Europe/Berlin}',
    )
    assert found.rule_for("a").window == Window(frozenset(range(7)), 120, 240, BERLIN, "night")
    assert found.rule_for("b").window == Window(frozenset({5}), 1320, 120, BERLIN, "sat 22:00-02:00 Europe/Berlin")


def test_a_distance_is_an_hour_unless_the_rule_says_otherwise() -> None:
    found = policy('a: {not_with: [b, "c_*"]}\nb: {not_with: [a], gap: 5m}')
    assert (found.rule_for("a").not_with, found.rule_for("a").gap_ms) == (("b", "c_*"), 3_600_000)
    assert found.rule_for("b").gap_ms == 300_000


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        ("window: nigth", "did you mean night? those under windows: night"),
        ('window: {from: "02:00"}', "to is missing"),
        ('window: {from: "02:00", to: "25:00"}', 'found "25:00"; allowed: a time in quotes, "00:00" to "24:00"'),
        ('window: {from: "2 am", to: "04:00"}', 'a time in quotes, "00:00" to "24:00"'),
        ('window: {from: "02:00", to: "02:00"}', "from and to are the same"),
        ('window: {days: [], from: "02:00", to: "04:00"}', "none is listed"),
        ('window: {days: [Saturday], from: "02:00", to: "04:00"}', "allowed: mon, tue, wed, thu, fri, sat, sun"),
        ('window: {from: "02:00", to: "04:00", zone: UTC}', "unknown key"),
        ('window: {from: "02:00", to: "04:00", time_zone: Berlin}', "did you mean Europe/Berlin?"),
        ("window: [night]", "a mapping"),
        ("window: night, time_zone: UTC", "no window of the rule's own"),
        ("not_with: b", "a list"),
        ("not_with: ['_*']", "no name matches"),
        ("not_with: [b], gap: never", "at least"),
        ("not_with: [b], gap: 0s", "at least"),
        ("not_with: [b], gap: soon", "a duration is a number and a unit"),
        ("gap: 1h", "there is no not_with that it is for"),
    ],
)
def test_what_is_no_window_and_no_distance_is_refused(rule: str, complaint: str) -> None:
    assert complaint in refusal(f"a: {{{rule}}}", 'night: {from: "02:00", to: "04:00"}')


AUTO = "type: generic, rotation: auto"


@pytest.mark.parametrize(
    ("rules", "complaint"),
    [
        (
            f"a: {{{AUTO}, rotation_period: 30d, not_with: [b]}}\nb: {{{AUTO}, rotation_period: 90m}}",
            "at most 45m fits",
        ),
        (f"a: {{{AUTO}, rotation_schedule: '*/10 * * * *', not_with: [b]}}\nb: {{{AUTO}}}", "at most 5m fits"),
        (f"'db_*': {{{AUTO}, rotation_period: 1d, not_with: ['db_*'], gap: 13h}}", "at most 12h fits"),
        (f"'db_*': {{{AUTO}, rotation_period: 7d, not_with: ['db_*'], gap: 2h, window: sunday}}", "widen the window"),
        (
            (
                f"a: {{{AUTO}, rotation_period: 1d, not_with: ['b*'], gap: 2h, window: night}}\n"
                f"b1: {{{AUTO}, rotation_period: 90d, window: night}}"
            ),
            "their window opens every 1d",
        ),
    ],
)
def test_a_policy_that_no_schedule_can_keep_is_refused(rules: str, complaint: str) -> None:
    windows = 'night: {from: "02:00", to: "03:00"}\nsunday: {days: [sun], from: "02:00", to: "04:00"}'
    assert complaint in refusal(rules, windows)


@pytest.mark.parametrize(
    "rules",
    [
        f"a: {{{AUTO}, rotation_period: 2h, not_with: [b]}}\nb: {{{AUTO}, rotation_period: 2h}}",
        f"'db_*': {{{AUTO}, rotation_period: 30d, not_with: ['db_*'], gap: 2h, window: sunday}}",
        f"'db_*': {{{AUTO}, rotation_period: 7d, not_with: ['db_*'], gap: 1h, window: sunday}}",
        "a: {rotation: manual, rotation_period: 1h, not_with: ['*']}",
        f"a: {{{AUTO}, rotation_period: 1h, not_with: [b], gap: 10m}}\nb: {{type: external, rotation_period: 1m}}",
    ],
)
def test_a_policy_with_room_is_taken(rules: str) -> None:
    policy(rules, 'sunday: {days: [sun], from: "02:00", to: "04:00"}')


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        ("rotation: auto", "needs jwks: true"),
        ("jwks: true", "needs rotation: auto"),
        ("jwks: true, rotation: auto, rotation_period: 1h", "shorter than the time between two rotations, which is 1h"),
        ("jwks: true, rotation: auto, rotation_schedule: '*/30 * * * *'", "which is 30m"),
    ],
)
def test_keys_that_cant_be_published_ahead_are_refused(rule: str, complaint: str) -> None:
    assert complaint in refusal(f"a: {{type: jwt_signing_key, {rule}, publish_ahead: 1h}}")


def test_keys_may_be_published_ahead() -> None:
    found = policy("a: {type: jwt_signing_key, jwks: true, rotation: auto, rotation_period: 30d, publish_ahead: 1h}")
    assert found.rule_for("a").publish_ahead_ms == 3_600_000


def test_a_window_that_opens_too_rarely_or_for_nothing_is_warned_about() -> None:
    said = policy(
        f"a: {{{AUTO}, rotation_period: 1d, window: sunday}}\nb: {{rotation: manual, window: sunday}}", SUNDAY
    )
    assert any("its window opens every 7d only" in one for one in said.warnings)
    assert any("secrets.b: window holds for rotations by schedule" in one for one in said.warnings)


SUNDAY = 'sunday: {days: [sun], from: "02:00", to: "04:00"}'

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from secretsd.model import MAX_IN_GRACE
from secretsd.rotation.transitions import buried, created, instant_after, resettled, superseded, warnings
from secretsd.vault.document import SecretRecord, VersionRecord, Wishes
from tests.unit.rotation.records import NEVER_MS, record, settings, version
from tests.unit.support.clock import DAY_MS, START_MS


def rotated(
    before: SecretRecord, at: int, *, grace_ms: int | None = 2 * DAY_MS, urgent: bool = False, **changes: Any
) -> tuple[SecretRecord, tuple[VersionRecord, ...]]:
    new = version(before.current.version + 1, at)
    return superseded(
        before, new, settings(**changes), generation=before.generation + 1, grace_ms=grace_ms, urgent=urgent
    )


def in_grace(of: SecretRecord) -> list[int]:
    return [one.version for one in of.in_grace]


def test_a_new_secret_expires_after_its_period() -> None:
    assert record().expires_at == START_MS + 90 * DAY_MS
    assert record(rotation_ms=None).expires_at == NEVER_MS
    assert (record().status, record().announced, record().in_grace) == ("active", 0, ())


def test_never_is_the_last_instant_there_is() -> None:
    assert instant_after(START_MS, None) == NEVER_MS
    assert instant_after(START_MS, 2**52) == NEVER_MS


def test_a_rotation_makes_the_next_version_current_and_leaves_the_one_before_readable_for_its_grace() -> None:
    after, ended = rotated(record(), START_MS + DAY_MS)
    assert (after.current.version, after.current.grace_until) == (2, None)
    assert after.in_grace == (version(1, START_MS, START_MS + 3 * DAY_MS),)
    assert ended == ()


def test_a_rotation_begins_the_period_anew() -> None:
    before = replace(record(), status="expired", announced=3)
    after, _ = rotated(before, START_MS + 100 * DAY_MS)
    assert after.expires_at == START_MS + 190 * DAY_MS
    assert (after.status, after.announced, after.generation) == ("active", 0, 2)


def test_a_ninth_version_in_grace_ends_the_oldest() -> None:
    current = record()
    ended: tuple[VersionRecord, ...] = ()
    for number in range(1, MAX_IN_GRACE + 1):
        current, ended = rotated(current, START_MS + number)
        assert ended == ()
    assert in_grace(current) == [8, 7, 6, 5, 4, 3, 2, 1]
    current, ended = rotated(current, START_MS + 9)
    assert in_grace(current) == [9, 8, 7, 6, 5, 4, 3, 2]
    assert [one.version for one in ended] == [1]


def test_an_urgent_rotation_ends_every_grace() -> None:
    before, _ = rotated(rotated(record(), START_MS + 1)[0], START_MS + 2, grace_ms=None)
    after, ended = rotated(before, START_MS + 3, urgent=True)
    assert (in_grace(after), [one.version for one in ended]) == ([], [2, 1])
    assert after.current.version == 4


def test_a_grace_of_zero_takes_the_version_before_away_and_leaves_older_graces_alone() -> None:
    before, _ = rotated(record(), START_MS + 1)
    after, ended = rotated(before, START_MS + 2, grace_ms=0)
    assert (after.current.version, in_grace(after), ended) == (3, [1], ())


def test_a_grace_of_never_stays_until_told() -> None:
    after, _ = rotated(record(), START_MS + 1, grace_ms=None)
    assert after.in_grace[0].grace_until == NEVER_MS


def test_a_rotation_takes_up_the_settings_that_hold_now() -> None:
    after, _ = rotated(record(), START_MS, rotation="auto", rotation_ms=30 * DAY_MS, grace_ms=5)
    assert (after.rotation, after.rotation_ms, after.expires_at) == ("auto", 30 * DAY_MS, START_MS + 30 * DAY_MS)


@given(
    st.lists(st.tuples(st.integers(0, 10), st.sampled_from([0, 1, 5, None]), st.booleans()), min_size=1, max_size=30)
)
def test_versions_stay_in_order_and_none_is_lost_without_being_told(
    steps: list[tuple[int, int | None, bool]],
) -> None:
    current, now = record(), START_MS
    readable = {1}
    for passed, grace_ms, urgent in steps:
        now += passed
        before = current
        current, ended = rotated(current, now, grace_ms=grace_ms, urgent=urgent)
        readable.add(current.current.version)
        readable -= {one.version for one in ended}
        if grace_ms == 0 or urgent:
            readable.discard(before.current.version)
        numbers = [one.version for one in current.versions]
        assert numbers == sorted(readable, reverse=True)
        assert len(current.in_grace) <= MAX_IN_GRACE
        assert current.current.grace_until is None
        assert all(one.grace_until is not None for one in current.in_grace)


# A changed policy


def test_a_policy_that_says_the_same_leaves_the_record_as_it_is() -> None:
    before = record()
    assert resettled(before, settings(), 9) is before


def test_a_shorter_period_counts_from_the_current_version() -> None:
    after = resettled(replace(record(), status="expired", announced=3), settings(rotation_ms=95 * DAY_MS), 9)
    assert after.expires_at == START_MS + 95 * DAY_MS
    assert (after.status, after.announced, after.generation) == ("active", 0, 9)


def test_a_policy_that_moves_no_expiry_keeps_the_status() -> None:
    expired = replace(record(), status="expired", announced=2)
    after = resettled(expired, settings(rotation="auto"), 9)
    assert (after.rotation, after.status, after.announced) == ("auto", "expired", 2)


def test_a_changed_grace_does_not_swallow_a_warning() -> None:
    # Warned 30, 7 and 1 day before; the first of them is past.
    before = replace(record(grace_ms=30 * DAY_MS), status="expiring", announced=1)
    after = resettled(before, settings(grace_ms=2 * DAY_MS), 9)
    assert [(after.expires_at - instant) // DAY_MS for instant in warnings(after)[after.announced :]] == [7, 2, 1]


def test_running_graces_are_not_changed_by_a_policy() -> None:
    before, _ = rotated(record(), START_MS + 5)
    assert resettled(before, settings(grace_ms=None), 9).in_grace == before.in_grace


# Gone


def test_a_tombstone_keeps_where_the_versions_were() -> None:
    before, _ = rotated(record(), START_MS + 5)
    stone = buried(before, 7)
    assert (stone.version, stone.kid, stone.type, stone.generation) == (2, "kid-2", "password", 7)


# Warnings


def test_a_manual_secret_is_announced_its_grace_a_week_and_a_day_before() -> None:
    before = record(grace_ms=30 * DAY_MS)
    assert [(before.expires_at - instant) // DAY_MS for instant in warnings(before)] == [30, 7, 1]
    assert [(before.expires_at - instant) // DAY_MS for instant in warnings(record(grace_ms=7 * DAY_MS))] == [7, 1]
    assert [(before.expires_at - instant) // DAY_MS for instant in warnings(record(grace_ms=None))] == [7, 1]


def test_what_rotates_by_itself_or_never_expires_is_not_announced() -> None:
    assert warnings(record(rotation="auto")) == ()
    assert warnings(record(rotation_ms=None)) == ()


def test_a_life_too_short_for_a_warning_goes_without() -> None:
    short = record(rotation_ms=3 * DAY_MS, grace_ms=3 * DAY_MS)
    assert [(short.expires_at - instant) // DAY_MS for instant in warnings(short)] == [1]


def test_a_new_secret_remembers_what_was_wished() -> None:
    wished = Wishes(rotation="auto", rotation_ms=5, grace_ms=-1)
    assert created(version(4), settings(), wished, generation=3).wishes == wished

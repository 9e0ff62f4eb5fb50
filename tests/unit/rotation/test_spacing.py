"""Rotations keep to their windows and their distance under any policy, and none waits for ever."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st
from msgspec import UNSET
from msgspec.structs import replace

from secretsd.config import Security
from secretsd.policy import NameSet, Policy, SecretRule, SecretSettings
from secretsd.policy.windows import Window
from secretsd.rotation.outlook import Planned, outlook
from secretsd.rotation.schedule import HELD_MOST_MS, Agenda, Due
from secretsd.rotation.spacing import Slot, Spacing, Stretches
from secretsd.rotation.transitions import expiry, resettled
from secretsd.service.values import settled
from secretsd.vault.document import Pending, SecretRecord, Wishes
from tests.unit.rotation.records import record
from tests.unit.support.clock import DAY_MS, HOUR_MS, START_MS

DEFAULTS = Security(
    rotation_ms=90 * DAY_MS,
    grace_ms=0,
    require_client_id_header=True,
    deny_network_remote=True,
    rbac_policy_path=Path("/policy.yaml"),
    require_client_auth=False,
)
NIGHT = Window(frozenset(range(7)), 120, 240, "Europe/Berlin", "night")
SUNDAY = Window(frozenset({6}), 23 * 60, 60, "America/New_York", "sunday")
WINDOWS = (None, NIGHT, SUNDAY)
NAMES = ("a1", "a2", "b1", "b2", "c1", "c2")


def policy(*rules: SecretRule) -> Policy:
    return Policy(clients={}, rules=rules, sha256="")


def rule(pattern: str, period_ms: int, **more: Any) -> SecretRule:
    return SecretRule(pattern, type="generic", rotation="auto", rotation_ms=period_ms, **{"grace_ms": 0, **more})


def kept_under(rules: Policy, name: str) -> SecretSettings:
    return settled("generic", Wishes(), rules.rule_for(name), DEFAULTS)


def made(rules: Policy, created: Mapping[str, int]) -> dict[str, SecretRecord]:
    """New secrets under `rules`, by name with the instant each was made at."""
    base = record(type="generic", rotation="auto")
    return {
        name: resettled(
            replace(base, versions=(replace(base.current, created_at=instant),)), kept_under(rules, name), 1
        )
        for name, instant in created.items()
    }


def lived(rules: Policy, records: Mapping[str, SecretRecord], days: int, now_ms: int = START_MS) -> list[Planned]:
    def kept(name: str, _: SecretRecord) -> SecretSettings:
        return kept_under(rules, name)

    found, complete = outlook(records, rules, kept, now_ms=now_ms, until_ms=now_ms + days * DAY_MS, most=1_000_000)
    assert complete
    return found


def rotations(found: Sequence[Planned]) -> list[tuple[int, str]]:
    return [(one.at, one.name) for one in found if one.what == "rotate"]


def gap_between(rules: Policy, one: str, other: str) -> int:
    """How far the policy wants two secrets apart, whichever of them says so."""
    said = [
        rules.rule_for(left).gap_ms
        for left, right in ((one, other), (other, one))
        if right in NameSet(rules.rule_for(left).not_with)
    ]
    return max(said, default=0)


RULES = st.builds(
    lambda periods, windows, partners, gaps, graces: policy(
        *(
            rule(f"{letter}*", period, window=window, not_with=others, gap_ms=gap, grace_ms=grace)
            for letter, period, window, others, gap, grace in zip(
                "abc", periods, windows, partners, gaps, graces, strict=True
            )
        )
    ),
    st.tuples(*[st.sampled_from([6 * HOUR_MS, DAY_MS + 5, 10 * DAY_MS])] * 3),
    st.tuples(*[st.sampled_from(WINDOWS)] * 3),
    st.tuples(*[st.sampled_from([(), ("a*",), ("b1",), ("c*", "b2"), ("*",)])] * 3),
    st.tuples(*[st.sampled_from([1000, HOUR_MS, 3 * HOUR_MS])] * 3),
    st.tuples(*[st.sampled_from([0, 20 * 60_000, 2 * HOUR_MS])] * 3),
)
CREATED = st.fixed_dictionaries(
    {name: st.sampled_from([0, 1, 30 * 60_000, 5 * HOUR_MS, 3 * DAY_MS]).map(START_MS.__sub__) for name in NAMES}
)


@effort(max_examples=60, deadline=None)
@given(RULES, CREATED)
def test_rotations_keep_windows_and_distances_and_none_waits_for_ever(rules: Policy, created: dict[str, int]) -> None:
    records = made(rules, created)
    days = 40
    happens = lived(rules, records, days)
    assert all(before.at <= after.at for before, after in itertools.pairwise(happens))
    found = [one for one in happens if one.what == "rotate"]
    last = dict(created)
    for place, one in enumerate(found):
        window = rules.rule_for(one.name).window
        assert one.at >= one.due_ms
        assert window is None or window.next_open(one.at) == one.at
        for other in found[:place]:
            if other.name != one.name and one.at - other.at < 3 * HOUR_MS:
                assert one.at - other.at >= gap_between(rules, one.name, other.name)
        last[one.name] = one.at
    # Each waits for a weekly window and the gaps around it, behind those that were due before.
    longest_ms = len(NAMES) * (7 * DAY_MS + 6 * HOUR_MS)
    assert all(one.at - one.due_ms <= longest_ms for one in found)
    for name, instant in last.items():
        assert expiry(instant, kept_under(rules, name)) > START_MS + days * DAY_MS - longest_ms


@effort(max_examples=100, deadline=None)
@given(RULES, st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 3 * DAY_MS)), max_size=8))
def test_each_is_placed_at_the_earliest_permitted_instant(rules: Policy, asked: list[tuple[str, int]]) -> None:
    spacing = Spacing(rules)
    placed: list[tuple[int, str]] = []
    for name, wait in sorted(dict(asked).items(), key=lambda one: one[1]):
        due_ms, window = START_MS + wait, rules.rule_for(name).window
        slot = spacing.place(name, due_ms, START_MS)
        instants = {due_ms} | {at + gap_between(rules, name, other) for at, other in placed}
        if window is not None:
            instants = {window.next_open(instant) for instant in instants} | instants
        permitted = [
            instant
            for instant in sorted(instants)
            if instant >= due_ms
            and (window is None or window.next_open(instant) == instant)
            and all(abs(instant - at) >= gap_between(rules, name, other) for at, other in placed)
        ]
        assert slot.at == permitted[0]
        placed.append((slot.at, name))


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 12)), max_size=30), st.integers(0, 80))
def test_a_stretch_holds_what_was_blocked_and_nothing_else(blocks: list[tuple[int, int]], asked: int) -> None:
    stretches = Stretches()
    taken: set[int] = set()
    for begin, length in blocks:
        stretches.block(begin, begin + length, f"{begin}+{length}")
        taken.update(range(begin, begin + length))
    free, by = stretches.free(asked)
    assert free == next(instant for instant in range(asked, 200) if instant not in taken)
    assert (by is None) == (free == asked)
    if by is not None:
        begin, length = map(int, by.split("+"))
        assert begin + length == free


def test_a_distance_holds_both_ways_and_names_who_was_first() -> None:
    rules = policy(rule("a", DAY_MS, not_with=("b",), gap_ms=HOUR_MS), rule("b", DAY_MS))
    found = lived(rules, made(rules, {"b": START_MS, "a": START_MS + 1}), 1)
    assert [(one.at - START_MS - DAY_MS, one.name) for one in found] == [(0, "b")]
    found = lived(rules, made(rules, {"b": START_MS, "a": START_MS + 1}), 2)
    assert rotations(found)[:2] == [(START_MS + DAY_MS, "b"), (START_MS + DAY_MS + HOUR_MS, "a")]
    assert found[1].slot == Slot(START_MS + DAY_MS + HOUR_MS, moved_by="b")


def test_what_comes_before_another_keeps_its_distance_to_the_millisecond() -> None:
    rules = policy(rule("a", DAY_MS, window=NIGHT, not_with=("b", "c"), gap_ms=HOUR_MS), rule("?", DAY_MS))
    spacing = Spacing(rules)
    night = spacing.place("a", START_MS, START_MS).at
    assert night == NIGHT.next_open(START_MS)
    assert spacing.place("b", night - HOUR_MS, START_MS) == Slot(night - HOUR_MS)
    assert spacing.place("c", night - HOUR_MS + 1, START_MS) == Slot(night + HOUR_MS, moved_by="a")


def test_thousands_that_nothing_separates_rotate_in_the_same_instant() -> None:
    rules = policy(rule("x*", DAY_MS, window=NIGHT))
    found = lived(rules, made(rules, {f"x{number}": START_MS for number in range(3000)}), 3)
    first = [at for at, _ in rotations(found)][:3000]
    assert len(set(first)) == 1
    assert NIGHT.next_open(START_MS + DAY_MS) == first[0]


def test_ten_thousand_secrets_that_all_keep_apart_are_planned_quickly() -> None:
    rules = policy(rule("*", 30 * DAY_MS, window=NIGHT, not_with=("*",), gap_ms=60_000))
    records = made(rules, {f"s{number}": START_MS - number for number in range(10_000)})
    began = time.monotonic()
    found = rotations(lived(rules, records, 90))
    assert time.monotonic() - began < 60  # about two seconds
    assert len(found) > 6_000  # 120 a night, for the nights after the thirtieth
    assert all(after - before >= 60_000 for (before, _), (after, _) in itertools.pairwise(found))


# What is held


def agenda_of(rules: Policy, created: Mapping[str, int]) -> tuple[Agenda, dict[str, SecretRecord]]:
    records = made(rules, created)
    return Agenda(records, rules), records


def test_a_missed_window_is_waited_for_and_called_an_expiry_after_eight_days() -> None:
    rules = policy(rule("a", DAY_MS, window=SUNDAY))
    agenda, records = agenda_of(rules, {"a": START_MS})
    expires_at = records["a"].expires_at
    assert SUNDAY.next_open(START_MS + DAY_MS) == expires_at
    slept_to = expires_at + 2 * HOUR_MS
    assert list(agenda.due(slept_to)) == []
    opens = SUNDAY.next_open(slept_to)
    assert agenda.next_instant() == opens
    assert [(name, due.rotate) for name, _, due in agenda.due(opens)] == [("a", True)]
    # It sleeps through this window too.
    late = expires_at + HELD_MOST_MS
    again, records = agenda_of(rules, {"a": START_MS})
    assert [due.expired for _, _, due in again.due(late)] == [True]
    records["a"] = replace(records["a"], status="expired")
    again.update(["a"], records)
    assert again.next_instant() == SUNDAY.next_open(late)
    assert [due.rotate for _, _, due in again.due(again.next_instant())] == [True]


def test_a_rotation_by_hand_keeps_the_next_one_by_schedule_away() -> None:
    rules = policy(rule("a", DAY_MS, not_with=("b",), gap_ms=HOUR_MS), rule("b", 9 * DAY_MS))
    agenda, records = agenda_of(rules, {"a": START_MS, "b": START_MS})
    by_hand = START_MS + DAY_MS - 60_000
    records["b"] = replace(records["b"], versions=(replace(records["b"].current, version=2, created_at=by_hand),))
    agenda.update(["b"], records)
    assert list(agenda.due(START_MS + DAY_MS)) == []
    assert agenda.next_instant() == by_hand + HOUR_MS
    # Once more: what was placed is placed anew.
    records["b"] = replace(records["b"], versions=(replace(records["b"].current, version=3, created_at=by_hand + 5),))
    agenda.update(["b"], records)
    assert list(agenda.due(START_MS + DAY_MS + 1)) == []
    assert agenda.next_instant() == by_hand + 5 + HOUR_MS


def test_another_policy_frees_what_was_held() -> None:
    rules = policy(rule("a", DAY_MS, not_with=("b",), gap_ms=HOUR_MS), rule("b", DAY_MS))
    agenda, _records = agenda_of(rules, {"a": START_MS + 1, "b": START_MS})
    now = START_MS + DAY_MS + 1
    assert [name for name, _, _ in agenda.due(now)] == ["b"]
    agenda.follow(policy(rule("*", DAY_MS)))
    assert {name: due for name, _, due in agenda.due(now)} == {"a": Due(rotate=True), "b": Due(rotate=True)}


def test_a_policy_that_publishes_ahead_first_publishes_for_what_was_held() -> None:
    first = policy(rule("a", DAY_MS, window=SUNDAY, jwks=True))
    then = policy(rule("a", DAY_MS, window=SUNDAY, jwks=True, publish_ahead_ms=HOUR_MS))
    records = {name: replace(one, type="jwt_signing_key") for name, one in made(first, {"a": START_MS}).items()}
    agenda = Agenda(records, first)
    now = records["a"].expires_at + 2 * HOUR_MS
    assert list(agenda.due(now)) == []
    agenda.follow(then)
    assert [due.publish for _, _, due in agenda.due(now)] == [True]
    upcoming = replace(records["a"].current, version=2, created_at=now)
    records["a"] = replace(records["a"], upcoming=upcoming)
    agenda.update(["a"], records)
    assert agenda.next_instant() == now + HOUR_MS
    assert list(agenda.due(now + HOUR_MS)) == []
    assert agenda.next_instant() == SUNDAY.next_open(now)


def test_the_end_of_a_grace_doesnt_move_what_is_held() -> None:
    rules = policy(rule("a", DAY_MS, window=SUNDAY))
    agenda, records = agenda_of(rules, {"a": START_MS})
    now = records["a"].expires_at + 2 * HOUR_MS
    ending = replace(records["a"].current, version=0, grace_until=now + 5)
    records["a"] = replace(records["a"], versions=(records["a"].current, ending))
    agenda.update(["a"], records)
    assert list(agenda.due(now)) == []
    assert agenda.next_instant() == now + 5
    assert [due.retire for _, _, due in agenda.due(now + 5)] == [(ending,)]
    records["a"] = replace(records["a"], versions=(records["a"].current,))
    agenda.update(["a"], records)
    assert agenda.next_instant() == SUNDAY.next_open(now)


def test_the_end_of_anothers_grace_doesnt_move_what_is_held() -> None:
    rules = policy(rule("?", DAY_MS, window=NIGHT, not_with=("?",), gap_ms=HOUR_MS))
    agenda, records = agenda_of(rules, {"a": START_MS - 1, "b": START_MS})
    now = records["b"].expires_at
    assert [(name, due.rotate) for name, _, due in agenda.due(now)] == [("a", True)]
    new = replace(records["a"].current, version=2, created_at=now)
    ending = replace(records["a"].current, grace_until=now + 5)
    records["a"] = replace(records["a"], versions=(new, ending), expires_at=now + 9 * DAY_MS)
    agenda.update(["a"], records)
    assert agenda.next_instant() == now + 5
    records["a"] = replace(records["a"], versions=(new,))
    agenda.update(["a"], records)
    assert agenda.next_instant() == now + HOUR_MS


def begun(record: SecretRecord, now: int) -> Pending:
    return Pending(replace(record.current, version=2), "token", "set", "rotated", "secretsd", None, False, 0, 0, now)


def test_others_keep_clear_of_a_rotation_on_its_way_until_it_is_known_to_fail() -> None:
    rules = policy(rule("a", DAY_MS, not_with=("b",), gap_ms=HOUR_MS), rule("b", DAY_MS))
    records = made(rules, {"a": START_MS, "b": START_MS - 1})
    now = START_MS + DAY_MS
    records["b"] = replace(records["b"], pending=begun(records["b"], now))
    agenda = Agenda(records, rules)
    assert list(agenda.due(now)) == []
    assert agenda.next_instant() == now + HOUR_MS
    records["b"] = replace(records["b"], pending=replace(begun(records["b"], now), reported=True))
    agenda.update(["b"], records)
    assert [(name, due.rotate) for name, _, due in agenda.due(now + 1)] == [("b", False), ("a", True)]


def test_a_distance_counts_from_when_a_rotation_arrives_however_long_that_takes() -> None:
    rules = policy(rule("a", DAY_MS, not_with=("b",), gap_ms=HOUR_MS), rule("b", DAY_MS), rule("c", DAY_MS))
    records = made(rules, {"a": START_MS, "b": START_MS - 1, "c": START_MS + HOUR_MS})
    now = START_MS + DAY_MS
    records["b"] = replace(records["b"], pending=begun(records["b"], now))
    agenda = Agenda(records, rules)
    assert list(agenda.due(now)) == []
    # What nothing separates from it goes on; the other one waits as long again.
    assert [name for name, _, _ in agenda.due(now + HOUR_MS)] == ["c"]
    records["c"] = replace(records["c"], expires_at=now + 9 * DAY_MS)
    agenda.update(["c"], records)
    assert agenda.next_instant() == now + 2 * HOUR_MS
    arrived = now + HOUR_MS + 60_000
    records["b"] = replace(
        records["b"],
        versions=(replace(records["b"].current, version=2, created_at=arrived),),
        expires_at=now + 9 * DAY_MS,
        pending=UNSET,
    )
    agenda.update(["b"], records)
    assert list(agenda.due(arrived)) == []
    assert agenda.next_instant() == arrived + HOUR_MS
    assert [(name, due.rotate) for name, _, due in agenda.due(arrived + HOUR_MS)] == [("a", True)]

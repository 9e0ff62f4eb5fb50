"""A rotation on its way to the other end: what each outcome makes of a record."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from secretsd.rotation.announce import Cause
from secretsd.rotation.pending import (
    SLOW_MS,
    SOON_MOST_MS,
    SOON_MS,
    Fault,
    arrived,
    asked_again,
    begun,
    cancelled,
    dropped,
    failed,
    in_way,
    left_ms,
    was_set,
)
from secretsd.rotation.schedule import due, next_instant
from secretsd.vault.document import Pending, SecretRecord
from tests.unit.rotation.records import record, settings, version
from tests.unit.support.clock import DAY_MS, START_MS

DOWN = Fault("the other end is down")


def pending(**changes: Any) -> Pending:
    before = Pending(version(2, START_MS), "t" * 22, "set", "rotated", "admin", "quarterly", False, DAY_MS, 0, START_MS)
    return replace(before, **changes)


def under_way(before: SecretRecord | None = None, **changes: Any) -> SecretRecord:
    return begun(before or record(), pending(**changes), (), 5)


def tried(before: SecretRecord, fault: Fault = DOWN, retries: int = 3, chance: float = 1.0) -> tuple[Pending, bool]:
    after, report = failed(before, fault, retries=retries, now_ms=START_MS, chance=chance, generation=9)
    found = after.under_way
    assert found is not None
    return found, report


def test_while_it_is_under_way_the_old_value_stays_current() -> None:
    after = under_way()
    assert (after.current.version, after.generation, in_way(after)) == (1, 5, after.under_way)
    assert after.sealed[0].version == 2


def test_what_stops_working_at_the_other_end_ends_when_it_begins() -> None:
    grace = version(1, START_MS, START_MS + DAY_MS)
    before = replace(record(), versions=(version(2, START_MS), grace))
    assert begun(before, pending(version=version(3, START_MS)), (grace,), 5).in_grace == ()


def test_a_value_that_was_set_is_tested_next_and_becomes_current_after_that_alone() -> None:
    tested = was_set(under_way(), START_MS + 1)
    assert tested.under_way is not None
    assert (tested.under_way.step, tested.under_way.due_at) == ("test", START_MS + 1)
    assert tested.current.version == 1
    after, ended = arrived(tested, settings(), finishes=False, now_ms=START_MS + 500, generation=7)
    assert (after.current.version, after.current.created_at, after.generation) == (2, START_MS + 500, 7)
    assert (after.in_grace[0].grace_until, ended, after.under_way) == (START_MS + 500 + DAY_MS, (), None)


def test_a_rotator_that_tidies_up_is_owed_that_with_the_value_in_force() -> None:
    after, _ = arrived(
        was_set(under_way(attempts=2), START_MS), settings(), finishes=True, now_ms=START_MS, generation=7
    )
    assert after.under_way is not None
    assert (after.under_way.step, after.under_way.attempts, in_way(after)) == ("finish", 0, None)
    assert after.current == after.under_way.version
    assert dropped(after).under_way is None


def test_tries_come_soon_then_further_apart_and_slowly_once_it_was_reported() -> None:
    found = under_way()
    pauses, reports = [], []
    for _ in range(6):
        after, report = tried(found, retries=3)
        pauses.append(after.due_at - START_MS)
        reports.append(report)
        found = replace(found, pending=after)
    assert pauses == [SOON_MS, 2 * SOON_MS, 4 * SOON_MS, SLOW_MS, SLOW_MS, SLOW_MS]
    assert reports == [False, False, False, True, False, False]


def test_a_pause_has_a_bound_and_what_failed_together_is_spread() -> None:
    late = under_way(attempts=60)
    assert tried(late, retries=100)[0].due_at - START_MS == SOON_MOST_MS
    assert tried(late, retries=100, chance=0.0)[0].due_at - START_MS == SOON_MOST_MS // 2


def test_what_no_repetition_changes_is_reported_at_once() -> None:
    after, report = tried(under_way(), Fault("not allowed", final=True))
    assert (report, after.reported, after.due_at - START_MS) == (True, True, SLOW_MS)


def test_only_a_report_is_a_change_of_the_secret() -> None:
    quiet, _ = failed(under_way(), DOWN, retries=3, now_ms=0, chance=0, generation=9)
    told, _ = failed(under_way(), DOWN, retries=0, now_ms=0, chance=0, generation=9)
    assert (quiet.generation, told.generation) == (5, 9)


@pytest.mark.parametrize(("step", "then"), [("set", "set"), ("test", "set"), ("undo", "undo"), ("finish", "finish")])
def test_after_a_failed_test_the_value_is_set_again(step: str, then: str) -> None:
    after, _ = tried(under_way(step=step))
    assert (after.step, after.token, after.failure) == (then, "t" * 22, DOWN.reason)


def test_asked_for_again_it_is_a_new_incident_with_the_same_token_and_value() -> None:
    failing = under_way(step="undo", attempts=7, reported=True, failure="down", due_at=START_MS + SLOW_MS)
    again = asked_again(failing, Cause("ops", "leaked", urgent=True), START_MS + 1, 8).under_way
    assert again is not None
    assert (again.step, again.attempts, again.reported, again.failure) == ("set", 0, False, None)
    assert (again.client, again.reason, again.urgent, again.due_at) == ("ops", "leaked", True, START_MS + 1)
    assert (again.token, again.version) == (pending().token, pending().version)


@pytest.mark.parametrize(
    ("attempts", "step", "reported", "longest"),
    [
        (0, "set", False, 0),
        (1, "set", False, SOON_MS),
        (3, "undo", False, 4 * SOON_MS),
        (40, "finish", False, SOON_MOST_MS),
        (40, "set", True, SLOW_MS),
        (3, "test", False, 0),
    ],
)
def test_a_try_further_ahead_than_its_pause_can_be_is_due_since_the_clock_was_set_back(
    attempts: int, step: str, reported: bool, longest: int
) -> None:
    waiting = pending(step=step, attempts=attempts, reported=reported, due_at=START_MS + longest)
    assert left_ms(waiting, START_MS) == longest
    assert left_ms(waiting, START_MS - 1) == 0
    assert left_ms(waiting, START_MS + longest) == 0


def test_what_was_urgent_stays_so_when_somebody_asks_for_it_again() -> None:
    leaked = under_way(urgent=True, attempts=7)
    again = asked_again(leaked, Cause("ops", "again, please", urgent=False), START_MS + 1, 8).under_way
    assert again is not None
    assert again.urgent  # the old value leaked: its grace is over with the new one's arrival, whoever asks


def test_a_cancelled_one_is_undone_at_once() -> None:
    after = cancelled(under_way(step="test", reported=True), Cause("ops"), START_MS + 1, 8).under_way
    assert after is not None
    assert (after.step, after.due_at, after.reported) == ("undo", START_MS + 1, False)


def test_the_schedule_lets_a_rotation_under_way_be_and_announces_the_expiry_once_it_is_known_to_fail() -> None:
    old = replace(record(rotation="auto"), expires_at=START_MS)
    assert due(old, START_MS).rotate
    on_its_way = under_way(old)
    assert not due(on_its_way, START_MS + DAY_MS)
    assert next_instant(on_its_way) > START_MS + DAY_MS
    failing = under_way(old, reported=True)
    assert due(failing, START_MS).expired
    assert next_instant(failing) == START_MS
    told = replace(failing, status="expired")
    assert not due(told, START_MS)
    assert next_instant(told) > START_MS
    assert due(under_way(old, step="finish"), START_MS).rotate

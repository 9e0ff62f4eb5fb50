from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from secretsd.rotation.schedule import Agenda, Due, due, next_instant
from secretsd.rotation.transitions import warnings
from secretsd.vault.document import SecretRecord
from tests.unit.rotation.records import NEVER_MS, record, version
from tests.unit.support.clock import DAY_MS, START_MS

EXPIRY = START_MS + 90 * DAY_MS
RECORDS = st.builds(
    lambda base, status, announced, graces: replace(
        base,
        status=status,
        announced=min(announced, len(warnings(base))),
        versions=(base.current, *(version(0, START_MS, grace) for grace in graces)),
    ),
    st.builds(
        record,
        rotation=st.sampled_from(["auto", "manual"]),
        rotation_ms=st.none() | st.integers(1, 40 * DAY_MS),
        grace_ms=st.none() | st.integers(0, 40 * DAY_MS),
    ),
    st.sampled_from(["active", "expiring", "expired"]),
    st.integers(0, 3),
    st.lists(st.integers(START_MS - DAY_MS, START_MS + 40 * DAY_MS) | st.just(NEVER_MS), max_size=3),
)
INSTANTS = st.integers(START_MS - DAY_MS, START_MS + 45 * DAY_MS)


AHEADS = st.none() | st.integers(1, 20 * DAY_MS)


@given(RECORDS, INSTANTS, AHEADS, st.booleans())
def test_something_is_due_exactly_from_the_next_instant_on(
    one: SecretRecord, now: int, ahead_ms: int | None, published: bool
) -> None:
    assume(one.status != "expired" or one.expires_at <= now)  # moved into the future it is active again
    if published:
        one = replace(one, upcoming=replace(one.current, version=9))
    assert bool(due(one, now, None, ahead_ms)) == (next_instant(one, None, ahead_ms) <= now)


@given(RECORDS, INSTANTS, st.integers(1, 20 * DAY_MS))
def test_no_key_is_used_before_it_has_been_published_for_long_enough(
    one: SecretRecord, now: int, ahead_ms: int
) -> None:
    assert not due(one, now, None, ahead_ms).rotate
    published = replace(one, upcoming=replace(one.current, version=9, created_at=now))
    assert not due(published, now + ahead_ms - 1, None, ahead_ms).rotate


def test_an_automatic_secret_rotates_at_its_expiry_and_not_a_millisecond_before() -> None:
    auto = record(rotation="auto")
    assert not due(auto, EXPIRY - 1)
    assert due(auto, EXPIRY) == Due(rotate=True)


def test_a_manual_secret_expires_once() -> None:
    manual = replace(record(), announced=3)
    assert not due(manual, EXPIRY - 1)
    assert due(manual, EXPIRY) == Due(expired=True)
    assert not due(replace(manual, status="expired"), EXPIRY + 10 * DAY_MS)


def test_each_threshold_before_expiry_is_announced_at_its_instant() -> None:
    manual = record(grace_ms=30 * DAY_MS)
    for count, days in enumerate((30, 7, 1)):
        assert not due(replace(manual, announced=count), EXPIRY - days * DAY_MS - 1)
        assert due(replace(manual, announced=count), EXPIRY - days * DAY_MS) == Due(expiring=count + 1)


def test_thresholds_that_were_slept_through_are_announced_as_one() -> None:
    assert due(record(grace_ms=30 * DAY_MS), EXPIRY - 1) == Due(expiring=3)


def test_a_grace_ends_at_its_instant_and_one_of_never_does_not() -> None:
    ending, staying = version(2, START_MS, START_MS + 5), version(1, START_MS, NEVER_MS)
    one = replace(record(), versions=(version(3), ending, staying))
    assert not due(one, START_MS + 4)
    assert due(one, START_MS + 5) == Due(retire=(ending,))
    assert due(replace(one, status="expired"), START_MS + 1000 * DAY_MS).retire == (ending,)


def test_after_a_clock_that_went_back_what_had_expired_is_not_about_to() -> None:
    one = replace(record(rotation_ms=10 * DAY_MS), status="expired")
    assert due(one, START_MS + 9 * DAY_MS).expiring is None
    assert next_instant(one) == NEVER_MS


def test_an_agenda_gives_what_is_due_earliest_first() -> None:
    records = {name: record(rotation="auto", rotation_ms=period) for name, period in (("b", 20), ("a", 30), ("c", 10))}
    agenda = Agenda(records)
    assert agenda.next_instant() == START_MS + 10
    assert [name for name, *_ in agenda.due(START_MS + 25)] == ["c", "b"]


def test_what_was_not_carried_out_stays_due() -> None:
    agenda = Agenda({"a": record(rotation="auto", rotation_ms=10)})
    for _ in range(3):
        assert [name for name, *_ in agenda.due(START_MS + 10)] == ["a"]
        assert agenda.next_instant() == START_MS + 10


def test_an_agenda_without_anything_to_do_waits_for_ever() -> None:
    assert Agenda({}).next_instant() == NEVER_MS
    assert Agenda({"a": record(rotation_ms=None)}).next_instant() == NEVER_MS


def test_a_deleted_secret_is_dropped_and_a_changed_one_followed() -> None:
    records = {"a": record(rotation="auto", rotation_ms=10), "b": record(rotation="auto", rotation_ms=20)}
    agenda = Agenda(records)
    changed = {"b": record(rotation="auto", rotation_ms=15)}
    agenda.update(["a", "b"], changed)
    assert agenda.next_instant() == START_MS + 15
    assert [name for name, *_ in agenda.due(START_MS + 100)] == ["b"]


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.none() | RECORDS), max_size=30), INSTANTS)
def test_after_any_changes_an_agenda_knows_what_a_new_one_would(
    steps: list[tuple[str, SecretRecord | None]], now: int
) -> None:
    records: dict[str, SecretRecord] = {}
    agenda = Agenda(records)
    for name, changed in steps:
        records = {key: value for key, value in records.items() if key != name}
        if changed is not None:
            records[name] = changed
        agenda.update([name], records)
        fresh = Agenda(records)
        assert agenda.next_instant() == fresh.next_instant()
        assert {name: decision for name, _, decision in agenda.due(now)} == {
            name: decision for name, one in records.items() if (decision := due(one, now))
        }

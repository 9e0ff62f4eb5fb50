from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from secretsd.outbox.lane import (
    DENIALS_BEFORE_PAUSE,
    DENIED_MOST,
    PAUSE_MOST_SECONDS,
    READY_MOST,
    Lane,
    Line,
    of_one_secret,
)


def line(sequence: int, kind: str = "secret.rotated") -> Line:
    return Line(sequence, kind, "name", b"%d" % sequence)


def topic_of(one: Line) -> str | None:
    return None if one.type == "secret.read" else one.type


def lane(*sequences: int) -> Lane:
    made = Lane("changes", topic_of)
    for sequence in sequences:
        made.add(line(sequence))
    return made


def rows(*topics: str) -> Lane:
    """A lane with an event on each of these topics, numbered from 1 on."""
    made = Lane("audit", lambda one: one.type)
    for sequence, topic in enumerate(topics, 1):
        made.add(line(sequence, topic))
    return made


def refuse(one: Lane, *sequences: int) -> None:
    """Have events refused, one after the other."""
    for sequence in sequences:
        owed = one.take(0.0)
        assert owed is not None
        assert owed.sequence == sequence
        one.deny(sequence, 0.0)


def taken(one: Lane, now: float = 0.0) -> list[int]:
    found = []
    while (owed := one.take(now)) is not None:
        found.append(owed.sequence)
    return found


def test_events_are_taken_in_the_order_of_the_log() -> None:
    assert taken(lane(1, 2, 3)) == [1, 2, 3]


def test_lines_of_other_lanes_are_passed_and_count_as_done() -> None:
    one = Lane("changes", topic_of)
    one.add(line(1, "secret.read"))
    assert (taken(one), one.cursor, one.seen) == ([], 1, 1)


def test_the_cursor_waits_for_the_oldest_unacknowledged_event() -> None:
    one = lane(1, 2, 3)
    taken(one)
    one.acknowledge(3)
    one.acknowledge(2)
    assert one.cursor == 0
    one.acknowledge(1)
    assert one.cursor == 3


def test_a_rewound_lane_owes_everything_after_its_cursor_again() -> None:
    one = lane(1, 2, 3)
    taken(one)
    one.acknowledge(1)
    one.rewind(one.cursor)
    assert (one.seen, one.waiting, one.in_flight) == (1, 0, 0)
    one.acknowledge(2)  # too late: that connection is gone
    for sequence in (2, 3):
        one.add(line(sequence))
    assert taken(one) == [2, 3]


def test_a_lane_follows_what_is_written_only_without_a_gap_and_while_it_has_room() -> None:
    one = lane(1)
    one.follow([line(3)])
    assert one.seen == 1
    one.follow([line(2), line(3), line(5)])
    assert one.seen == 3
    one.follow([line(number) for number in range(4, READY_MOST + 100)])
    assert one.seen == READY_MOST
    assert one.waiting == READY_MOST


def test_a_refused_event_stays_owed_and_is_tried_again_after_a_pause() -> None:
    one = rows("a", "b", "c")
    refuse(one, 1)
    assert one.denied
    assert taken(one) == [2, 3]
    for sequence in (2, 3):
        one.acknowledge(sequence)
    assert one.cursor == 0
    assert taken(one) == []
    assert taken(one, one.paused_for(0.0)) == [1]
    one.acknowledge(1)
    assert (one.cursor, one.denied) == (3, False)


def test_what_follows_a_refused_event_in_its_row_waits_behind_it() -> None:
    one = rows("a", "b", "a", "b", "a")
    refuse(one, 1)
    assert taken(one) == [2, 4]
    one.acknowledge(2)
    one.acknowledge(4)
    now = one.paused_for(0.0)
    assert taken(one, now) == [1]
    one.add(line(6, "a"))
    assert taken(one, now) == []
    one.acknowledge(1)
    assert taken(one, now) == [3, 5, 6]


def test_all_that_happened_to_one_secret_is_one_row_among_the_changes() -> None:
    one = Lane("changes", lambda line: f"p/secret/x/{line.type}", of_one_secret)
    for sequence, verb in enumerate(("created", "rotated", "deleted"), 1):
        one.add(line(sequence, verb))
    refuse(one, 1)
    assert taken(one) == []
    assert taken(one, one.paused_for(0.0)) == [1]
    one.acknowledge(1)
    assert taken(one) == [2, 3]


def test_once_everything_is_allowed_all_comes_in_the_order_of_the_log() -> None:
    one = rows("a", "b", "a", "c", "b", "d", "a")
    refuse(one, 1, 2, 4)
    now = one.paused_for(0.0)
    assert taken(one, now) == [1]
    one.acknowledge(1)
    assert taken(one, now) == [2, 3, 4, 5, 6, 7]


def test_a_row_that_is_allowed_again_does_not_wait_for_one_that_never_is() -> None:
    one, now = rows("never", "again", "never", "again"), 0.0
    refuse(one, 1, 2)
    arrived = []
    for _ in range(5):
        now += one.paused_for(now)
        while (owed := one.take(now)) is not None:
            if owed.topic == "again":
                arrived.append(owed.sequence)
                one.acknowledge(owed.sequence)
            else:
                one.deny(owed.sequence, now)
    assert arrived == [2, 4]
    assert (one.denied, one.waiting, one.cursor) == (True, 2, 0)


def test_an_event_that_is_refused_for_good_holds_back_no_other_row() -> None:
    one, now = rows("never"), 0.0
    for _ in range(2 * DENIALS_BEFORE_PAUSE):
        assert taken(one, now) == [1]
        one.deny(1, now)
        now += one.paused_for(now)
    for sequence in range(2, 10):
        one.add(line(sequence))
    assert taken(one, now) == [1]
    one.deny(1, now)
    assert taken(one, now) == [2]
    one.acknowledge(2)
    assert taken(one, now) == list(range(3, 10))
    for sequence in range(3, 10):
        one.acknowledge(sequence)
    assert (one.cursor, one.seen) == (0, 9)


def test_a_new_connection_waits_for_no_answer_of_the_one_before() -> None:
    one = rows("a", "b")
    refuse(one, 1)
    assert taken(one) == [2]
    one.acknowledge(2)
    assert taken(one, one.paused_for(0.0)) == [1]
    one.rewind(0)
    for sequence, topic in enumerate("ab", 1):
        one.add(line(sequence, topic))
    assert taken(one) == [1, 2]


def test_no_more_is_held_behind_what_is_refused_than_fits() -> None:
    one = rows(*["never"] * (DENIED_MOST + 10), "other")
    refuse(one, 1)
    assert taken(one) == []
    assert one.waiting == DENIED_MOST + 11
    assert not one.wants_lines


def test_refused_rows_pause_the_lane_longer_and_longer_and_each_is_asked_again_after_a_pause() -> None:
    one = rows(*"abcdefghi")
    refuse(one, *range(1, DENIALS_BEFORE_PAUSE + 1))
    now, pauses, asked = 0.0, [], []
    for _ in range(9):
        assert one.take(now) is None
        pauses.append(one.paused_for(now))
        now += pauses[-1]
        asked.append([])
        while (owed := one.take(now)) is not None:
            asked[-1].append(owed.sequence)
            one.deny(owed.sequence, now)
    assert pauses == [1, 2, 4, 8, *[PAUSE_MOST_SECONDS] * 5]
    assert asked[:3] == [[1, 2, 3, 4], [1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6]]  # and a new one each time


def test_an_accepted_event_ends_the_trouble() -> None:
    one = rows(*"abcde")
    refuse(one, *range(1, DENIALS_BEFORE_PAUSE + 1))
    now = one.paused_for(0.0)
    assert taken(one, now) == [1]
    one.acknowledge(1)
    assert taken(one, now) == [2, 3, 4, 5]
    for sequence in range(2, 6):
        one.acknowledge(sequence)
    assert (one.cursor, one.waiting) == (5, 0)


@pytest.mark.parametrize("settle", ["acknowledge", "deny"])
def test_an_answer_for_something_that_is_not_in_flight_changes_nothing(settle: str) -> None:
    one = lane(1)
    if settle == "acknowledge":
        one.acknowledge(1)
    else:
        one.deny(1, 0.0)
    assert (one.cursor, one.waiting, one.denied) == (0, 1, False)


@dataclass
class Truth:
    """What a lane should know, kept in the plainest way."""

    seen: int
    unsettled: set[int]


class AnyLane(RuleBasedStateMachine):
    """Lines, publications, acknowledgements, refusals and lost connections in any order."""

    @initialize()
    def begin(self) -> None:
        self.lane = Lane("changes", topic_of)
        self.truth = Truth(0, set())
        self.flying: list[int] = []
        self.refused: set[int] = set()
        self.acknowledged: set[int] = set()
        self.kinds = [""]
        self.now = 0.0

    @rule(kind=st.sampled_from(["secret.read", "secret.rotated", "secret.created", "secret.deleted"]))
    def line(self, kind: str) -> None:
        self.truth.seen += 1
        self.kinds.append(kind)
        if kind != "secret.read":
            self.truth.unsettled.add(self.truth.seen)
        self.lane.follow([line(self.truth.seen, kind)])

    @rule(seconds=st.floats(0, 100))
    def time(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def take(self) -> None:
        owed = self.lane.take(self.now)
        if owed is not None:
            assert owed.sequence in self.truth.unsettled
            assert owed.sequence not in self.flying
            row = self.kinds[owed.sequence]
            assert not [one for one in self.refused if one < owed.sequence and self.kinds[one] == row]
            self.flying.append(owed.sequence)
            self.refused.discard(owed.sequence)

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        sequence = data.draw(st.sampled_from(self.flying))
        self.flying.remove(sequence)
        self.truth.unsettled.discard(sequence)
        self.acknowledged.add(sequence)
        self.lane.acknowledge(sequence)

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def deny(self, data: st.DataObject) -> None:
        sequence = data.draw(st.sampled_from(self.flying))
        self.flying.remove(sequence)
        self.refused.add(sequence)
        self.lane.deny(sequence, self.now)

    @rule()
    def lose_the_connection(self) -> None:
        cursor = self.lane.cursor
        self.lane.rewind(cursor)
        self.flying.clear()
        self.refused.clear()
        for sequence in range(cursor + 1, self.truth.seen + 1):
            wanted = sequence in self.truth.unsettled or sequence in self.acknowledged
            self.lane.add(line(sequence, self.kinds[sequence] if wanted else "secret.read"))
            if wanted:
                self.truth.unsettled.add(sequence)

    @rule()
    def a_broker_that_takes_everything_gets_everything(self) -> None:
        for _ in range(len(self.truth.unsettled) * 2 + 2):
            self.now += 2 * PAUSE_MOST_SECONDS
            while (owed := self.lane.take(self.now)) is not None:
                self.flying.append(owed.sequence)
            for sequence in self.flying:
                self.lane.acknowledge(sequence)
                self.truth.unsettled.discard(sequence)
                self.acknowledged.add(sequence)
            self.flying.clear()
        self.refused.clear()
        assert not self.truth.unsettled

    @invariant()
    def the_cursor_never_passes_what_is_not_acknowledged(self) -> None:
        if hasattr(self, "lane"):
            assert self.lane.cursor == min(self.truth.unsettled, default=self.truth.seen + 1) - 1
            assert self.lane.waiting == len(self.truth.unsettled)
            assert self.lane.in_flight == len(self.flying)


TestAnyLane = AnyLane.TestCase
TestAnyLane.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_rewound_lane_knows_of_no_refusal() -> None:
    one = rows("a", "b")
    refuse(one, 1)
    assert one.denied
    one.rewind(0)
    assert not one.denied

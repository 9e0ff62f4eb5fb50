from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from secretsd.outbox.lane import DENIALS_BEFORE_PAUSE, PAUSE_MOST_SECONDS, READY_MOST, Lane, Line


def line(sequence: int, kind: str = "secret.rotated") -> Line:
    return Line(sequence, kind, "name", b"%d" % sequence)


def topic_of(one: Line) -> str | None:
    return "topic" if one.type == "secret.rotated" else None


def lane(*sequences: int) -> Lane:
    made = Lane("changes", topic_of)
    for sequence in sequences:
        made.add(line(sequence))
    return made


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


def test_a_refused_event_stays_owed_and_is_tried_again_after_the_others() -> None:
    one = lane(1, 2, 3)
    assert one.take(0.0) is not None
    one.deny(1, 0.0)
    assert one.denied
    assert taken(one) == [2, 3]
    for sequence in (2, 3):
        one.acknowledge(sequence)
    assert one.cursor == 0
    assert taken(one) == []
    assert taken(one, one.paused_for(0.0)) == [1]
    one.acknowledge(1)
    assert (one.cursor, one.denied) == (3, False)


def test_an_event_that_is_refused_for_good_holds_nothing_back() -> None:
    one, now = lane(1), 0.0
    for _ in range(2 * DENIALS_BEFORE_PAUSE):
        assert taken(one, now) == [1]
        one.deny(1, now)
        now += one.paused_for(now)
    for sequence in range(2, 10):
        one.add(line(sequence))
    assert taken(one, now) == list(range(2, 10))
    for sequence in range(2, 10):
        one.acknowledge(sequence)
    assert (one.cursor, one.seen) == (0, 9)


def test_refusals_in_a_row_pause_the_lane_longer_and_longer_and_one_event_at_a_time_asks_for_all() -> None:
    one = lane(*range(1, 10))
    for sequence in range(1, DENIALS_BEFORE_PAUSE + 1):
        assert one.take(0.0) is not None
        one.deny(sequence, 0.0)
    now, pauses = 0.0, []
    for _ in range(9):
        assert one.take(now) is None
        pauses.append(one.paused_for(now))
        now += pauses[-1]
        [asked] = taken(one, now)
        one.deny(asked, now)
    assert pauses == [1, 2, 4, 8, *[PAUSE_MOST_SECONDS] * 5]


def test_an_accepted_event_ends_the_trouble() -> None:
    one = lane(*range(1, 6))
    for sequence in range(1, DENIALS_BEFORE_PAUSE + 1):
        one.take(0.0)
        one.deny(sequence, 0.0)
    now = one.paused_for(0.0)
    assert taken(one, now) == [1]
    one.acknowledge(1)
    assert taken(one, now) == [4, 5]
    for sequence in (4, 5):
        one.acknowledge(sequence)
    for sequence in (2, 3):
        assert taken(one, now) == [sequence]
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
        self.acknowledged: set[int] = set()
        self.now = 0.0

    @rule(wanted=st.booleans())
    def line(self, wanted: bool) -> None:
        self.truth.seen += 1
        if wanted:
            self.truth.unsettled.add(self.truth.seen)
        self.lane.follow([line(self.truth.seen, "secret.rotated" if wanted else "secret.read")])

    @rule(seconds=st.floats(0, 100))
    def time(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def take(self) -> None:
        owed = self.lane.take(self.now)
        if owed is not None:
            assert owed.sequence in self.truth.unsettled
            assert owed.sequence not in self.flying
            self.flying.append(owed.sequence)

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
        self.lane.deny(sequence, self.now)

    @rule()
    def lose_the_connection(self) -> None:
        cursor = self.lane.cursor
        self.lane.rewind(cursor)
        self.flying.clear()
        for sequence in range(cursor + 1, self.truth.seen + 1):
            wanted = sequence in self.truth.unsettled or sequence in self.acknowledged
            self.lane.add(line(sequence, "secret.rotated" if wanted else "secret.read"))
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
        assert not self.truth.unsettled

    @invariant()
    def the_cursor_never_passes_what_is_not_acknowledged(self) -> None:
        if hasattr(self, "lane"):
            assert self.lane.cursor == min(self.truth.unsettled, default=self.truth.seen + 1) - 1
            assert self.lane.waiting == len(self.truth.unsettled)
            assert self.lane.in_flight == len(self.flying)


TestAnyLane = AnyLane.TestCase
TestAnyLane.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

"""One lane of owed events: what is next, what is in flight, how far everything is acknowledged. No I/O."""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Final

from msgspec import Struct

READY_MOST: Final = 4096
DENIALS_BEFORE_PAUSE: Final = 3
DENIED_MOST: Final = 1024
"""How many events are held, refused or behind a refused one; then the lane waits, and the log keeps the rest."""
PAUSE_FIRST_SECONDS: Final = 1.0
PAUSE_MOST_SECONDS: Final = 15.0


class Line(Struct, frozen=True):
    """A line of the log with what decides over its publication."""

    sequence: int
    type: str
    subject: str | None
    raw: bytes


class Owed(Struct, frozen=True):
    """A line on its way to a topic. What has the same `row` never overtakes each other."""

    sequence: int
    topic: str
    payload: bytes
    row: str


_SEQUENCE: Final = attrgetter("sequence")


def of_one_topic(topic: str) -> str:
    """Return the row of an event where those of one topic keep their order, and topics wait for no other."""
    return topic


def of_one_secret(topic: str) -> str:
    """Return the row of a change: all of its secret, whatever happened to it."""
    return topic.rpartition("/")[0]


class Lane:
    """Keeps the order of the log; is rewound to its cursor when a connection is lost.

    `topic_of` tells where a line belongs in this lane, None for lines that don't; `row_of` which topics are one row.
    A refused event holds back what follows it in its row, and nothing else.
    """

    def __init__(
        self, name: str, topic_of: Callable[[Line], str | None], row_of: Callable[[str], str] = of_one_topic
    ) -> None:
        self.name = name
        self._topic_of = topic_of
        self._row_of = row_of
        self._ready: deque[Owed] = deque()
        self._flying: dict[int, Owed] = {}
        self._denied: dict[str, list[Owed]] = {}
        """Rows with a refused event, and what waits behind it."""
        self._held = 0
        """How many events that are."""
        self._asked_again: set[int] = set()
        """Events that were refused before: when one is taken, the broker has changed its mind."""
        self._round: deque[str | None] = deque()
        """Rows that are yet to be asked again after this pause, None for one that was not refused yet."""
        self._question: int | None = None
        """The newest event that was asked again: nothing goes before its answer."""
        self._denials_in_a_row = 0
        """Rows that were refused since the broker took something."""
        self._pause = PAUSE_FIRST_SECONDS
        self._paused_until = 0.0
        self.seen = 0
        """The sequence up to which lines were looked at."""

    @property
    def cursor(self) -> int:
        """The sequence up to which nothing is owed any more."""
        firsts = [row[0].sequence for row in self._denied.values()]
        if self._flying:
            firsts.append(min(self._flying))
        if self._ready:
            firsts.append(self._ready[0].sequence)
        return min(firsts) - 1 if firsts else self.seen

    @property
    def waiting(self) -> int:
        """How many looked-at events are not acknowledged."""
        return len(self._ready) + len(self._flying) + self._held

    @property
    def denied(self) -> bool:
        """Whether the broker refuses something that is owed."""
        return bool(self._denied)

    @property
    def in_flight(self) -> int:
        """How many are published and not yet acknowledged."""
        return len(self._flying)

    @property
    def wants_lines(self) -> bool:
        """Whether everything looked at is on its way, so that the lane has to be read on for."""
        return not self._ready

    def rewind(self, sequence: int) -> None:
        """Begin again after `sequence`; everything behind it is owed."""
        self._ready.clear()
        self._flying.clear()
        self._denied.clear()
        self._held = 0
        self._asked_again.clear()
        self._round.clear()
        self._question = None
        self._denials_in_a_row = 0
        self._paused_until = 0.0
        self.seen = sequence

    def follow(self, lines: Iterable[Line]) -> None:
        """Take lines that were just written, as long as the lane is at the log's end and has room.

        Otherwise they are left to be read from the log later.
        """
        for line in lines:
            if line.sequence == self.seen + 1 and len(self._ready) < READY_MOST:
                self.add(line)

    def add(self, line: Line) -> None:
        """Look at the next line."""
        self.seen = line.sequence
        topic = self._topic_of(line)
        if topic is not None:
            self._ready.append(Owed(line.sequence, topic, line.raw, self._row_of(topic)))

    def take(self, now_seconds: float) -> Owed | None:
        """Return the next event to publish, which is in flight from then on; None while there is nothing."""
        owed = None
        if self._question in self._flying:
            return None
        if self._denied and (self._round or now_seconds >= self._paused_until):
            if self._flying:
                return None
            owed = self._ask_again(now_seconds)
        if owed is None and self._denials_in_a_row < DENIALS_BEFORE_PAUSE:
            # Where nothing seems to be let through, new events wait for the answer to the next round of questions.
            owed = self._next_new()
        if owed is not None:
            self._flying[owed.sequence] = owed
        return owed

    def _next_new(self) -> Owed | None:
        """Return the next event that waits behind no refused one."""
        while self._ready and self._held < DENIED_MOST:
            owed = self._ready.popleft()
            if owed.row not in self._denied:
                return owed
            self._hold(owed)
        return None

    def _ask_again(self, now_seconds: float) -> Owed | None:
        """Return the first event of each refused row in turn, the oldest first, and a new one at last; then pause."""
        if not self._round and now_seconds >= self._paused_until:
            firsts = sorted((events[0].sequence, row) for row, events in self._denied.items())
            self._round.extend(row for _, row in firsts)
            if self._ready:
                self._round.append(None)
        asked = self._round.popleft() if self._round else None
        owed = self._next_new() if asked is None else self._first_of(asked)
        if owed is not None:
            self._question = owed.sequence
        return owed

    def _first_of(self, row: str) -> Owed:
        events = self._denied[row]
        owed = events.pop(0)
        self._held -= 1
        if not events:
            del self._denied[row]
        return owed

    def _hold(self, owed: Owed) -> None:
        insort(self._denied.setdefault(owed.row, []), owed, key=_SEQUENCE)
        self._held += 1

    def acknowledge(self, sequence: int) -> None:
        """Note that the broker took the event."""
        if self._flying.pop(sequence, None) is None:
            return
        self._denials_in_a_row = 0
        self._pause = PAUSE_FIRST_SECONDS
        if sequence in self._asked_again:
            self._asked_again.discard(sequence)
            self._release()

    def _release(self) -> None:
        """Try all that was refused again, in the order of the log: what is still refused will be held anew."""
        held = [owed for row in self._denied.values() for owed in row]
        self._ready = deque(sorted([*held, *self._ready], key=_SEQUENCE))
        self._denied.clear()
        self._held = 0
        self._round.clear()

    def deny(self, sequence: int, now_seconds: float) -> None:
        """Note that the broker refused the event; it stays owed and is tried again after a pause."""
        owed = self._flying.pop(sequence, None)
        if owed is None:
            return
        if sequence not in self._asked_again and owed.row not in self._denied:
            self._denials_in_a_row += 1
        self._asked_again.add(sequence)
        self._hold(owed)
        if now_seconds >= self._paused_until:
            self._paused_until = now_seconds + self._pause
            self._pause = min(self._pause * 2, PAUSE_MOST_SECONDS)

    def paused_for(self, now_seconds: float) -> float:
        """Return the seconds until a refused event is tried again, 0 when nothing is paused."""
        return max(0.0, self._paused_until - now_seconds)

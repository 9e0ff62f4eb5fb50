"""One lane of owed events: what is next, what is in flight, how far everything is acknowledged. No I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from msgspec import Struct

READY_MOST: Final = 4096
DENIALS_BEFORE_PAUSE: Final = 3
DENIED_MOST: Final = 1024
"""How many refused events are held; beyond them the lane waits, and the log keeps what follows."""
PAUSE_FIRST_SECONDS: Final = 1.0
PAUSE_MOST_SECONDS: Final = 15.0


class Line(Struct, frozen=True):
    """A line of the log with what decides over its publication."""

    sequence: int
    type: str
    subject: str | None
    raw: bytes


class Owed(Struct, frozen=True):
    """A line on its way to a topic."""

    sequence: int
    topic: str
    payload: bytes


class Lane:
    """Keeps the order of the log; is rewound to its cursor when a connection is lost.

    `topic_of` tells where a line belongs in this lane, None for lines that don't.
    """

    def __init__(self, name: str, topic_of: Callable[[Line], str | None]) -> None:
        self.name = name
        self._topic_of = topic_of
        self._ready: deque[Owed] = deque()
        self._flying: dict[int, Owed] = {}
        self._denied: dict[int, Owed] = {}
        self._asked_again: set[int] = set()
        """Events that were refused once: only new refusals say something about the others."""
        self._ask_with_new = True
        self._denials_in_a_row = 0
        self._pause = PAUSE_FIRST_SECONDS
        self._paused_until = 0.0
        self.seen = 0
        """The sequence up to which lines were looked at."""

    @property
    def cursor(self) -> int:
        """The sequence up to which nothing is owed any more."""
        firsts = [min(held) for held in (self._flying, self._denied) if held]
        if self._ready:
            firsts.append(self._ready[0].sequence)
        return min(firsts) - 1 if firsts else self.seen

    @property
    def waiting(self) -> int:
        """How many looked-at events are not acknowledged."""
        return len(self._ready) + len(self._flying) + len(self._denied)

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
        self._asked_again.clear()
        self._ask_with_new = True
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
            self._ready.append(Owed(line.sequence, topic, line.raw))

    def take(self, now_seconds: float) -> Owed | None:
        """Return the next event to publish, which is in flight from then on; None while there is nothing."""
        may_ask_again = bool(self._denied) and not self._flying and now_seconds >= self._paused_until
        if self._denials_in_a_row >= DENIALS_BEFORE_PAUSE or len(self._denied) >= DENIED_MOST:
            # Nothing seems to be let through: one question a pause, in turn with the oldest refused event and with a
            # new one, so that a topic denied for good doesn't hold back the others.
            if not may_ask_again:
                return None
            self._ask_with_new = not self._ask_with_new
            owed = self._ready.popleft() if self._ask_with_new and self._ready else self._oldest_denied()
        elif self._ready:
            owed = self._ready.popleft()
        elif may_ask_again:
            owed = self._oldest_denied()
        else:
            return None
        self._flying[owed.sequence] = owed
        return owed

    def _oldest_denied(self) -> Owed:
        return self._denied.pop(next(iter(self._denied)))

    def acknowledge(self, sequence: int) -> None:
        """Note that the broker took the event."""
        if self._flying.pop(sequence, None) is not None:
            self._asked_again.discard(sequence)
            self._denials_in_a_row = 0
            self._pause = PAUSE_FIRST_SECONDS

    def deny(self, sequence: int, now_seconds: float) -> None:
        """Note that the broker refused the event; it stays owed and is tried again after a pause."""
        owed = self._flying.pop(sequence, None)
        if owed is None:
            return
        self._denied[sequence] = owed
        self._denied = dict(sorted(self._denied.items()))
        if sequence not in self._asked_again:
            self._denials_in_a_row += 1
            self._asked_again.add(sequence)
        if now_seconds >= self._paused_until:
            self._paused_until = now_seconds + self._pause
            self._pause = min(self._pause * 2, PAUSE_MOST_SECONDS)

    def paused_for(self, now_seconds: float) -> float:
        """Return the seconds until a refused event is tried again, 0 when nothing is paused."""
        return max(0.0, self._paused_until - now_seconds)

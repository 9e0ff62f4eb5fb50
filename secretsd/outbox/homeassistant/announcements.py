"""What is due to be said to Home Assistant: its entities and the overview. No I/O.

It is slow on purpose, and repeats itself only so often, whoever asks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from typing import Final, Protocol

from msgspec import Struct

from secretsd.outbox.homeassistant.entities import Discovery

IN_FLIGHT_MOST: Final = 8
"""How much of all this may stand before a change on the wire."""
SLICE: Final = 20
SLICE_SECONDS: Final = 0.1
"""So 200 messages a second at most: a thousand secrets take ten seconds, and a small machine keeps up."""
LOOK_SECONDS: Final = 1.0
"""How often the vault is looked at for what changed, at most."""
DENIED_PAUSE_SECONDS: Final = 60.0
BIRTHS_AT_ONCE: Final = 3
BIRTH_EARNED_SECONDS: Final = 60.0
"""Everything is repeated for three births at once, and then once a minute: a hostile broker can say no end of them."""


class Announcement(Struct, frozen=True):
    """A retained message; an empty payload takes away what is there."""

    topic: str
    payload: bytes


class Known(Protocol):
    """What the announcements are about."""

    def names(self) -> Iterable[str]:
        """Return every name that there is or was."""

    def shown(self) -> AbstractSet[str]:
        """Return the names of the secrets that get entities."""

    def overview(self) -> bytes:
        """Return the overview as it stands."""


class Announcements:
    """Says once what was not said on this connection yet, and what changed."""

    def __init__(self, discovery: Discovery, known: Known, wait_seconds: Callable[[], float]) -> None:
        """`wait_seconds` is random: how long after a birth everything is repeated."""
        self._discovery = discovery
        self._known = known
        self._wait_seconds = wait_seconds
        self._on = discovery.settings.discovery
        self._ready: deque[Announcement] = deque()
        self._refused: deque[Announcement] = deque()
        self._due: dict[str, None] = {}
        self._said: set[str] = set()
        """The secrets whose entities are announced on this connection."""
        self._changed = False
        self._looked_at = float("-inf")
        self._overview_said: bytes | None = None
        self._gone, self._slice_at = 0, float("-inf")
        self._paused_until = float("-inf")
        self._births, self._earned_at = float(BIRTHS_AT_ONCE), 0.0
        self._repeat_at: float | None = None
        self.in_flight = 0

    @property
    def birth_topic(self) -> str | None:
        """Where Home Assistant says that it has started; None where nothing is announced."""
        return f"{self._discovery.settings.discovery_prefix}/status" if self._on else None

    def repeat(self) -> None:
        """Say everything anew: entities, overview, and that the entities of what is no longer shown are gone."""
        self.forget()
        self._overview_said = None
        self._changed = self._on
        if self._on:
            self._ready.extend(Announcement(*message) for message in self._discovery.fixed())
        else:
            topics = [*self._discovery.fixed_topics(), self._discovery.overview_topic]
            self._ready.extend(Announcement(topic, b"") for topic in topics)
        self._due = dict.fromkeys(self._known.names())

    def changed(self) -> None:
        """Look soon at what changed: the overview, secrets that are new, secrets that are no longer shown."""
        self._changed = self._on

    def born(self, now_seconds: float) -> None:
        """Take up that Home Assistant has started: everything is repeated soon, for so many births only."""
        earned = (now_seconds - self._earned_at) / BIRTH_EARNED_SECONDS
        self._births, self._earned_at = min(float(BIRTHS_AT_ONCE), self._births + earned), now_seconds
        if not self._on or self._repeat_at is not None:
            return
        late = 0.0 if self._births >= 1 else (1 - self._births) * BIRTH_EARNED_SECONDS
        self._births -= 1
        self._repeat_at = now_seconds + late + self._wait_seconds()

    def take(self, now_seconds: float) -> Announcement | None:
        """Return the next message to publish, which is in flight from then on; None while there is nothing."""
        if self._repeat_at is not None and now_seconds >= self._repeat_at:
            self._repeat_at = None
            self.repeat()
        if self.in_flight >= IN_FLIGHT_MOST or self.rest(now_seconds) > 0:
            return None
        chosen = self._news(now_seconds) or self._entity() or (self._refused.popleft() if self._refused else None)
        if chosen is not None:
            if now_seconds >= self._slice_at + SLICE_SECONDS:
                self._gone, self._slice_at = 0, now_seconds
            self._gone += 1
            self.in_flight += 1
        return chosen

    def rest(self, now_seconds: float) -> float:
        """Return the seconds until the next message may go; 0: it may now."""
        slice_over = self._slice_at + SLICE_SECONDS if self._gone >= SLICE else now_seconds
        return max(0.0, self._paused_until - now_seconds, slice_over - now_seconds)

    def settled(self) -> None:
        """Note that a message is no longer in flight."""
        self.in_flight -= 1

    def denied(self, announcement: Announcement, now_seconds: float) -> None:
        """Note that the broker refused a message; it is tried again after a pause, behind all others."""
        self._paused_until = now_seconds + DENIED_PAUSE_SECONDS
        if announcement.topic == self._discovery.overview_topic and announcement.payload:
            self._overview_said, self._changed = None, True
        else:
            self._refused.append(announcement)

    def forget(self) -> None:
        """Drop everything: the connection is gone, and the next one repeats all."""
        self._ready.clear()
        self._refused.clear()
        self._due.clear()
        self._said.clear()
        self._changed = False
        self._repeat_at = None
        self._paused_until = float("-inf")

    def _news(self, now_seconds: float) -> Announcement | None:
        """Look at what changed, once the device's own entities are said; return the overview where it is another."""
        if self._ready or not self._changed or now_seconds < self._looked_at + LOOK_SECONDS:
            return None
        self._changed, self._looked_at = False, now_seconds
        if not self._due:
            self._due = dict.fromkeys(sorted(self._known.shown() ^ self._said))
        payload = self._known.overview()
        if payload == self._overview_said:
            return None
        self._overview_said = payload
        return Announcement(self._discovery.overview_topic, payload)

    def _entity(self) -> Announcement | None:
        """Return the next message about an entity; those of one secret are made only when it is their turn."""
        while not self._ready and self._due:
            name = next(iter(self._due))
            del self._due[name]
            if self._on and name in self._known.shown():
                self._said.add(name)
                self._ready.extend(Announcement(*message) for message in self._discovery.of_secret(name))
            else:
                self._said.discard(name)
                self._ready.extend(Announcement(topic, b"") for topic in self._discovery.secret_topics(name))
            # Something may have changed while these were said.
            self._changed = self._on and (self._changed or not self._due)
        return self._ready.popleft() if self._ready else None

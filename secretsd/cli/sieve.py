"""tail's judgement: which messages are the daemon's, which are shown, and what is missing between them.

Events come on up to two topics, and again after an outage; the audit topics bring every line of the log in order
(docs/events.md). So a line that skips some says that they were lost, or aren't published (`bus.audit`), and one that
wasn't seen before and is older than what the audit topics have reached is a repetition: a replay, as far as we know.
"""

from __future__ import annotations

import fnmatch
import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from secretsd_bus import (
    Event,
    KeyRing,
    Refused,
    Topics,
    Verifier,
    VerifyKey,
    follow_published,
    line_hash,
    verify_line,
)

REMEMBERED: Final = 20_000
"""How many ids are kept to know a redelivery by: each event of a secret comes on two topics."""

UNCHAINED: Final = frozenset({"secret.state", "audit.checkpoint", "daemon.status"})
HISTORY: Final = "GET /audit"
"""Where a line of the history is said to stand."""


@dataclass(frozen=True)
class Forged:
    """A message that the daemon didn't say, or not so, or not there, or not now."""

    topic: str
    slug: str
    size: int


@dataclass(frozen=True)
class Missing:
    """Lines of the log that didn't come."""

    first: int
    last: int


Shown = Event | Forged | Missing


@dataclass(frozen=True)
class Filters:
    """Globs, of which one has to match where any are given."""

    secrets: Sequence[str] = ()
    clients: Sequence[str] = ()
    types: Sequence[str] = ()
    outcomes: Sequence[str] = ()
    everything: bool = False
    """Retained states, checkpoints and statuses too."""

    def wants(self, event: Event) -> bool:
        """Tell whether the event is asked for."""
        if event.type in UNCHAINED and not self.everything:
            return False
        data = event.data
        return (
            _matches(self.secrets, data.get("name"))
            and _matches(self.clients, data.get("client"))
            and _matches(self.types, event.type)
            and _matches(self.outcomes, data.get("outcome"))
        )


class Sieve:
    """Lets verified events through once each. Follows the daemon's key when it is rotated."""

    def __init__(self, topics: Topics, keys: Sequence[VerifyKey], filters: Filters | None = None) -> None:
        self._keyring = KeyRing(keys)
        self._newest_key = keys[-1]
        self._verifier = Verifier(topics, self._keyring)
        self._key_sets = f"{topics.prefix}/keys/"
        self._audit = f"{topics.prefix}/audit/"
        self._filters = filters or Filters()
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._heard: Event | None = None
        self._read: Event | None = None

    @property
    def position(self) -> int | None:
        """The last line of the log that the audit topics or the history have reached, None before the first."""
        newest = self._newest()
        return None if newest is None else newest.sequence

    def take(self, topic: str, payload: bytes, *, stop_at_gap: bool = False) -> list[Shown]:
        """Return what is to be shown of a message: nothing where it was seen already, or isn't asked for.

        With `stop_at_gap` a message before which lines are missing gives only that; give it again when they are read.
        """
        if not payload:
            return []  # a retained message was taken away: it says nothing that could be believed
        if topic.startswith(self._key_sets):
            self._follow_published(payload)
            return []
        try:
            event = self._verifier.verify(topic, payload)
        except Refused as refused:
            return [Forged(topic, refused.slug, len(payload))]
        if event.sequence is None or not topic.startswith(self._audit):
            return self._unless_stale(event, topic)
        wrong = self._link(event, topic)
        if stop_at_gap and any(isinstance(one, Missing) for one in wrong):
            return wrong
        shown = self._unless_stale(event, topic)
        if event.sequence > _sequence(self._heard):
            self._heard = event
        return wrong + shown

    def take_line(self, raw: bytes) -> list[Shown]:
        """Return what is to be shown of a line of the history, read in order from `position` on."""
        try:
            event = verify_line(raw, self._keyring)
        except Refused as refused:
            return [Forged(HISTORY, refused.slug, len(raw))]
        wrong = self._link(event, HISTORY)
        self._read = event
        return wrong + self._if_wanted(event, fresh=self._first_time(event))

    def _newest(self) -> Event | None:
        return max((self._heard, self._read), key=_sequence)

    def _unless_stale(self, event: Event, topic: str) -> list[Shown]:
        fresh = self._first_time(event)
        if fresh and event.sequence is not None:
            if event.sequence <= _sequence(self._heard):
                return [Forged(topic, "stale", len(event.raw))]
            if event.sequence <= _sequence(self._read):
                return []  # from before the time that the history was asked for
        return self._if_wanted(event, fresh=fresh)

    def _link(self, event: Event, place: str) -> list[Shown]:
        """Return what is wrong between the newest line so far and a newer one."""
        before = self._newest()
        if before is None or event.sequence is None or before.sequence is None or event.sequence <= before.sequence:
            return []
        if event.sequence > before.sequence + 1:
            return [Missing(before.sequence + 1, event.sequence - 1)]
        return [] if event.prev == line_hash(before.raw) else [Forged(place, "broken-chain", len(event.raw))]

    def _first_time(self, event: Event) -> bool:
        if event.id in self._seen:
            return False
        self._seen[event.id] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        if event.type == "audit.key_rotated" and event.keyid == self._newest_key.keyid:
            # A key that was itself rotated names no successor any more.
            self._newest_key = self._keyring.follow(event) or self._newest_key
        return True

    def _follow_published(self, payload: bytes) -> None:
        """Go on with the key that ours was rotated to; the set itself is believed nothing but the lines in it."""
        try:
            keys = json.loads(payload)["keys"]
            self._newest_key, _ = follow_published(self._newest_key, keys if isinstance(keys, list) else ())
        except (ValueError, KeyError, TypeError, RecursionError):
            return
        self._keyring.add(self._newest_key)

    def _if_wanted(self, event: Event, *, fresh: bool) -> list[Shown]:
        return [event] if fresh and self._filters.wants(event) else []


def _sequence(event: Event | None) -> int:
    return -1 if event is None or event.sequence is None else event.sequence


def _matches(globs: Sequence[str], text: object) -> bool:
    return not globs or (isinstance(text, str) and any(fnmatch.fnmatchcase(text, glob) for glob in globs))

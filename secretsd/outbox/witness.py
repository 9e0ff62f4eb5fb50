"""What the broker remembers of this daemon: its own retained checkpoint is the third witness against a rollback.

A checkpoint counts only when this daemon's key signed it, or one of its past keys up to its end. No I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from secretsd_bus import Event, Message, Refused, Topics, Verifier

from secretsd.audit.eventkeys import EventKeys
from secretsd.model import is_name

FOREIGN_MOST: Final = 16
"""How many foreign topics are remembered; whoever writes there could invent any number."""


class RolledBack(Exception):
    """The broker remembers a newer vault than this one: nothing must be published over that."""


class SessionTaken(Exception):
    """The broker remembers a connection of ours with this number or a later one: it must not be used twice."""

    def __init__(self, session: int) -> None:
        super().__init__(f"the broker remembers our session {session}; ours goes on from there")
        self.session = session


@dataclass(frozen=True, slots=True)
class Position:
    """Where the daemon itself is."""

    epoch: str
    past_epochs: frozenset[str]
    generation: int
    sequence: int


class Witness:
    """Looks at what arrives on the status and checkpoint topics under the prefix."""

    def __init__(self, topics: Topics, keys: EventKeys, log_id: str) -> None:
        self._topics = topics
        self._log_id = log_id
        self._verifier = Verifier(topics, keys.ring())
        self._ends = {past.key.keyid: past.last_sequence for past in keys.past}
        self.foreign: set[str] = set()
        """Topics on which somebody else speaks as a daemon."""
        self.copies: set[str] = set()
        """Topics on which somebody else speaks with this daemon's key: a copy of its vault is served."""

    @property
    def filters(self) -> list[str]:
        """What to subscribe to."""
        return [self._topics.checkpoint("+"), self._topics.status("+")]

    def own(self, topic: str, payload: bytes) -> Event | None:
        """Return the message if this daemon wrote it, at any time; None for others', which are remembered."""
        if not payload:
            return None
        try:
            event = self._verifier.verify(topic, payload)
        except Refused:
            self._note(topic)
            return None
        if not event.id.startswith(f"{self._log_id}-") or self._after_its_end(event):
            self._note(topic)
            return None
        return event

    def displaces(self, message: Message, node: str, session: int) -> bool:
        """Look at what arrives while we are `session` of `node`; tell whether it stands where our `online` should.

        An earlier connection's will may do that: a broker that didn't see it end publishes it when we are back.
        """
        event = self.own(message.topic, message.payload)
        ours = event is not None and session_of(event) == session and event.data.get("state") == "online"
        if event is not None and not message.retain and _lives_elsewhere(event, node, session):
            self.copies.add(message.topic)
        return message.topic == self._topics.status(node) and not ours

    def _after_its_end(self, event: Event) -> bool:
        """Tell whether a past key signed a checkpoint of later: whoever stole it, not this daemon."""
        end, sequence = self._ends.get(event.keyid), event.data.get("sequence", 0)
        return end is not None and isinstance(sequence, int) and sequence > end

    def _note(self, topic: str) -> None:
        # A broker can deliver what nobody subscribed to, on topics made to look like lines of the log.
        a_daemons = any(
            topic.startswith(start) and is_name(topic.removeprefix(start))
            for start in (self._topics.status(""), self._topics.checkpoint(""))
        )
        if a_daemons and len(self.foreign) < FOREIGN_MOST:
            self.foreign.add(topic)


def _lives_elsewhere(event: Event, node: str, session: int) -> bool:
    """Tell whether a message that has just been published, with our key, can't be this process's.

    What an earlier process said, when the node had another name perhaps, may come late: its will does.
    """
    if event.data.get("state") == "offline":
        return False
    return event.source.rpartition("/")[2] != node or session_of(event) > session


def session_of(event: Event) -> int:
    """Return the session that a message of this daemon names, 0 for none."""
    session = event.data.get("session")
    return session if isinstance(session, int) else 0


def older_than(position: Position, checkpoint: Mapping[str, Any]) -> str | None:
    """Return how much older `position` is than a checkpoint of this daemon; None when it isn't older.

    A checkpoint of an epoch that was knowingly ended says nothing.
    """
    epoch, generation, sequence = (
        checkpoint.get("epoch"),
        checkpoint.get("generation"),
        checkpoint.get("sequence"),
    )
    if not isinstance(epoch, str) or not isinstance(generation, int) or not isinstance(sequence, int):
        return None
    if epoch in position.past_epochs:
        return None
    if epoch != position.epoch:
        return "the broker's checkpoint is of an epoch that this vault does not know"
    if generation > position.generation:
        return f"vault.json is older than the broker's checkpoint by {generation - position.generation} commits"
    if sequence > position.sequence:
        return f"the audit log is older than the broker's checkpoint by {sequence - position.sequence} lines"
    return None


@dataclass(frozen=True, slots=True)
class KnownLine:
    """A line of the log as the broker remembers it."""

    sequence: int
    head: str


def known_line(position: Position, checkpoint: Mapping[str, Any]) -> KnownLine | None:
    """Return the line that a checkpoint of this epoch vouches for; None where it says nothing about our log."""
    sequence, head = checkpoint.get("sequence"), checkpoint.get("head")
    if checkpoint.get("epoch") != position.epoch or not isinstance(sequence, int) or not isinstance(head, str):
        return None
    return KnownLine(sequence, head) if sequence > 0 else None


def another_log(line: KnownLine, own_head: str | None) -> str | None:
    """Return that our log went another way than the broker remembers; None when it didn't, or lacks the line by now.

    So an older state is seen too that was put back while the broker was away, and has grown since.
    """
    if own_head in {None, line.head}:
        return None
    return f"line {line.sequence} of the audit log is another than the broker's checkpoint knows: an older log went on"

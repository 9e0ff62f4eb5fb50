"""Which lines belong in which lane, and the lines themselves, read back from the log. Blocks where it reads."""

from __future__ import annotations

from collections.abc import Callable, Collection
from itertools import islice
from typing import Final

import msgspec
from secretsd_bus import PREFIX, SECRET_VERBS, Topics, line_hash

from secretsd.audit.eventkeys import KEY_ROTATED
from secretsd.audit.reader import LogReader
from secretsd.config import BusAudit
from secretsd.outbox.lane import Line

CHUNK_LINES: Final = 512
_ACCESSES: Final = {"secret.read", "secret.acknowledged", "secret.listed"}


class _Subject(msgspec.Struct, frozen=True):
    subject: str | None = None


def changes_topic(topics: Topics) -> Callable[[Line], str | None]:
    """Return what tells a change's own topic, None for lines that are no change of a secret."""

    def topic_of(line: Line) -> str | None:
        category, _, verb = line.type.partition(".")
        if category != "secret" or verb not in SECRET_VERBS or line.subject is None:
            return None
        return topics.secret_event(line.subject, verb)

    return topic_of


def audit_topic(topics: Topics, wanted: BusAudit) -> Callable[[Line], str | None]:
    """Return what tells a line's audit topic, None for lines that the configuration keeps off the bus."""

    def topic_of(line: Line) -> str | None:
        if line.type == KEY_ROTATED:
            return topics.audit(*line.type.split("."))  # who verifies has to hear of it, whatever else is published
        if wanted == "none" or (wanted == "changes" and line.type in _ACCESSES):
            return None
        category, _, verb = line.type.partition(".")
        return topics.audit(category, verb)

    return topic_of


def event_topic(topic: str, types: Collection[str], wanted: BusAudit) -> Callable[[Line], str | None]:
    """Return what tells the lines that become events in Home Assistant; all go to one topic.

    What the configuration keeps off the audit's topics isn't told here either, save for changes of secrets.
    """

    def topic_of(line: Line) -> str | None:
        told = line.type in types and (wanted != "none" or line.type.startswith("secret."))
        return topic if told else None

    return topic_of


def read_lines(reader: LogReader, after: int, durable: int) -> list[Line]:
    """Return the next lines after a sequence, none beyond the newest durable one; empty at the log's end."""
    found: list[Line] = []
    for place, raw in islice(reader.lines(after), CHUNK_LINES):
        if place.number > durable:
            break
        subject = msgspec.json.decode(raw, type=_Subject).subject
        found.append(Line(place.number, place.type.removeprefix(PREFIX), subject, raw))
    return found


def head_at(reader: LogReader, sequence: int) -> str | None:
    """Return the hash of the line `sequence`; None when it is no longer there."""
    found = next(reader.lines(sequence - 1), None)
    return line_hash(found[1]) if found is not None and found[0].number == sequence else None


def first_after(reader: LogReader, after: int, since: str) -> int | None:
    """Return the sequence of the first line after `after` that is still there and not older than `since` (RFC 3339).

    What follows it may be older, where the clock was set back.
    """
    return next((place.number for place, _ in reader.lines(after) if place.time >= since), None)

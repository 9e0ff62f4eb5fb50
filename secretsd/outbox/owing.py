"""What is owed to the broker, whichever connection it goes over."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from secretsd.outbox.homeassistant.announcements import Announcements
from secretsd.outbox.lane import Lane
from secretsd.outbox.retained import RetainedQueue


@dataclass(slots=True)
class Owing:
    """What outlives a connection: the lanes, and the retained messages that are due."""

    changes: Lane
    audit: Lane
    events: Lane
    """What Home Assistant is told of the audit: a copy, whose refusal does no harm."""
    retained: RetainedQueue
    announcements: Announcements
    wake: asyncio.Event

    @property
    def promised(self) -> tuple[Lane, Lane]:
        """The lanes that every subscriber may rely on."""
        return self.changes, self.audit

    @property
    def lanes(self) -> tuple[Lane, Lane, Lane]:
        """All lanes by precedence."""
        return self.changes, self.audit, self.events

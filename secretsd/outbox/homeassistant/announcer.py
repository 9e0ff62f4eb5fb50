"""Publishes what is due to Home Assistant on one connection, and hears when it has started."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from secretsd_bus import BusDenied, Link, Message

from secretsd.metrics import Metrics
from secretsd.outbox.homeassistant.announcements import Announcement, Announcements

log = logging.getLogger(__name__)

JSON_TYPE = "application/json"
LANE = "homeassistant"
"""What its refusals are counted under."""


class Announcer:
    """Behind everything else on the link. What the broker refuses is told, and does no harm."""

    def __init__(self, link: Link, due: Announcements, metrics: Metrics, wake: asyncio.Event) -> None:
        self._link = link
        self._due = due
        self._metrics = metrics
        self._wake = wake
        self._told = False

    async def listen(self) -> None:
        """Subscribe to Home Assistant's births, where there is something to say to it. Raises BusLost."""
        topic = self._due.birth_topic
        if topic is None:
            return
        try:
            await self._link.subscribe([topic])
        except BusDenied as error:
            log.warning("bus: the broker denies %s: %s; Home Assistant is told all the same", topic, error)

    def hear(self, message: Message, now_seconds: float) -> bool:
        """Take up a birth; tell whether it was one, or anything else on its topic. It causes a repetition, no more."""
        if message.topic != self._due.birth_topic:
            return False
        if message.payload == b"online":
            self._due.born(now_seconds)
            self._wake.set()
        return True

    def publish_next(self, now: Callable[[], float]) -> bool:
        """Publish one message; False when none is due."""
        chosen = self._due.take(now())
        if chosen is None:
            return False

        def settled(future: asyncio.Future[None]) -> None:
            self._due.settled()
            error = None if future.cancelled() else future.exception()
            if isinstance(error, BusDenied):
                self._metrics.publish_denied.labels(LANE).inc()
                self._tell(chosen, error)
                self._due.denied(chosen, now())
            self._wake.set()

        published = self._link.publish(chosen.topic, chosen.payload, retain=True, content_type=JSON_TYPE)
        published.add_done_callback(settled)
        return True

    def _tell(self, announcement: Announcement, error: BusDenied) -> None:
        # Where nothing is announced the broker need not let us withdraw it either.
        if not self._told and self._due.birth_topic is not None:
            log.warning(
                "bus: the broker denies what Home Assistant is told, %s: %s; all else goes on. Give the daemon's user "
                "the rights in docs/home-assistant.md, or set [homeassistant] discovery = false",
                announcement.topic,
                error,
            )
        self._told = True

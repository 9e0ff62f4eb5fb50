"""One broker connection: what is said first, and then by precedence until it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec
from secretsd_bus import BusDenied, BusLost, Event, Link, Topics, Unchained, rfc3339
from secretsd_bus.payloads import Checkpoint, Presence

from secretsd.audit.log import AuditLog
from secretsd.audit.reader import LogReader
from secretsd.clock import Clock
from secretsd.config import Bus
from secretsd.metrics import Metrics
from secretsd.outbox.feed import head_at, read_lines
from secretsd.outbox.homeassistant.announcements import IN_FLIGHT_MOST
from secretsd.outbox.homeassistant.announcer import Announcer
from secretsd.outbox.inbox import Inbox
from secretsd.outbox.lane import Lane
from secretsd.outbox.owing import Owing
from secretsd.outbox.pace import Pace
from secretsd.outbox.standing import Standing
from secretsd.outbox.witness import (
    RolledBack,
    SessionTaken,
    Witness,
    another_log,
    known_line,
    older_than,
    session_of,
)

log = logging.getLogger(__name__)

ECHO_SECONDS: Final = 2.0
ACK_SECONDS: Final = 15.0
HAND_OVER_SECONDS: Final = 2.0
"""How long the line that introduces a signing key is waited for, before that key is used on the bus."""
AUDIT_IN_FLIGHT: Final = 16
"""How much of the audit backlog may stand before a change on the wire."""
KEYS_TYPE: Final = "application/jwk-set+json"


@dataclass(frozen=True, slots=True)
class _Ending:
    """Until when a connection is held: to the acknowledgement of a line, at the latest to a time."""

    sequence: int
    latest: float
    reason: str


def status(sealer: Unchained, state: Literal["online", "offline"], clock: Clock) -> Event:
    """Return the daemon's status, `online` or `offline`."""
    presence = Presence(state=state, session=sealer.session)
    return sealer.seal("daemon.status", None, presence.data(), rfc3339(clock.now_ms()))


class Session:
    """Says what stands and publishes what is owed, over one connection."""

    def __init__(
        self,
        link: Link,
        bus: Bus,
        sealer: Unchained,
        owing: Owing,
        standing: Standing,
        audit: AuditLog,
        reader: LogReader,
        clock: Clock,
        metrics: Metrics,
        on_pause: Callable[[], None],
    ) -> None:
        self._link = link
        self._bus = bus
        self._topics = Topics(bus.topic_prefix)
        self._sealer = sealer
        self._owing = owing
        self._standing = standing
        self._audit = audit
        self._reader = reader
        self._clock = clock
        self._metrics = metrics
        self._on_pause = on_pause
        self._pace = Pace(lambda: audit.busy)
        self.announcer = Announcer(link, owing.announcements, metrics, owing.wake)
        self._acknowledged = {lane.name: metrics.publish_seconds.labels(lane.name) for lane in owing.lanes}
        self._ending: _Ending | None = None
        self.refused = False
        """Whether the broker has refused something retained since it was last published whole."""

    async def introduce(self, witness: Witness, inbox: Inbox) -> None:
        """Ask the broker what it remembers of us, before anything there is overwritten, and say that we are here.

        Retained messages come after the subscription and before the echo of what is published then; so when our own
        status comes back, everything retained has been seen. A broker that doesn't let us read is no witness.
        Raises RolledBack, SessionTaken, BusLost.
        """
        try:
            async with asyncio.timeout(ACK_SECONDS):
                with contextlib.suppress(BusDenied):
                    await self._link.subscribe(witness.filters)
                online = status(self._sealer, "online", self._clock)
                await asyncio.wait([self._say_online(online)])
        except TimeoutError:
            raise BusLost(f"the broker accepts us and acknowledges nothing for {ACK_SECONDS:.0f} s") from None
        remembered: Mapping[str, Any] | None = None
        newest = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ECHO_SECONDS):
                while not self._link.closed.done():
                    message = await inbox.get()
                    if message.payload == online.raw:
                        break
                    event = witness.own(message.topic, message.payload)
                    if event is None:
                        continue
                    newest = max(newest, session_of(event))
                    if message.topic == self._topics.checkpoint(self._bus.node):
                        remembered = event.data
        if self._link.closed.done():
            raise BusLost(self._link.closed.result())
        if remembered is not None:
            await self._confront(remembered)
        if newest >= self._sealer.session:
            raise SessionTaken(newest)
        self._say_keys()
        self._owing.retained.checkpoint_due = True

    async def _confront(self, checkpoint: Mapping[str, Any]) -> None:
        """Compare what the broker remembers with where we are. Raises RolledBack."""
        position = self._standing.position()
        older = older_than(position, checkpoint)
        line = known_line(position, checkpoint)
        if older is None and line is not None:
            older = another_log(line, await asyncio.to_thread(head_at, self._reader, line.sequence))
        if older is not None:
            raise RolledBack(older)

    async def pump(self) -> str:
        """Publish by precedence until the connection ends; return why it did. Raises BusLost."""
        reminder = asyncio.get_running_loop().create_task(self._remind())
        try:
            while not self._link.closed.done():
                if (reason := self._has_to_end()) is not None:
                    return reason
                if self._link.in_flight >= self._link.window:
                    await self._wait_window()
                elif not self._publish_next() and not await self._read_on():
                    self._owing.wake.clear()
                    self._on_pause()
                    await self._sleep()
            return self._link.closed.result()
        finally:
            reminder.cancel()

    def end_after(self, sequence: int, reason: str) -> None:
        """Let the connection end when the audit line `sequence` is acknowledged, or that takes too long."""
        self._ending = _Ending(sequence, self._now() + HAND_OVER_SECONDS, reason)
        self._owing.wake.set()

    def _has_to_end(self) -> str | None:
        ending = self._ending
        if ending is None or (self._owing.audit.cursor < ending.sequence and self._now() < ending.latest):
            return None
        return ending.reason

    async def sign_off(self) -> None:
        """Say that we are gone, so that the broker need not."""
        with contextlib.suppress(BusDenied, BusLost, TimeoutError):
            offline = status(self._sealer, "offline", self._clock)
            published = self._link.publish(self._topics.status(self._bus.node), offline.raw, retain=True)
            async with asyncio.timeout(1.0):
                await published

    def _publish_next(self) -> bool:
        """Publish one message, by precedence; False when there is none, or when the log has to be read on first.

        A displaced status, an overdue checkpoint, changes, their states, the checkpoint after them; and once no change
        is owed the states that are merely repeated, the audit, and behind everything what is for Home Assistant.
        """
        owing = self._owing
        changes_read = owing.changes.seen >= self._audit.told or not owing.changes.wants_lines
        return (
            (owing.retained.take_status(self._now()) and self._publish_status())
            or (owing.retained.take_checkpoint(overdue=True) and self._publish_checkpoint())
            or self._publish_owed(owing.changes)
            or self._publish_state(owing.retained.take_changed())
            or (owing.retained.take_checkpoint(overdue=False) and self._publish_checkpoint())
            or (changes_read and (self._publish_state(owing.retained.take_repeated()) or self._publish_backlog()))
            or self._publish_for_homeassistant()
        )

    def _publish_for_homeassistant(self) -> bool:
        in_flight = self._owing.events.in_flight + self._owing.announcements.in_flight
        return in_flight < IN_FLIGHT_MOST and (
            self._publish_owed(self._owing.events) or self.announcer.publish_next(self._now)
        )

    def _publish_backlog(self) -> bool:
        if self._owing.audit.in_flight >= AUDIT_IN_FLIGHT or self._pace.rest(self._now()) > 0:
            return False
        published = self._publish_owed(self._owing.audit)
        if published:
            self._pace.went(self._now())
        return published

    def _publish_owed(self, lane: Lane) -> bool:
        owed = lane.take(self._now())
        if owed is None:
            return False
        started, acknowledged = time.perf_counter(), self._acknowledged[lane.name]

        def settled(future: asyncio.Future[None]) -> None:
            # What was cancelled is not acknowledged: it stays owed.
            error = asyncio.CancelledError() if future.cancelled() else future.exception()
            if error is None:
                acknowledged.observe(time.perf_counter() - started)
                self._took_one()
                lane.acknowledge(owed.sequence)
            elif isinstance(error, BusDenied):
                self._metrics.publish_denied.labels(lane.name).inc()
                if not lane.denied:
                    log.warning("bus: the broker denies events of the lane %r: %s; they stay owed", lane.name, error)
                lane.deny(owed.sequence, self._now())
            self._owing.wake.set()

        self._link.publish(owed.topic, owed.payload).add_done_callback(settled)
        return True

    def _publish_state(self, name: str | None) -> bool:
        if name is None:
            return False
        data = self._standing.state(name)
        if data is not None:
            event = self._sealer.seal("secret.state", name, dict(data), rfc3339(self._clock.now_ms()))
            self._retain(self._topics.secret_state(name), event.raw, "a secret's state")
        return True

    def _publish_checkpoint(self) -> bool:
        reached = Checkpoint(
            **self._standing.checkpoint(), session=self._sealer.session, interval_secs=self._bus.checkpoint_secs
        )
        event = self._sealer.seal("audit.checkpoint", None, reached.data(), rfc3339(self._clock.now_ms()))
        self._retain(self._topics.checkpoint(self._bus.node), event.raw, "the checkpoint")
        return True

    def _publish_status(self) -> bool:
        self._say_online(status(self._sealer, "online", self._clock))
        return True

    def _say_online(self, online: Event) -> asyncio.Future[None]:
        return self._retain(self._topics.status(self._bus.node), online.raw, "the status")

    def _say_keys(self) -> None:
        key_set = msgspec.json.encode(self._standing.key_set(), order="sorted")
        self._retain(self._topics.keys(self._bus.node), key_set, "the key set", KEYS_TYPE)

    def _retain(self, topic: str, payload: bytes, what: str, content_type: str | None = None) -> asyncio.Future[None]:
        """Publish what stands; return what is done with its acknowledgement.

        Lost with the connection it is said anew on the next one; refused, with a reminder.
        """

        def settled(future: asyncio.Future[None]) -> None:
            error = None if future.cancelled() else future.exception()
            if isinstance(error, BusDenied):
                self._metrics.publish_denied.labels("retained").inc()
                if not self.refused:
                    log.warning("bus: the broker denies %s: %s; see docs/broker.md for the rights needed", what, error)
                self.refused = True
            elif error is None and not future.cancelled():
                self._took_one()

        if content_type is None:
            published = self._link.publish(topic, payload, retain=True)
        else:
            published = self._link.publish(topic, payload, retain=True, content_type=content_type)
        published.add_done_callback(settled)
        return published

    def _took_one(self) -> None:
        self._metrics.last_publish.set(self._clock.now_ms() / 1000)

    async def _read_on(self) -> bool:
        """Read on in the log for a lane that has fallen behind; tell whether there was anything."""
        for lane in self._owing.lanes:
            durable, after = self._audit.told, lane.seen
            rests = lane is not self._owing.changes and self._pace.rest(self._now()) > 0
            if after < durable and lane.wants_lines and lane.in_flight < AUDIT_IN_FLIGHT and not rests:
                lines = await asyncio.to_thread(read_lines, self._reader, after, durable)
                if lane.seen == after:
                    for line in lines:
                        lane.add(line)
                return bool(lines)
        return False

    async def _sleep(self) -> None:
        """Wait until there is something to do; the connection is ended when the broker has stopped acknowledging."""
        now = self._now()
        rests = (self._pace.rest(now), self._owing.announcements.rest(now))
        waits = (*rests, *(lane.paused_for(now) for lane in self._owing.lanes))
        pauses = [wait for wait in waits if wait > 0]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min([*pauses, 1.0])):
                await self._owing.wake.wait()
        self._end_silence()

    async def _wait_window(self) -> None:
        """Wait a while for room in the window. Raises BusLost when the connection goes."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._link.wait_window()
        self._end_silence()

    def _end_silence(self) -> None:
        if self._link.oldest_secs > ACK_SECONDS:
            self._link.abort(f"the broker has acknowledged nothing for {ACK_SECONDS:.0f} s")

    async def _remind(self) -> None:
        """Let the checkpoint be published every `checkpoint_secs`, and what was refused be tried again."""
        while True:
            await asyncio.sleep(self._bus.checkpoint_secs)
            if self.refused:
                self.refused = False
                self._owing.retained.status_due = True
                self._say_keys()
                self._owing.retained.repeat(self._standing.names())
            self._owing.retained.checkpoint_overdue = True
            # Time alone changes it: a secret's expiry passes, an hour ends, the clock falls into doubt.
            self._owing.announcements.changed()
            self._owing.wake.set()

    def _now(self) -> float:
        return self._clock.elapsed_ms() / 1000

"""Keeps the bus told: connects, says what stands, publishes what is owed, and remembers what was acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import msgspec
from msgspec.structs import replace
from secretsd_bus import (
    SECRET_VERBS,
    BusDenied,
    BusError,
    BusLost,
    BusRejected,
    BusUnreachable,
    Event,
    SigningKey,
    Topics,
    Unchained,
    rfc3339,
)
from secretsd_bus.link import Link, Message, Will

from secretsd.audit.log import AuditLog, Entry
from secretsd.audit.reader import LogReader
from secretsd.clock import Clock
from secretsd.config import Config
from secretsd.errors import AuditWriteError
from secretsd.metrics import Metrics
from secretsd.outbox import cursor as cursors
from secretsd.outbox.lane import Lane, Line
from secretsd.outbox.retained import RetainedQueue
from secretsd.outbox.witness import Position, Witness, older_than

log = logging.getLogger(__name__)

BACKOFF_FIRST_SECONDS: Final = 0.2
BACKOFF_MOST_SECONDS: Final = 30.0
ECHO_SECONDS: Final = 2.0
ACK_SECONDS: Final = 15.0
AUDIT_IN_FLIGHT: Final = 16
CHUNK_LINES: Final = 512
SAVE_SECONDS: Final = 1.0

Status = Literal["connected", "disconnected", "denied", "disabled"]


class Standing(Protocol):
    """What the publisher asks about the vault as it stands."""

    def position(self) -> Position:
        """Return epoch, generation and sequence."""

    def names(self) -> Sequence[str]:
        """Return every name that has a state, deleted ones too."""

    def state(self, name: str) -> Mapping[str, Any] | None:
        """Return the `data` of a name's state, None when it has none."""

    def checkpoint(self) -> Mapping[str, Any]:
        """Return sequence, head, epoch, generation and uptime_ms."""

    def key_set(self) -> Mapping[str, Any]:
        """Return the JWK set of the event-signing keys."""

    def rolled_back(self, reason: str) -> None:
        """Stop serving: the broker remembers a newer vault."""


class Publisher:
    """The daemon's side of the bus. `status` and `session` are for others to read."""

    def __init__(
        self,
        config: Config,
        audit: AuditLog,
        key: SigningKey,
        standing: Standing,
        clock: Clock,
        metrics: Metrics,
        audit_path: Path,
        cursor_path: Path,
    ) -> None:
        self._bus = config.bus
        self._audit = audit
        self._key = key
        self._standing = standing
        self._clock = clock
        self._metrics = metrics
        self._reader = LogReader(audit_path)
        self._cursor_path = cursor_path
        self._cursor = cursors.load(cursor_path, audit.log_id)
        self._topics = Topics(self._bus.topic_prefix)
        self._changes = Lane("changes", self._change_topic)
        self._backlog = Lane("audit", self._audit_topic)
        self._lanes = (self._changes, self._backlog)
        self._retained = RetainedQueue()
        self._wake = asyncio.Event()
        self._sealer: Unchained | None = None
        self._connection: Status = "disconnected"
        self._task: asyncio.Task[None] | None = None
        self._saved_at = 0.0
        self.foreign: frozenset[str] = frozenset()

    @property
    def session(self) -> int:
        """The number of the current broker connection, of the last one while there is none."""
        return self._cursor.session

    @property
    def status(self) -> Status:
        """`denied` while the broker refuses something that is owed."""
        if self._connection == "connected" and any(lane.denied for lane in self._lanes):
            return "denied"
        return self._connection

    def owed(self, lane: Literal["changes", "audit"]) -> float:
        """Return how many events wait for their acknowledgement; an estimate while they are still in the log."""
        chosen = self._changes if lane == "changes" else self._backlog
        return chosen.waiting + (max(0, self._audit.sequence - chosen.seen) if lane == "audit" else 0)

    def start(self) -> None:
        """Begin to connect, in the background."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self, seconds: float) -> None:
        """Publish what is owed for at most `seconds`, then sign off."""
        if self._task is None:
            return
        deadline = self._now() + seconds
        while self._connection == "connected" and self._now() < deadline and not self._settled():
            self._wake.set()
            await asyncio.sleep(0.01)
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def written(self, events: Sequence[Event]) -> None:
        """Take up events whose lines have just become durable."""
        lines = [Line(event.sequence or 0, event.type, event.subject, event.raw) for event in events]
        if self._connection == "connected":
            for lane in self._lanes:
                lane.follow(lines)
            self._wake.set()

    def committed(self, names: Sequence[str]) -> None:
        """Take up names whose state changed with a commit."""
        if self._connection == "connected":
            self._retained.changed(names)
            self._wake.set()

    async def _run(self) -> None:
        pause = BACKOFF_FIRST_SECONDS
        while True:
            try:
                reason = await self._one_connection()
                pause = BACKOFF_FIRST_SECONDS
                log.warning("bus: connection lost: %s", reason)
            except BusRejected as error:
                self._connection = "denied"
                log.warning("bus: the broker refuses us: %s", error)
            except (BusUnreachable, BusLost, BusDenied, OSError, ValueError) as error:
                self._connection = "disconnected"
                log.warning("bus: %s", error)
            self._metrics.bus_connected.set(0)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 — spreads reconnects, hides nothing
            pause = min(pause * 2, BACKOFF_MOST_SECONDS)

    async def _one_connection(self) -> str:
        """Hold one connection; return why it ended."""
        self._cursor = replace(self._cursor, session=self._cursor.session + 1)
        await asyncio.to_thread(cursors.save, self._cursor_path, self._cursor)
        sealer = Unchained(log_id=self._audit.log_id, node=self._bus.node, key=self._key, session=self.session)
        witness = Witness(self._topics, self._bus.node, self._key.public, self._audit.log_id)
        arrived: asyncio.Queue[Message] = asyncio.Queue()
        link = await Link.connect(
            self._bus.settings(),
            client_id=f"secretsd-{self._bus.node}-{secrets.token_hex(4)}",
            will=Will(self._topics.status(self._bus.node), self._status(sealer, "offline").raw),
            on_message=arrived.put_nowait,
        )
        try:
            await self._listen(link, witness, arrived, sealer)
            await self._begin(sealer)
            self._connection = "connected"
            self._metrics.bus_connected.set(1)
            log.info("bus: connected, MQTT %s, session %d", link.protocol, self.session)
            watcher = asyncio.get_running_loop().create_task(self._watch(arrived, witness))
            try:
                return await self._pump(link)
            finally:
                watcher.cancel()
        finally:
            orderly = self._task is not None and self._task.cancelling() > 0
            await self._end(link, sealer, orderly=orderly)

    async def _listen(self, link: Link, witness: Witness, arrived: asyncio.Queue[Message], sealer: Unchained) -> None:
        """Ask the broker what it remembers of us, before anything there is overwritten.

        Retained messages come after the subscription and before the echo of what is published then; so when our
        own status comes back, everything retained has been seen. A broker that doesn't let us read is no witness.
        """
        with contextlib.suppress(BusDenied):
            await link.subscribe(witness.filters)
        await self._publish_now(link, self._topics.status(self._bus.node), self._status(sealer, "online").raw)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ECHO_SECONDS):
                while True:
                    message = await arrived.get()
                    event = witness.own(message.topic, message.payload)
                    if event is None:
                        continue
                    if event.type == "audit.checkpoint" and message.topic == self._topics.checkpoint(self._bus.node):
                        older = older_than(self._standing.position(), event.data)
                        if older is not None:
                            self._standing.rolled_back(older)
                            raise BusLost(f"not publishing: {older}")
                    if witness.is_own_echo(event, self.session):
                        break
        self._report_foreign(witness)
        await self._publish_now(
            link,
            self._topics.keys(self._bus.node),
            msgspec.json.encode(self._standing.key_set(), order="sorted"),
        )

    async def _publish_now(self, link: Link, topic: str, payload: bytes) -> None:
        with contextlib.suppress(BusDenied):
            await asyncio.wait_for(link.publish(topic, payload, retain=True), ACK_SECONDS)

    async def _begin(self, sealer: Unchained) -> None:
        """Put the lanes where the last acknowledgement left them, and note all states as due."""
        self._sealer = sealer
        now = self._audit.sequence
        changes, audit = self._cursor.changes, self._cursor.audit
        starts = {
            self._changes: now if changes is None else min(changes, now),
            self._backlog: now if audit is None else min(audit, now),
        }
        oldest = await self._oldest_to_publish(min(starts.values()))
        for lane, start in starts.items():
            lane.rewind(max(start, oldest))
        self._retained.forget()
        self._retained.repeat(self._standing.names())
        self._retained.checkpoint_due = True

    async def _oldest_to_publish(self, after: int) -> int:
        """Return the sequence after which owed events are published; name the ones before in an audit.gap."""
        if after >= self._audit.sequence:
            return after
        since = "" if self._bus.replay_max_ms is None else rfc3339(self._clock.now_ms() - self._bus.replay_max_ms)

        def first_wanted() -> int:
            return next((place.number for place, _ in self._reader.lines(after, since)), self._audit.sequence + 1)

        first = await asyncio.to_thread(first_wanted)
        if first == after + 1:
            return after
        gap = {
            "first": after + 1,
            "last": first - 1,
            "reason": "older than replay_max, or no longer in the log",
        }
        try:
            await self._audit.append(Entry("audit.gap", None, gap))
        except AuditWriteError as error:
            raise BusLost(f"owed events can't be given up unrecorded: {error}") from error
        return first - 1

    async def _pump(self, link: Link) -> str:
        """Publish by precedence until the connection ends; return why it did."""
        timer = asyncio.get_running_loop().create_task(self._remind())
        try:
            while not link.closed.done():
                if link.in_flight >= link.window:
                    await link.wait_window()
                if self._publish_next(link):
                    continue
                if await self._refill():
                    continue
                self._wake.clear()
                await self._save_sometimes()
                await self._sleep(link)
            return link.closed.result()
        finally:
            timer.cancel()

    def _publish_next(self, link: Link) -> bool:
        """Publish one message: changes, their states, the checkpoint, repeated states, and behind them the audit."""
        now = self._now()
        if self._publish_owed(link, self._changes, now):
            return True
        name = self._retained.take_changed()
        if name is not None:
            return self._publish_state(link, name)
        if self._retained.checkpoint_due:
            self._retained.checkpoint_due = False
            data = {
                **self._standing.checkpoint(),
                "session": self.session,
                "interval_secs": self._bus.checkpoint_secs,
            }
            self._publish_sealed(link, self._topics.checkpoint(self._bus.node), "audit.checkpoint", None, data)
            return True
        name = self._retained.take_repeated()
        if name is not None:
            return self._publish_state(link, name)
        return self._backlog.in_flight < AUDIT_IN_FLIGHT and self._publish_owed(link, self._backlog, now)

    def _publish_owed(self, link: Link, lane: Lane, now: float) -> bool:
        owed = lane.take(now)
        if owed is None:
            return False

        def settled(future: asyncio.Future[None]) -> None:
            if future.cancelled():
                return
            error = future.exception()
            if error is None:
                self._metrics.publish_seconds.labels(lane.name).observe(self._now() - now)
                lane.acknowledge(owed.sequence)
            elif isinstance(error, BusDenied):
                self._metrics.publish_denied.labels(lane.name).inc()
                lane.deny(owed.sequence, self._now())
            self._wake.set()

        link.publish(owed.topic, owed.payload).add_done_callback(settled)
        return True

    def _publish_state(self, link: Link, name: str) -> bool:
        data = self._standing.state(name)
        if data is not None:
            self._publish_sealed(link, self._topics.secret_state(name), "secret.state", name, dict(data))
        return True

    def _publish_sealed(self, link: Link, topic: str, kind: str, subject: str | None, data: dict[str, Any]) -> None:
        assert self._sealer is not None  # noqa: S101 — _begin set it for this connection
        event = self._sealer.seal(kind, subject, data, rfc3339(self._clock.now_ms()))
        link.publish(topic, event.raw, retain=True).add_done_callback(_looked_at)

    async def _refill(self) -> bool:
        """Read on in the log for a lane that has nothing ready; tell whether there was anything."""
        for lane in self._lanes:
            if lane.seen < self._audit.sequence and lane.has_room and lane.in_flight < AUDIT_IN_FLIGHT:
                durable, after = self._audit.sequence, lane.seen
                lines = await asyncio.to_thread(self._read, after, durable)
                if lane.seen == after:
                    for line in lines:
                        lane.add(line)
                return bool(lines)
        return False

    def _read(self, after: int, durable: int) -> list[Line]:
        found: list[Line] = []
        for place, raw in islice(self._reader.lines(after), CHUNK_LINES):
            if place.number > durable:
                break
            subject = msgspec.json.decode(raw, type=_Subject).subject
            found.append(Line(place.number, place.type.removeprefix("jarvis.secretsd."), subject, raw))
        return found

    async def _sleep(self, link: Link) -> None:
        """Wait until there is something to do; close a connection whose broker has stopped acknowledging."""
        pauses = [pause for lane in self._lanes if (pause := lane.paused_for(self._now())) > 0]
        waiting = link.in_flight > 0
        timeout = min([*pauses, ACK_SECONDS])
        waiter = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait({waiter, link.closed}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiter.cancel()
        if waiting and link.in_flight > 0 and not self._wake.is_set() and timeout == ACK_SECONDS:
            raise BusLost(f"the broker has acknowledged nothing for {ACK_SECONDS:.0f} s")

    async def _remind(self) -> None:
        while True:
            await asyncio.sleep(self._bus.checkpoint_secs)
            self._retained.checkpoint_due = True
            self._wake.set()

    async def _watch(self, arrived: asyncio.Queue[Message], witness: Witness) -> None:
        """Notice a second daemon under the same prefix."""
        while True:
            message = await arrived.get()
            witness.own(message.topic, message.payload)
            self._report_foreign(witness)

    def _report_foreign(self, witness: Witness) -> None:
        new = frozenset(witness.foreign) - self.foreign
        self.foreign |= new
        for topic in new:
            log.warning(
                "bus: another daemon speaks on %s: one vault per topic_prefix; give it a prefix or a node of its own",
                topic,
            )

    async def _end(self, link: Link, sealer: Unchained, *, orderly: bool) -> None:
        self._connection = "disconnected"
        self._metrics.bus_connected.set(0)
        self._remember()
        if orderly and not link.closed.done():
            with contextlib.suppress(BusError, TimeoutError):
                status = self._status(sealer, "offline").raw
                await asyncio.wait_for(link.publish(self._topics.status(self._bus.node), status, retain=True), 1.0)
        await link.disconnect()
        with contextlib.suppress(OSError):
            await asyncio.to_thread(cursors.save, self._cursor_path, self._cursor)

    def _status(self, sealer: Unchained, state: str) -> Event:
        data = {"state": state, "session": self.session}
        return sealer.seal("daemon.status", None, data, rfc3339(self._clock.now_ms()))

    def _remember(self) -> None:
        if self._sealer is not None and self._sealer.session == self.session:
            self._cursor = replace(self._cursor, changes=self._changes.cursor, audit=self._backlog.cursor)

    async def _save_sometimes(self) -> None:
        if self._now() - self._saved_at < SAVE_SECONDS:
            return
        before = self._cursor
        self._remember()
        if self._cursor != before:
            self._saved_at = self._now()
            with contextlib.suppress(OSError):
                await asyncio.to_thread(cursors.save, self._cursor_path, self._cursor)

    def _settled(self) -> bool:
        return all(lane.waiting == 0 and lane.seen >= self._audit.sequence for lane in self._lanes) and (
            not self._retained.checkpoint_due
        )

    def _change_topic(self, line: Line) -> str | None:
        category, _, verb = line.type.partition(".")
        if category != "secret" or verb not in SECRET_VERBS or line.subject is None:
            return None
        return self._topics.secret_event(line.subject, verb)

    def _audit_topic(self, line: Line) -> str | None:
        if self._bus.audit == "none" or (
            self._bus.audit == "changes" and line.type in {"secret.read", "secret.listed"}
        ):
            return None
        category, _, verb = line.type.partition(".")
        return self._topics.audit(category, verb)

    def _now(self) -> float:
        return self._clock.elapsed_ms() / 1000


class _Subject(msgspec.Struct, frozen=True):
    subject: str | None = None


def _looked_at(future: asyncio.Future[None]) -> None:
    """Retained messages are repeated on the next connection and change; a lost or denied one needs nothing more."""
    if not future.cancelled():
        future.exception()

"""Keeps the bus told: connects again and again, and remembers what was acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from msgspec.structs import replace
from secretsd_bus import (
    BusError,
    BusLost,
    BusRejected,
    Event,
    Link,
    Topics,
    Unchained,
    Will,
    rfc3339,
)
from secretsd_bus.payloads import Gap

from secretsd import tasks
from secretsd.audit.eventkeys import KEY_ROTATED, EventKeys
from secretsd.audit.log import AuditLog, Entry
from secretsd.audit.reader import LogReader
from secretsd.clock import Clock
from secretsd.config import Config
from secretsd.errors import AuditWriteError
from secretsd.metrics import Metrics
from secretsd.outbox import cursor as cursors
from secretsd.outbox.backoff import Backoff
from secretsd.outbox.feed import audit_topic, changes_topic, event_topic, first_after, read_lines
from secretsd.outbox.homeassistant.announcements import Announcements
from secretsd.outbox.homeassistant.announcer import LANE, Announcer
from secretsd.outbox.homeassistant.entities import EVENT_KINDS, Discovery
from secretsd.outbox.homeassistant.shown import Shown
from secretsd.outbox.inbox import Inbox
from secretsd.outbox.lane import Lane, Line, of_one_secret
from secretsd.outbox.login import Login
from secretsd.outbox.owing import Owing
from secretsd.outbox.retained import RetainedQueue
from secretsd.outbox.session import Session, status
from secretsd.outbox.standing import Standing
from secretsd.outbox.witness import RolledBack, SessionTaken, Witness

log = logging.getLogger(__name__)

SAVE_SECONDS: Final = 1.0
OTHER_KEY: Final = "the signing key was rotated"

Status = Literal["connected", "disconnected", "denied", "disabled"]


class Publisher:
    """The daemon's side of the bus."""

    def __init__(
        self,
        config: Config,
        audit: AuditLog,
        keys: EventKeys,
        standing: Standing,
        clock: Clock,
        metrics: Metrics,
        audit_path: Path,
        cursor_path: Path,
        version: str,
    ) -> None:
        self._bus = config.bus
        self._topics = Topics(self._bus.topic_prefix)
        self._audit = audit
        self._keys = keys
        self._standing = standing
        self._clock = clock
        self._metrics = metrics
        self._reader = LogReader(audit_path)
        self._cursor_path = cursor_path
        self._cursor = cursors.load(cursor_path, audit.log_id, clock.now_ms())
        self._saved = self._cursor
        self._saving: asyncio.Task[None] | None = None
        self._saved_at = 0.0
        # A log that is shorter than it was counted is another one; then nothing older is counted.
        self._cursor = replace(self._cursor, tally=self._cursor.tally.beginning_at(audit.told))
        discovery = Discovery(self._bus, config.homeassistant, version)
        shown = Shown(config.homeassistant, standing, clock, lambda: self.status, lambda: self._cursor.tally)
        events = EVENT_KINDS if config.homeassistant.discovery else {}
        self._owing = Owing(
            changes=Lane("changes", changes_topic(self._topics), of_one_secret),
            audit=Lane("audit", audit_topic(self._topics, self._bus.audit)),
            events=Lane(LANE, event_topic(discovery.event_topic, events, self._bus.audit)),
            retained=RetainedQueue(),
            announcements=Announcements(discovery, shown, _soon),
            wake=asyncio.Event(),
        )
        self._login = Login(self._bus, standing.logins)
        self._retry = asyncio.Event()
        """Set when a connection that failed may work now."""
        self._connection: Status = "disconnected"
        self._current: Session | None = None
        self._task: asyncio.Task[None] | None = None
        self._trouble = ""
        self._stood_since: float | None = None
        """Since when the newest connection stood; None where it never did."""
        self.foreign: frozenset[str] = frozenset()
        """Topics under our prefix on which another daemon has spoken."""
        self.copies: frozenset[str] = frozenset()
        """The same, with this vault's own keys."""

    @property
    def session(self) -> int:
        """The number of the current broker connection, of the last try while there is none."""
        return self._cursor.session

    @property
    def status(self) -> Status:
        """`denied` while the broker refuses us, or something that has to be published."""
        if self._current is not None and (self._current.refused or any(lane.denied for lane in self._owing.promised)):
            return "denied"
        return self._connection

    def owed(self, lane: Literal["changes", "audit"]) -> float:
        """Return how many events wait for their acknowledgement; for what is still to be read it is an estimate."""
        chosen = self._owing.changes if lane == "changes" else self._owing.audit
        behind = self._audit.told - chosen.seen if lane == "audit" else 0
        return chosen.waiting + max(0, behind)

    def start(self) -> None:
        """Begin to connect, in the background."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self, seconds: float) -> None:
        """Publish what is owed for at most `seconds`, then sign off."""
        if self._task is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._current is not None and not self._settled():
                    self._owing.wake.set()
                    await asyncio.sleep(0.01)
        await tasks.end(self._task)

    def written(self, events: Sequence[Event]) -> None:
        """Take up events whose lines have just become durable."""
        lines = [Line(event.sequence or 0, event.type, event.subject, event.raw) for event in events]
        self._count(lines)
        if any(line.type == KEY_ROTATED for line in lines):
            self._owing.retained.held = True  # from that line on the key of this connection signs nothing more
        if self._current is not None:
            for lane in self._owing.lanes:
                lane.follow(lines)
            self._owing.wake.set()

    def committed(self, names: Sequence[str]) -> None:
        """Take up names whose state changed with a commit."""
        if self._login.concerns(names):
            self._retry.set()
            self._leave_outdated_login()
        if self._current is not None:
            self._owing.retained.changed(names)
            self._owing.announcements.changed()
            self._owing.wake.set()

    def signing_key_rotated(self, event: Event) -> None:
        """Go on with the new key: on a new connection, whose will, status and states it signs.

        The old one stays for the line that introduces the new key, so that clients hear of it before they meet it.
        """
        self._owing.retained.held = True
        if self._current is not None:
            self._current.end_after(event.sequence or 0, OTHER_KEY)

    def _leave_outdated_login(self) -> None:
        """End a connection that was made before the password changed, also while it was being made."""
        if self._current is not None and self._login.outdated(self._standing.secrets()):
            self._current.end_after(0, "the daemon's password at the broker has changed")

    async def _run(self) -> None:
        backoff = Backoff(random.uniform)  # spreads reconnects, hides nothing: so no strong randomness is needed
        while True:
            trouble, self._stood_since = "", None
            try:
                trouble = f"connection lost: {await self._one_connection()}"
            except RolledBack as error:
                self._standing.rolled_back(str(error))
                return
            except SessionTaken as error:
                self._cursor = replace(self._cursor, session=error.session)
                trouble = str(error)
            except BusRejected as error:
                self._connection = "denied"
                trouble = f"the broker refuses us: {error}"
            except (BusError, OSError, ValueError) as error:
                self._connection = "disconnected"
                trouble = str(error)
            except Exception:
                # Whatever it was, the bus must not stay silent for it: what is owed is still owed.
                self._connection = "disconnected"
                log.exception("bus: an unforeseen error ended the connection")
            if trouble != self._trouble:
                log.warning("bus: %s; tried again until it works", trouble)
                self._trouble = trouble
            held = 0.0 if self._stood_since is None else self._now() - self._stood_since
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(backoff.next(held)):
                    await self._retry.wait()
            self._retry.clear()

    async def _one_connection(self) -> str:
        """Hold one connection; return why it ended."""
        self._cursor = replace(self._cursor, session=self._cursor.session + 1)
        await self._save()
        self._owing.retained.held = False
        sealer = Unchained(log_id=self._audit.log_id, node=self._bus.node, key=self._keys.current, session=self.session)
        witness = Witness(self._topics, self._keys, self._audit.log_id)
        inbox = Inbox()
        try:
            link = await self._login.connect(
                f"secretsd-{self._bus.node}-{secrets.token_hex(4)}",
                Will(self._topics.status(self._bus.node), status(sealer, "offline", self._clock).raw),
                inbox.put,
            )
        except (BusError, OSError, ValueError):
            # No connection, so the next try may have its number.
            self._cursor = replace(self._cursor, session=self._cursor.session - 1)
            raise
        session = Session(
            link,
            self._bus,
            sealer,
            self._owing,
            self._standing,
            self._audit,
            self._reader,
            self._clock,
            self._metrics,
            self._remember_sometimes,
        )
        try:
            await session.introduce(witness, inbox)
            await self._take_up()
            self._current, self._connection, self._trouble = session, "connected", ""
            self._stood_since = self._now()
            self._leave_outdated_login()
            if self._owing.retained.held:
                session.end_after(0, OTHER_KEY)
            log.info("bus: connected, MQTT %s, session %d", link.protocol, self.session)
            watcher = asyncio.get_running_loop().create_task(self._watch(witness, inbox, session.announcer))
            link.closed.add_done_callback(lambda _: self._owing.wake.set())
            try:
                reason = await session.pump()
                if not link.closed.done():
                    self._stood_since = float("-inf")  # we end it ourselves: no fault of the broker's
                return reason
            finally:
                watcher.cancel()
        finally:
            await self._part(link, session)

    async def _take_up(self) -> None:
        """Put the lanes where the last acknowledgement left them, and note all states as due."""
        now = self._audit.told
        changes, audit = self._cursor.changes, self._cursor.audit
        starts = (now if changes is None else min(changes, now), now if audit is None else min(audit, now))
        oldest = await self._give_up_before(min(starts))
        for lane, start in zip(self._owing.promised, starts, strict=True):
            lane.rewind(max(start, oldest))
        events = now if self._cursor.homeassistant is None else min(self._cursor.homeassistant, now)
        # Home Assistant's copies come last, so they may be behind; what is too old for the others is too old for them.
        self._owing.events.rewind(max(events, await self._first_owed(events) - 1))
        await self._catch_up()
        self._owing.retained.repeat(self._standing.names())
        self._owing.announcements.repeat()
        self._remember()
        if changes is None or audit is None:
            # From now on everything is owed; a crash must not make the next connection the first one again.
            await self._save()

    async def _give_up_before(self, after: int) -> int:
        """Return the sequence after which owed events are published; name what comes before in an `audit.gap`."""
        first = await self._first_owed(after)
        if first == after + 1:
            return after
        gap = Gap(first=after + 1, last=first - 1, reason="older than replay_max, or no longer in the log")
        try:
            await self._audit.append(Entry("audit.gap", None, gap.data()))
        except AuditWriteError as error:
            raise BusLost(f"owed events can't be given up unrecorded: {error}") from error
        return first - 1

    async def _first_owed(self, after: int) -> int:
        """Return the first sequence after `after` that is still in the log and not older than `replay_max`.

        While the clock is in doubt nothing counts as older: what is given up once is never published.
        """
        if after >= self._audit.told:
            return after + 1
        since = ""
        if self._bus.replay_max_ms is not None and not self._standing.clock_in_doubt():
            since = rfc3339(max(0, self._clock.now_ms() - self._bus.replay_max_ms))
        first = await asyncio.to_thread(first_after, self._reader, after, since)
        return self._audit.told + 1 if first is None else first

    async def _catch_up(self) -> None:
        """Count the lines that were written and not counted, before a crash."""
        while (after := self._cursor.tally.seen or 0) < self._audit.told:
            self._count(await asyncio.to_thread(read_lines, self._reader, after, self._audit.told))
            if self._cursor.tally.seen == after:
                # They are no longer in the log.
                self._cursor = replace(self._cursor, tally=replace(self._cursor.tally, seen=self._audit.told))

    def _count(self, lines: Sequence[Line]) -> None:
        before = self._cursor.tally
        tally = before.followed(lines, self._clock.now_ms())
        self._cursor = replace(self._cursor, tally=tally)
        if (tally.denials, tally.rotations) != (before.denials, before.rotations):
            self._owing.announcements.changed()

    async def _watch(self, witness: Witness, inbox: Inbox, announcer: Announcer) -> None:
        """Notice other daemons under the same prefix, what takes our status's place, and Home Assistant's births."""
        with contextlib.suppress(BusLost):
            await announcer.listen()
        while True:
            for topic in witness.foreign - self.foreign:
                log.warning(
                    "bus: another daemon speaks on %s: one vault per topic_prefix; give it a prefix of its own", topic
                )
            for topic in witness.copies - self.copies:
                log.warning(
                    "bus: another daemon speaks on %s with the keys of this vault: a copy of it is served, and clients "
                    "take its word for this one's; stop one of the two",
                    topic,
                )
            self.foreign |= witness.foreign
            self.copies |= witness.copies
            message = await inbox.get()
            if not announcer.hear(message, self._now()) and witness.displaces(message, self._bus.node, self.session):
                self._owing.retained.status_due = True
                self._owing.wake.set()

    async def _part(self, link: Link, session: Session) -> None:
        if self._current is not None:
            self._remember()
        self._current, self._connection = None, "disconnected"
        self._owing.retained.forget()
        self._owing.announcements.forget()
        if not link.closed.done():
            await session.sign_off()
        await link.disconnect()
        with contextlib.suppress(OSError):
            await self._save()

    def _remember(self) -> None:
        self._cursor = replace(
            self._cursor,
            changes=self._owing.changes.cursor,
            audit=self._owing.audit.cursor,
            homeassistant=self._owing.events.cursor,
        )

    def _remember_sometimes(self) -> None:
        """Keep the acknowledgements; a crash before costs repetitions, which every reader takes as one."""
        self._remember()
        due = self._now() - self._saved_at >= SAVE_SECONDS
        if due and self._cursor != self._saved and (self._saving is None or self._saving.done()):
            self._saving = asyncio.get_running_loop().create_task(self._save_quietly())

    async def _save_quietly(self) -> None:
        with contextlib.suppress(OSError):
            await self._save()

    async def _save(self) -> None:
        cursor = self._cursor
        self._saved_at = self._now()
        await asyncio.to_thread(cursors.save, self._cursor_path, cursor)
        self._saved = cursor

    def _settled(self) -> bool:
        events = self._owing.events
        lanes = self._owing.promised if events.denied else self._owing.lanes
        lanes_done = all(lane.waiting == 0 and lane.seen >= self._audit.told for lane in lanes)
        return lanes_done and not self._owing.retained.checkpoint_due

    def _now(self) -> float:
        return self._clock.elapsed_ms() / 1000


def _soon() -> float:
    """Return how long after Home Assistant's birth everything is repeated: several daemons needn't do so at once."""
    return random.uniform(0.5, 3.0)  # noqa: S311 — spreads load, hides nothing

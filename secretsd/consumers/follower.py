"""Keeps the sightings in step with the log: caught up at start in the background, then line by line.

It follows by sequence, as the outbox does: what it was not told of it reads back, so a crash costs it nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct
from secretsd_bus import PREFIX, Event, line_hash, rfc3339

from secretsd import tasks
from secretsd.audit.log import AuditLog
from secretsd.audit.reader import LogReader, Peek
from secretsd.clock import Clock
from secretsd.consumers import statefile
from secretsd.consumers.sightings import KINDS, Sightings
from secretsd.consumers.statefile import SeenFile

log = logging.getLogger(__name__)

CHUNK_LINES: Final = 1024
SAVE_SECONDS: Final = 60.0
SAVE_LINES: Final = 4096
"""At most so much has to be read back after a crash."""
RETRY_SECONDS: Final = 5.0

Told = Callable[[Collection[str]], None]


class _Line(Struct, frozen=True):
    sequence: int
    kind: str
    at: str
    data: dict[str, Any] | None
    """None for the types that say nothing of consumers."""


class _Data(Struct, frozen=True):
    data: dict[str, Any] = {}


class Follower:
    """The sightings of one log. `on_news` is told the secrets of which something new is known."""

    def __init__(self, audit: AuditLog, audit_path: Path, clock: Clock) -> None:
        self._audit = audit
        self._clock = clock
        self._path = statefile.beside(audit_path)
        self._reader = LogReader(audit_path)
        self.sightings = Sightings()
        self.sequence = 0
        """The newest line that is in the sightings."""
        self._head = ""
        self._raw = b""
        """That line, where its hash was not needed yet."""
        self._saved = 0
        self._caught_up = False
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failure = ""
        self.on_news: Told = lambda _: None

    @property
    def caught_up(self) -> bool:
        """Whether every durable line is in the sightings."""
        return self._caught_up

    def start(self) -> None:
        """Begin, in the background: however long the log is, nobody waits for it."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End, and save what is known."""
        if self._task is not None:
            await tasks.end(self._task)
            await self._save()

    def written(self, events: Sequence[Event]) -> None:
        """Take in lines that have just become durable; until the older ones are in, they are read back later."""
        if not self.caught_up:
            return
        news = set()
        for event in events:
            if event.sequence is None or event.sequence <= self.sequence:
                continue
            self.sequence, self._raw = event.sequence, event.raw
            if event.type in KINDS and (name := self.sightings.take(event.type, event.time, event.data)) is not None:
                news.add(name)
        if self.sequence - self._saved >= SAVE_LINES:
            self._wake.set()
        if news:
            self.on_news(news)

    async def _run(self) -> None:
        while not self.caught_up:
            try:
                await self._begin()
                await self._catch_up()
            except (OSError, EOFError, zlib.error) as error:
                log.error("who uses which version is not known yet, for the log can't be read: %s", error)  # noqa: TRY400
                await asyncio.sleep(RETRY_SECONDS)
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SAVE_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            await self._save()

    async def _begin(self) -> None:
        """Go on from the file where that is of this log, else from the log's first line."""
        found = await asyncio.to_thread(statefile.load, self._path, self._audit.log_id)
        if found is not None and await asyncio.to_thread(_belongs, self._reader, found, self._audit.told):
            self.sightings = Sightings(found.secrets, found.seen, found.since)
            self.sequence, self._head, self._saved = found.sequence, found.head, found.sequence
        else:
            self.sightings, self.sequence, self._saved = Sightings(), 0, 0
        self._raw = b""

    async def _catch_up(self) -> None:
        while self.sequence < self._audit.told:
            lines, told, before = self._reader.lines(self.sequence), self._audit.told, self.sequence
            while found := await asyncio.to_thread(_next_lines, lines, told):
                self._fold(found)
            if self.sequence == before:
                self._give_up_lines()
        self._caught_up = True
        if self.sequence - self._saved >= SAVE_LINES:
            self._wake.set()
        self.on_news(self.sightings.secrets.keys())

    def _fold(self, lines: Sequence[tuple[_Line, bytes]]) -> None:
        for line, raw in lines:
            if line.sequence > self.sequence + 1:
                self.sightings.skipped(line.at)
            if line.data is not None:
                try:
                    self.sightings.take(line.kind, line.at, line.data)
                except (KeyError, TypeError, AttributeError):
                    # Edited, or damaged: `secretsctl audit verify` tells which. What it told is missing here.
                    self.sightings.skipped(line.at)
            self.sequence, self._raw = line.sequence, raw

    def _give_up_lines(self) -> None:
        """Go on behind durable lines that are no longer there: nothing is known of them, which is kept in mind."""
        first, self.sequence = self.sequence + 1, self._audit.told
        log.warning("lines %d to %d of the audit log are gone: who read what is not known", first, self.sequence)
        self.sightings.skipped(rfc3339(self._clock.now_ms()))
        self._head, self._raw = self._audit.head, b""

    async def _save(self) -> None:
        if self.sequence == self._saved:
            return
        if self._raw:
            self._head, self._raw = line_hash(self._raw), b""
        content = SeenFile(
            log_id=self._audit.log_id,
            sequence=self.sequence,
            head=self._head,
            since=self.sightings.since,
            seen=dict(self.sightings.seen),
            # A copy, since lines come in while it is written; what is in the sightings is never changed.
            secrets={name: dict(found) for name, found in self.sightings.secrets.items()},
        )
        try:
            await asyncio.to_thread(statefile.save, self._path, content)
        except OSError as error:
            if str(error) != self._failure:
                log.warning("%s can't be written: %s; after a crash it is made again from the log", self._path, error)
            self._failure = str(error)
        else:
            self._saved, self._failure = content.sequence, ""


def _belongs(reader: LogReader, found: SeenFile, told: int) -> bool:
    """Tell whether the file is of this log as it stands: one that was put back is not where its last line was."""
    if found.sequence > told:
        return False
    if found.sequence == 0:
        return True
    place, raw = next(reader.lines(found.sequence - 1), (None, b""))
    if place is None or place.number > found.sequence:
        return True  # rotated away since; what is missing in between is noticed
    return line_hash(raw) == found.head


def _next_lines(lines: Iterator[tuple[Peek, bytes]], told: int) -> list[tuple[_Line, bytes]]:
    """Return the next lines up to the sequence `told`; empty at the end, beyond which `lines` is not to be used."""
    found = []
    for place, raw in islice(lines, CHUNK_LINES):
        if place.number > told:
            break
        kind = place.type.removeprefix(PREFIX)
        data = _data(raw) if kind in KINDS else None
        found.append((_Line(place.number, kind, place.time, data), raw))
    return found


def _data(raw: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(raw, type=_Data).data
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return {}

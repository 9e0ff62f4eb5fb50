"""The audit log: chained, signed lines, durable before anything is released (docs/audit.md).

Requests that arrive together share one fdatasync: while one batch is on its way to the disk, the next gathers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from msgspec import Struct
from secretsd_bus import Chain, Event, SigningKey, rfc3339

from secretsd.audit.eventkeys import KEY_ROTATED
from secretsd.audit.linefile import LineFile
from secretsd.audit.worker import Worker
from secretsd.clock import Clock
from secretsd.errors import AuditWriteError
from secretsd.metrics import Metrics

log = logging.getLogger(__name__)

BATCH_MOST: Final = 1024
SIGNED_IN_A_ROW: Final = 64
"""Signatures (some 35 µs each) between two turns of the event loop."""


class Entry(Struct, frozen=True):
    """An event before it has its place in the chain."""

    type: str
    subject: str | None
    data: dict[str, Any]


@dataclass(slots=True)
class _Waiting:
    entries: Sequence[Entry]
    done: asyncio.Future[list[Event]] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class AuditLog:
    """Appends events; the one place where lines get their sequence, hash and signature."""

    def __init__(self, file: LineFile, chain: Chain, clock: Clock, metrics: Metrics) -> None:
        """Continue `chain` in `file`; its position must be the log's newest durable line."""
        self._file = file
        self._chain = chain
        self._clock = clock
        self._metrics = metrics
        self._waiting: deque[_Waiting] = deque()
        self._writer: asyncio.Task[None] | None = None
        self._thread = Worker("audit")
        self._signed = 0
        self.sequence = chain.sequence
        self.head = chain.head
        self.told = chain.sequence
        """The sequence up to which lines may be told of: none of a commit that isn't in force yet."""
        self._held = False
        self._untold: list[Event] = []
        self._kept: list[Event] = []
        """Events of a failed batch that have their place in the chain all the same (AuditWriteError.kept)."""
        self.successor: SigningKey | None = None
        """The key that signs from the line on that introduces it (`audit.key_rotated`)."""
        self.failure: str | None = None
        self.changes_only: Callable[[], bool] = lambda: False
        """Whether what is written takes the space that is kept for changes, so that nothing is released yet."""
        self.on_durable: Callable[[Sequence[Event]], None] = lambda _: None

    @property
    def log_id(self) -> str:
        """The log's id, which its lines' ids begin with."""
        return self._chain.log_id

    @property
    def busy(self) -> bool:
        """Whether somebody waits for a line to become durable."""
        return self._writer is not None

    async def append(self, *entries: Entry) -> list[Event]:
        """Make the entries durable lines, side by side, and return the events as written.

        Raises AuditWriteError when they could not be made durable; then none of them is in the log, unless its `kept`
        says that they are and only the file at the path lacks them. Without entries it makes up for those.
        """
        waiting = _Waiting(entries)
        self._waiting.append(waiting)
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write_all())
        return await waiting.done

    async def probe(self) -> None:
        """Where the log could not be written, look whether it can be again; then `failure` is over.

        Raises AuditWriteError while it can't.
        """
        if self.failure is not None:
            await self._thread.do(self._file.probe)
            await self.append()

    async def reopen(self) -> None:
        """Let the next line go to whatever file is at the path then (SIGHUP)."""
        await self._thread.do(self._file.reopen)

    async def close(self) -> None:
        """Write what waits and let go of the file."""
        while self._writer is not None:
            await self._writer
        await self.reopen()
        self._thread.stop()

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                await self._write_batch(self._gather())
        finally:
            self._writer = None

    def _gather(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        size = 0
        while self._waiting and (not batch or size + len(self._waiting[0].entries) <= BATCH_MOST):
            batch.append(self._waiting.popleft())
            size += len(batch[-1].entries)
        return batch

    async def _write_batch(self, batch: list[_Waiting]) -> None:
        before = self._chain.copy()
        signed = [(waiting, events) for waiting in batch if (events := await self._sign(waiting)) is not None]
        if not signed:
            return
        new = [event for _, events in signed for event in events]
        lines = b"".join(event.raw + b"\n" for event in new)
        started = time.perf_counter()
        try:
            await self._thread.do(partial(self._file.append, lines))
        except AuditWriteError as error:
            if error.kept:
                self._kept += new
            else:
                self._chain = before
            self._failed(error)
            for waiting, _ in signed:
                if not waiting.done.done():
                    waiting.done.set_exception(AuditWriteError(str(error), kept=error.kept))
            return
        if self.failure is not None:
            only = ", for changes by hand only" if self.changes_only() else ""
            log.info("the audit log can be written again%s", only)
        self.failure = None
        self._metrics.audit_batch(len(new), time.perf_counter() - started)
        self.sequence, self.head = self._chain.sequence, self._chain.head
        durable, self._kept = [*self._kept, *new], []
        for waiting, events in signed:
            if not waiting.done.done():
                waiting.done.set_result(events)
        self._untold += durable
        if not self._held:
            self._tell()

    def hold(self) -> None:
        """Keep what becomes durable to ourselves until `release`: the lines of a commit are told of as a whole."""
        self._held = True

    def release(self) -> None:
        """Tell of what became durable since `hold`."""
        self._held = False
        if self._untold:
            self._tell()

    def _tell(self) -> None:
        events, self._untold = self._untold, []
        self.told = self.sequence
        self.on_durable(events)

    def _failed(self, error: AuditWriteError) -> None:
        if self.failure is None:
            log.error("%s; nothing is released until it can be written again", error)
        self.failure = str(error)
        self._metrics.audit_failures.inc()

    async def _sign(self, waiting: _Waiting) -> list[Event] | None:
        """Return the entries as events in the chain; None when one can't be worded, which only its caller learns."""
        alone = len(waiting.entries) == 1 and waiting.entries[0].type != KEY_ROTATED
        before = self._chain if alone else self._chain.copy()
        now = rfc3339(self._clock.now_ms())
        events: list[Event] = []
        try:
            for entry in waiting.entries:
                events.append(self._chain.append(entry.type, entry.subject, entry.data, now))
                if entry.type == KEY_ROTATED:
                    self._hand_over(entry)
                self._signed += 1
                if self._signed % SIGNED_IN_A_ROW == 0:
                    await asyncio.sleep(0)
        except ValueError as error:
            self._chain = before
            if not waiting.done.done():
                waiting.done.set_exception(error)
            return None
        return events

    def _hand_over(self, entry: Entry) -> None:
        """Let the key sign that the line before introduced. Raises ValueError where it isn't at hand."""
        if self.successor is None or entry.data["jwk"]["kid"] != self.successor.keyid:
            raise ValueError("the key that is introduced is not the one that was made for it")
        self._chain.key = self.successor

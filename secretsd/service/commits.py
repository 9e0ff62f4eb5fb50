"""One change at a time: the vault's document, then the audit lines, then it is in force (docs/vault.md)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Final, TypeVar

from msgspec.structs import replace
from secretsd_bus import Event

from secretsd.audit.log import AuditLog, Entry
from secretsd.errors import AuditWriteError, Problem, SealError, VaultWriteError
from secretsd.metrics import Metrics
from secretsd.reserve import SPENT, Reserve
from secretsd.service.receipts import Keyed, remembered
from secretsd.vault.document import (
    AuditMark,
    Document,
    OwedLine,
    PolicyMark,
    SecretRecord,
    Tombstone,
)
from secretsd.vault.keys import VaultKeys
from secretsd.vault.store import CommitUncertain
from secretsd.vault.vault import Vault

log = logging.getLogger(__name__)

T = TypeVar("T")
Item = TypeVar("Item")

LINES_AT_ONCE: Final = 128
"""Of the lines of one commit; other requests' come in between, so that nobody waits for ten thousand signatures."""
ITEMS_AT_ONCE: Final = 32
"""Secrets that are drafted between two turns of the event loop: about two milliseconds."""
RETRY_SOON: Final = {"Retry-After": "5"}


@dataclass(frozen=True, slots=True)
class Draft:
    """The next document's changed parts, and the events that tell of them."""

    events: Sequence[OwedLine]
    secrets: Mapping[str, SecretRecord | None]
    """Records by name as they will be; None takes one away."""
    tombstones: Mapping[str, Tombstone | None]
    policy: PolicyMark | None = None
    keys: VaultKeys | None = None
    """What the next document, and every value in it, is sealed with; None: with the keys in force."""
    journal: bool = False
    """Whether it is a commit though it has no events: a step of a rotation, which changes nothing for who reads."""


Build = Callable[[Document, int], Draft | Awaitable[Draft]]
"""Makes a draft from the document in force and the generation to come; raises Problem to refuse."""


def joined(drafts: Iterable[Draft]) -> Draft:
    """Return the drafts, each of other names, as one."""
    events: list[OwedLine] = []
    secrets: dict[str, SecretRecord | None] = {}
    tombstones: dict[str, Tombstone | None] = {}
    for draft in drafts:
        events += draft.events
        secrets |= draft.secrets
        tombstones |= draft.tombstones
    return Draft(events, secrets, tombstones)


async def in_slices(items: Iterable[Item], draft: Callable[[Sequence[Item]], Draft]) -> Draft:
    """Return one draft for all items, made slice by slice, so that others have their turn in between."""
    drafts: list[Draft] = []
    rest = iter(items)
    while part := tuple(islice(rest, ITEMS_AT_ONCE)):
        drafts.append(draft(part))
        await asyncio.sleep(0)
    return joined(drafts)


@dataclass(frozen=True, slots=True)
class Done:
    """A change that is durable and in force."""

    document: Document
    names: Sequence[str]
    """The names whose records changed."""
    events: Sequence[Event]
    resealed: bool = False
    """Whether all values were sealed anew, so that no record of before may be written again."""


class Committer:
    """Carries changes through, one after the other; the only writer of the vault."""

    def __init__(self, vault: Vault, log: AuditLog, metrics: Metrics, reserve: Reserve) -> None:
        self._vault = vault
        self._log = log
        self._metrics = metrics
        self._reserve = reserve
        self._turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="vault")
        self._unfinished: Document | None = None
        self._owed: Sequence[OwedLine] = ()
        """The lines of the unfinished change that are not in the log yet."""
        self._events: list[Event] = []
        """Those of its lines that are."""
        self._keys: VaultKeys | None = None
        """What the unfinished document is sealed with, where those aren't the keys in force."""
        self._names: Sequence[str] = ()
        self._uncertain = False
        self._stalled = False
        self.on_commit: Callable[[Done], None] = lambda _: None
        self.admit: Callable[[], None] = lambda: None
        """Raises the Problem for which nothing may be changed now."""

    @property
    def unfinished(self) -> bool:
        """Whether a change on disk could not be completed when that was last tried."""
        return self._stalled

    async def commit(self, build: Build, keyed: Keyed | None = None, *, by_hand: bool = True) -> Done:
        """Carry one change through and return what it came to.

        With `keyed` the document keeps a receipt of it. Once begun it is not cancelled with its caller. On a full disk
        a change made by hand is given the space that is kept in reserve; the schedule's can wait. Raises the Problem
        that `build` raises, `vault-unavailable` or `audit-unavailable` when nothing changed, `outcome-unknown` when the
        change is on disk and is completed, its lines first, as soon as the log can be written again.
        """
        return await asyncio.shield(asyncio.get_running_loop().create_task(self._commit(build, keyed, by_hand)))

    async def finish(self) -> None:
        """Complete a change whose lines are owed. Raises Problem `audit-unavailable` while it can't be done.

        Once begun it is not cancelled with its caller.
        """
        await asyncio.shield(asyncio.get_running_loop().create_task(self._finish_in_turn()))

    async def settle(self) -> None:
        """Complete a change that lacks nothing but its lines, before anything else is written or given out.

        One that isn't safely on disk is let be: nothing depends on it yet. Raises Problem `audit-unavailable`.
        """
        if self._stalled and not self._uncertain:
            await self.finish()

    def resume(self, document: Document) -> None:
        """Take up a document found at start whose lines are owed; `finish` completes it."""
        self._unfinished, self._owed, self._stalled = document, document.outbox, True
        self._names = [line.subject for line in document.outbox if line.subject is not None]

    async def close(self) -> None:
        """Wait for the running change."""
        async with self._turn:
            self._thread.shutdown()

    async def _finish_in_turn(self) -> None:
        async with self._turn:
            await self._finish(by_hand=False)

    async def _commit(self, build: Build, keyed: Keyed | None, by_hand: bool) -> Done:
        async with self._turn:
            self.admit()
            await self._finish(by_hand=by_hand)
            before = self._vault.document
            drafted = build(before, before.generation + 1)
            draft = drafted if isinstance(drafted, Draft) else await drafted
            self.admit()
            if not draft.events and not draft.journal:
                return Done(before, (), ())
            document = self._next(before, draft, keyed)
            self._names = [*draft.secrets]
            self._keys = draft.keys
            if draft.keys is not None:
                document = await self._taken_over(document, draft.keys)
            await self._write(document, by_hand=by_hand)
            return await self._finish(fresh=True, by_hand=by_hand)

    def _next(self, before: Document, draft: Draft, keyed: Keyed | None) -> Document:
        generation = before.generation + 1
        receipts = before.receipts
        if keyed is not None:
            made = [record for record in draft.secrets.values() if record is not None]
            receipts = remembered([keyed.receipt(generation, made), *receipts])
        return replace(
            before,
            generation=generation,
            audit=AuditMark(self._log.log_id, self._log.sequence, self._log.head),
            policy=draft.policy or before.policy,
            secrets=_merged(before.secrets, draft.secrets),
            tombstones=_merged(before.tombstones, draft.tombstones),
            outbox=tuple(draft.events),
            receipts=receipts,
        )

    async def _taken_over(self, document: Document, keys: VaultKeys) -> Document:
        """Return the document with every value sealed by `keys`; many values take a while, so in the thread."""
        try:
            return await self._in_thread(partial(keys.taken_over, document, self._vault.keys))
        except SealError as error:
            raise Problem(
                "vault-unavailable",
                f"Nothing was changed, because not every value opens: {error}. `secretsctl recovery drill` and a "
                "backup tell which.",
            ) from error

    async def _write(self, document: Document, *, by_hand: bool) -> None:
        """Put the document on disk; from then on its lines are owed."""
        started = time.perf_counter()

        def encode_and_write() -> None:
            self._vault.write(self._vault.encode(document, self._keys))

        async def write() -> None:
            await self._in_thread(encode_and_write)

        try:
            await self._with_reserve(write, by_hand=by_hand)
        except CommitUncertain as error:
            # The lines must wait: should a crash bring the old document back, they would tell of what never was.
            self._unfinished, self._owed = document, document.outbox
            self._uncertain = self._stalled = True
            raise Problem(
                "outcome-unknown",
                f"The change is written but may not survive a crash: {error}. Ask again with the same Idempotency-Key.",
                headers=RETRY_SOON,
            ) from error
        except VaultWriteError as error:
            raise Problem(
                "vault-unavailable",
                f"Nothing was changed: {error}. Free some space or repair the file system, then ask again.",
                headers=RETRY_SOON,
            ) from error
        self._unfinished, self._owed, self._uncertain = document, document.outbox, False
        self._metrics.vault_commit(time.perf_counter() - started)

    async def _finish(self, *, by_hand: bool, fresh: bool = False) -> Done:
        """Make the owed lines durable and the document the one in force."""
        document = self._unfinished
        if document is None:
            return Done(self._vault.document, (), ())
        if self._uncertain:
            try:
                await self._write(document, by_hand=by_hand)
            except Problem as problem:
                raise Problem(
                    "vault-unavailable",
                    "A change before this one is not safely on disk yet, and nothing else is done before it. Repair "
                    "the file system, then ask again.",
                    headers=RETRY_SOON,
                ) from problem
        try:
            # A step of a rotation has no line. Where there are some, none being owed doesn't mean that all are told of.
            if document.outbox:
                await self._append_owed(by_hand=by_hand)
        except AuditWriteError as error:
            self._stalled = True
            raise Problem(
                "outcome-unknown" if fresh else "audit-unavailable",
                f"The change is in the vault, its audit line is not: {error}. It takes effect once the line can be "
                "written; ask again with the same Idempotency-Key."
                if fresh
                else f"A change before this one waits for its audit line: {error}. Nothing else is done before it.",
                headers=RETRY_SOON,
            ) from error
        events, self._events = self._events, []
        self._unfinished, self._stalled = None, False
        done = Done(document, self._names, events, resealed=self._keys is not None)
        self._vault.show(document, self._keys)
        self._keys = None
        self._log.release()
        for type_, count in Counter(event.type for event in events).items():
            self._metrics.changes.labels(type_).inc(count)
        self.on_commit(done)
        return done

    async def _append_owed(self, *, by_hand: bool) -> None:
        """Make the owed lines durable, and told of only when all of them are. Raises AuditWriteError."""
        if len(self._owed) > LINES_AT_ONCE:
            self._log.hold()
        while True:
            part, rest = self._owed[:LINES_AT_ONCE], self._owed[LINES_AT_ONCE:]
            entries = [Entry(line.type, line.subject, line.data) for line in part]
            try:
                self._events += await self._with_reserve(partial(self._log.append, *entries), by_hand=by_hand)
            except AuditWriteError as error:
                if error.kept:
                    # The lines have their place in the log; only the file at the path lacks them.
                    self._owed = rest
                elif not self._events:
                    self._log.release()
                raise
            self._owed = rest
            if not rest:
                return

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _with_reserve(self, attempt: Callable[[], Awaitable[T]], *, by_hand: bool) -> T:
        """Do what writes; where it fails and somebody waits for it, once more with the space kept in reserve."""
        try:
            return await attempt()
        except CommitUncertain:
            raise
        except (VaultWriteError, AuditWriteError) as error:
            for_lines = isinstance(error, AuditWriteError)
            if (isinstance(error, AuditWriteError) and error.kept) or not by_hand:
                raise
            if not await asyncio.to_thread(partial(self._reserve.give_up, for_lines=for_lines)):
                raise
            if self._reserve.spent:
                log.warning("%s; nothing is read until then", SPENT)
            return await attempt()


def _merged(old: Mapping[str, T], changed: Mapping[str, T | None]) -> Mapping[str, T]:
    if not changed:
        return old
    merged = dict(old)
    for name, value in changed.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = value
    return merged

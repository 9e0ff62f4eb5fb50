"""Carries rotations to the other end, step by step, each secret one at a time; the journal says where to go on.

Whatever a step came to is committed before the next one begins. A step whose commit fails is done again: steps may be
repeated, the journal's word is what counts (docs/rotators.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

from secretsd.errors import Problem
from secretsd.rotation import pending as journal
from secretsd.rotation.announce import Announcer, Cause
from secretsd.rotation.pending import Fault
from secretsd.service.changes import Changes
from secretsd.service.commits import Done, Draft
from secretsd.service.convergence import laggards
from secretsd.service.core import Core
from secretsd.service.orders import Errand, Method, Orders
from secretsd.vault.document import Document, Pending, SecretRecord

log = logging.getLogger(__name__)

AT_ONCE: Final = 8
"""Steps that run at the same time, and as many urgent ones besides; what is beyond waits for its turn."""
COMMIT_RETRY_SECS: Final = (1.0, 30.0)
_LOOK_SECS: Final = 60.0
"""How long a wait for the next try may be without looking at the clock: it may have been set back."""


@dataclass(frozen=True, slots=True)
class _At:
    """What a draft is made from: the record as it is in its turn, and the commit's generation and time."""

    announcer: Announcer
    record: SecretRecord
    pending: Pending
    generation: int
    now_ms: int


class Carrier:
    """One task for each secret whose rotation is under way."""

    def __init__(self, core: Core, chance: Callable[[], float] = random.random) -> None:
        self._core = core
        self._orders = Orders(core)
        self._chance = chance
        self._slots = {urgent: asyncio.Semaphore(AT_ONCE) for urgent in (False, True)}
        self._queued: dict[str, asyncio.Timeout] = {}
        """The waits for a slot that isn't for urgent ones."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._wake: dict[str, asyncio.Event] = {}
        self._out: dict[str, Errand] = {}
        """By name what may have brought a new value to the other end that is neither current nor taken back yet."""
        self._moved = asyncio.Event()
        self._hurried: set[str] = set()
        """Names whose next try doesn't wait for its time: the policy changed, which may be what it failed for."""
        self._begun = self._ending = False

    def start(self) -> None:
        """Go on with what is under way, and with all that begins from now on."""
        self._begun = True
        self._take_up(self._core.document.secrets)

    async def stop(self, seconds: float) -> None:
        """Let a value that the other end has taken become current, for so long; begin nothing else.

        What isn't through then goes on at the next start.
        """
        self._ending = True
        self._moved.set()
        for wake in self._wake.values():
            wake.set()
        tasks = list(self._tasks.values())
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def committed(self, done: Done) -> None:
        """Follow the vault to its next document."""
        document = done.document
        if document.policy.generation == document.generation:
            self._hurried |= self._tasks.keys()
            for wake in self._wake.values():
                wake.set()
        self._follow(done.names)
        if self._begun and not self._ending:
            self._take_up(done.names)
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def until_settled(self, names: Iterable[str], seconds: float) -> None:
        """Return when none of `names` is under way, one is known to fail, the time is over, or the daemon ends."""
        waiting = list(names)

        def settled() -> bool:
            found = [self._pending(name) for name in waiting]
            ways = [one for one in found if one is not None and one.step != "finish"]
            return not ways or any(one.reported for one in ways)

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._ending and not settled():
                    await self._moved.wait()

    def _follow(self, names: Iterable[str]) -> None:
        """Let go of what has arrived or was dropped, and end what brings the value of a secret that was deleted."""
        for name in names:
            errand = self._out.get(name)
            if errand is None or errand.dropped:
                continue
            pending = self._pending(name)
            if name not in self._core.document.secrets:
                errand.drop()
            elif pending is None or pending.step == "finish":
                del self._out[name]

    def _take_up(self, names: Iterable[str]) -> None:
        for name in names:
            pending = self._pending(name)
            if name in self._tasks:
                self._wake[name].set()
                if (pending is None or pending.urgent) and name in self._queued:
                    self._queued.pop(name).reschedule(0)
            elif pending is not None:
                self._wake[name] = asyncio.Event()
                self._tasks[name] = asyncio.get_running_loop().create_task(self._carry(name))

    def _pending(self, name: str) -> Pending | None:
        record = self._core.document.secrets.get(name)
        return None if record is None else record.under_way

    async def _carry(self, name: str) -> None:
        pause = 0.0
        try:
            while (pending := await self._next(name)) is not None:
                if self._ending and pending.step != "test":
                    return
                try:
                    if not await self._due(name, pending, pause):
                        continue
                    pause = 0.0
                    if await self._turn(name, pending):
                        try:
                            await self._advance(name)
                        finally:
                            self._slots[pending.urgent].release()
                except Problem as problem:
                    pause = min(max(pause * 2, COMMIT_RETRY_SECS[0]), COMMIT_RETRY_SECS[1])
                    log.error("rotation of %s: %s; gone on with in %d s", name, problem.detail, pause)  # noqa: TRY400
                except Exception as error:  # noqa: BLE001 — one secret must not end the rotation of another, or its own
                    # Without the trace: a foreign exception's text can hold a value.
                    pause = COMMIT_RETRY_SECS[1]
                    log.error("rotation of %s: an unforeseen %s", name, type(error).__name__)  # noqa: TRY400
        finally:
            del self._tasks[name], self._wake[name]
            self._out.pop(name, None)
            self._hurried.discard(name)

    async def _next(self, name: str) -> Pending | None:
        """Return what is under way, once the other end has its old value again where the secret was deleted."""
        errand = self._out.get(name)
        if errand is not None and errand.dropped:
            del self._out[name]
            trouble = await self._put_back(errand)
            back = "the old value is back" if trouble is None else f"the old value is not back; {trouble.reason}"
            log.warning("rotation of %s: its secret was deleted on the way; %s", name, back)
        return self._pending(name)

    async def _due(self, name: str, pending: Pending, pause: float) -> bool:
        """Wait until the next try, or until something about it changed; tell whether it is to be tried now."""
        wake = self._wake[name]
        wake.clear()
        core = self._core
        left = max(journal.left_ms(pending, core.clock.now_ms()) / 1000, pause)
        if core.stopped_serving is not None:
            left = _LOOK_SECS
        if left <= 0 or name in self._hurried:
            return True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(left, _LOOK_SECS)):
                await wake.wait()
                return False
        return left <= _LOOK_SECS and core.stopped_serving is None

    async def _turn(self, name: str, pending: Pending) -> bool:
        """Take a slot, and tell whether it has: one that becomes urgent while it waits has to look for another."""
        with contextlib.suppress(TimeoutError):
            try:
                async with asyncio.timeout(None) as wait:
                    if not pending.urgent:
                        self._queued[name] = wait
                    await self._slots[pending.urgent].acquire()
                    return True
            finally:
                self._queued.pop(name, None)
        return False

    async def _advance(self, name: str) -> None:
        """Do the next step and commit what it came to."""
        core = self._core
        record = core.document.secrets.get(name)
        pending = None if record is None else record.under_way
        hurried = name in self._hurried
        self._hurried.discard(name)
        if record is None or pending is None or (journal.left_ms(pending, core.clock.now_ms()) and not hurried):
            return
        if pending.step in {"finish", "undo"}:
            self._out.pop(name, None)
        rule = core.policy.rule_for(name).rotator
        if rule is None:
            await self._without_rotator(name, pending)
            return
        errand = self._orders.errand(name, record, pending, rule)
        match pending.step:
            case "set":
                await self._set(name, pending, errand)
            case "test":
                await self._test(name, pending, errand)
            case "finish":
                await self._settle(name, pending, errand, await self._counted("finish", errand))
            case "undo":
                await self._settle(name, pending, errand, await self._put_back(errand))

    async def _set(self, name: str, pending: Pending, errand: Errand) -> None:
        self._out[name] = errand
        fault = await self._counted("set", errand)
        if errand.dropped:
            return
        if fault is None:
            await self._commit(name, pending, lambda at: _quiet(name, journal.was_set(at.record, at.now_ms)))
        else:
            await self._fail(name, pending, errand.rule.retries, await self._with_old_back(errand, fault))

    async def _test(self, name: str, pending: Pending, errand: Errand) -> None:
        self._out[name] = errand
        fault = await self._counted("test", errand)
        if errand.dropped:
            return
        if fault is not None:
            await self._fail(name, pending, errand.rule.retries, await self._with_old_back(errand, fault))
            return
        rotator = errand.rule.build()
        changes = self._changes()

        def arrive(at: _At) -> Draft:
            after, ended = journal.arrived(
                at.record,
                changes.settings(name, at.record),
                finishes=rotator.finishes(urgent=at.pending.urgent),
                now_ms=at.now_ms,
                generation=at.generation,
            )
            cause = Cause(at.pending.client, at.pending.reason, at.pending.urgent)
            events = [
                at.announcer.changed(at.pending.verb, name, after, cause),
                *(at.announcer.retired(name, after, version, cause) for version in ended),
            ]
            return Draft(events, {name: after}, {})

        await self._commit(name, pending, arrive)

    async def _with_old_back(self, errand: Errand, fault: Fault) -> Fault:
        """Put the old value back before anything waits, and return the fault with what came of that.

        Where `set` was refused for good, the other end hasn't taken anything if the old value still works.
        """
        self._out.pop(errand.order.name, None)
        if fault.final and fault.reason.startswith("set") and await errand.run("test", reverse=True) is None:
            return fault
        trouble = await self._put_back(errand)
        if trouble is None:
            return fault
        return journal.not_back(fault, trouble)

    async def _put_back(self, errand: Errand) -> Fault | None:
        return await self._counted("rollback", errand) or await errand.run("test", reverse=True)

    async def _settle(self, name: str, pending: Pending, errand: Errand, fault: Fault | None) -> None:
        if fault is not None:
            await self._fail(name, pending, errand.rule.retries, fault)
        else:
            await self._drop(name, pending)

    async def _drop(self, name: str, pending: Pending) -> None:
        await self._commit(name, pending, lambda at: _quiet(name, journal.dropped(at.record)))

    async def _without_rotator(self, name: str, pending: Pending) -> None:
        """End what only tidies up or was cancelled; anything else waits for somebody to decide: the rule is gone."""
        if pending.step in {"finish", "undo"}:
            await self._drop(name, pending)
            return
        fault = Fault("the policy names no rotator for this secret any more; put it back, or cancel", final=True)
        await self._fail(name, pending, 0, fault)

    async def _fail(self, name: str, pending: Pending, retries: int, fault: Fault) -> None:
        def fail(at: _At) -> Draft:
            after, report = journal.failed(
                at.record, fault, retries=retries, now_ms=at.now_ms, chance=self._chance(), generation=at.generation
            )
            if not report:
                return _quiet(name, after)
            cause = Cause(at.pending.client, fault.reason, at.pending.urgent)
            event = at.announcer.rotation_failed(name, after, cause)
            return Draft([event], {name: after}, {})

        log.warning("rotation of %s: %s", name, fault.reason)
        await self._commit(name, pending, fail)

    async def _counted(self, method: Method, errand: Errand) -> Fault | None:
        fault = await errand.run(method)
        outcome = "ok" if fault is None else "refused" if fault.final else "failed"
        self._core.metrics.rotation_steps.labels(method, outcome).inc()
        return fault

    async def _commit(self, name: str, pending: Pending, draw: Callable[[_At], Draft]) -> None:
        """Commit what `draw` makes of the record, where the same step of the same rotation is still due."""
        core = self._core
        changes = self._changes()

        def build(document: Document, generation: int) -> Draft:
            record = document.secrets.get(name)
            now = None if record is None else record.under_way
            if record is None or now is None or (now.token, now.step) != (pending.token, pending.step):
                return Draft([], {}, {})
            return draw(_At(changes.announcer(document), record, now, generation, core.clock.now_ms()))

        await core.committer.commit(build, by_hand=False)

    def _changes(self) -> Changes:
        return Changes(self._core.vault, self._core.policy, self._core.config, partial(laggards, self._core))


def _quiet(name: str, record: SecretRecord) -> Draft:
    return Draft([], {name: record}, {}, journal=True)

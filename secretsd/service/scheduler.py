"""Lets happen what is due: one commit for all of it, when the clock can be trusted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection
from dataclasses import replace
from functools import partial
from typing import Final

from secretsd import tasks
from secretsd.errors import Problem
from secretsd.model import NEVER_MS
from secretsd.rotation.schedule import Agenda, Due
from secretsd.service.changes import Changes
from secretsd.service.commits import Done, Draft, in_slices
from secretsd.service.convergence import Ripe, laggards
from secretsd.service.core import Core
from secretsd.vault.document import Document

log = logging.getLogger(__name__)

LOOK_MS: Final = 1000
"""How often the clock is looked at, whatever is due."""
RETRY_MOST_MS: Final = 30_000


class Scheduler:
    """Wakes at the next due instant, to the millisecond where the loop allows."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._policy = core.policy
        self._agenda = Agenda(core.document.secrets, core.policy)
        self._ripe = Ripe(core)
        self._wake = asyncio.Event()
        self._pause_ms = 0
        self._not_before = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def next_instant(self) -> int:
        """When something is due next, in epoch ms; NEVER_MS for nothing."""
        return self._agenda.next_instant()

    @property
    def held(self) -> int:
        """How many rotations are due and wait."""
        now_ms = self._core.clock.now_ms()
        return sum(1 for slot in self._agenda.held().values() if slot.at > now_ms)

    def start(self) -> None:
        """Begin, in the background."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End; a commit that has begun is carried through."""
        await tasks.end(self._task)

    def committed(self, done: Done) -> None:
        """Follow the vault to its next document."""
        if self._core.policy is not self._policy:
            self._policy = self._core.policy
            self._agenda.follow(self._policy)
        # After a rotation of keys no record of before may be carried on: its ciphertext is under the old ones.
        self._agenda.update([*done.document.secrets] if done.resealed else done.names, done.document.secrets)
        for event in done.events:
            if event.type == "secret.retired":
                self._core.metrics.left_behind.inc(event.data.get("laggard_count") or 0)
        other_rights = any(event.type == "policy.reloaded" for event in done.events)
        self._ripe.look([*done.document.secrets] if other_rights else done.names)
        self._wake.set()

    def seen(self, names: Collection[str]) -> None:
        """Follow what is known of consumers: who moved last ends a grace that waits for that."""
        self._ripe.look(names)
        if self._ripe:
            self._wake.set()

    async def tick(self) -> bool:
        """Carry out what is due now; tell whether anything was. Raises Problem when it can't be written."""
        core = self._core
        if core.committer.unfinished:
            await core.committer.finish()
        if not core.guard.check() or core.stopped_serving is not None or core.reserve.spent:
            return False
        self._ripe.sweep()
        if self._agenda.next_instant() > core.clock.now_ms() and not self._ripe:
            return False

        async def build(document: Document, generation: int) -> Draft:
            now_ms = core.clock.now_ms()
            changes = Changes(core.vault, core.policy, core.config, partial(laggards, core))
            due = {name: (record, decision) for name, record, decision in self._agenda.due(now_ms)}
            for name, record, versions in self._ripe.take():
                _, decision = due.get(name, (record, Due()))
                due[name] = (record, replace(decision, unneeded=versions))
            owed = ((name, record, decision) for name, (record, decision) in due.items())
            return await in_slices(owed, lambda part: changes.scheduled(document, generation, part, now_ms))

        done = await core.committer.commit(build, by_hand=False)
        if not done.names:
            return False
        log.info("schedule: %d secrets changed in generation %d", len(done.names), done.document.generation)
        return True

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                if self._core.clock.elapsed_ms() >= self._not_before:
                    await self.tick()
                    self._pause_ms = 0
                    self._core.schedule_failure = None
            except Problem as problem:
                self._pause_ms = min(max(self._pause_ms * 2, LOOK_MS), RETRY_MOST_MS)
                self._not_before = self._core.clock.elapsed_ms() + self._pause_ms
                self._core.schedule_failure = problem.detail
                log.error("schedule: %s; tried again in %d s", problem.detail, self._pause_ms // 1000)  # noqa: TRY400
            except Exception:
                # One secret that can't be rotated must not stop the clock for all others and for good.
                self._not_before = self._core.clock.elapsed_ms() + RETRY_MOST_MS
                self._core.schedule_failure = "an unforeseen error, see the daemon's log"
                log.exception("schedule: an unforeseen error; tried again in %d s", RETRY_MOST_MS // 1000)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._sleep_ms() / 1000):
                    await self._wake.wait()

    def _sleep_ms(self) -> int:
        core = self._core
        held = core.guard.doubt is not None or core.stopped_serving is not None or core.reserve.spent
        if held or core.clock.elapsed_ms() < self._not_before:
            return LOOK_MS
        due_in = min(self.next_instant, NEVER_MS) - core.clock.now_ms()
        return max(0, min(due_in, LOOK_MS))

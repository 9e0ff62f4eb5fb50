"""What the schedule will do, for who may read the secrets that it concerns."""

from __future__ import annotations

import asyncio
import fnmatch
from functools import partial
from typing import Final

from secretsd_bus import rfc3339

from secretsd.auth import Caller
from secretsd.model import DAY_MS, Occurrence, Schedule
from secretsd.policy import Policy
from secretsd.rotation.outlook import Planned, outlook
from secretsd.service.answers import Answered
from secretsd.service.changes import Changes
from secretsd.service.core import Core
from secretsd.service.reads import Reads

OCCURRENCES_MOST: Final = 10_000
"""Of those that are asked for."""
WORK_MOST: Final = 100_000
"""Of those, and of all others that a distance is kept from."""


class Planning(Reads):
    """The calls of `Reads`, and what is planned."""

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self._planning = asyncio.Lock()

    async def schedule(self, caller: Caller, *, days: int, pattern: str | None) -> Answered[Schedule]:
        """Return what happens by itself within `days` to what the caller may read, and `pattern` (a glob) matches."""
        core = self._core
        await self._ready()
        document, policy = core.document, core.policy
        await self._audit(self._access("secret.listed", caller, "schedule", None, None, "ok"))
        now_ms = core.clock.now_ms()
        until_ms = now_ms + days * DAY_MS
        changes = Changes(core.vault, policy, core.config)
        glob = None if pattern is None else pattern.replace("[", "[[]")

        def wanted(name: str) -> bool:
            return (glob is None or fnmatch.fnmatchcase(name, glob)) and policy.may(caller.client, "read", name)

        async with self._planning:
            # In a thread, and one at a time: thousands of secrets take a second.
            found, complete = await asyncio.to_thread(
                partial(
                    outlook,
                    document.secrets,
                    policy,
                    changes.settings,
                    now_ms=now_ms,
                    until_ms=until_ms,
                    most=OCCURRENCES_MOST,
                    work=WORK_MOST,
                    wanted=wanted,
                )
            )
        answer = Schedule(
            now=rfc3339(now_ms),
            until=rfc3339(until_ms),
            complete=complete,
            doubt=core.guard.doubt,
            occurrences=[_worded(one, policy, caller.client) for one in found],
        )
        return Answered(answer, document.position)


def _worded(one: Planned, policy: Policy, client: str) -> Occurrence:
    """Return what is planned as the wire has it; a name that `client` may not read is not told."""
    rule, slot = policy.rule_for(one.name), one.slot
    moved_by = None if slot is None else slot.moved_by
    return Occurrence(
        at=rfc3339(one.at),
        name=one.name,
        what=one.what,
        version=one.version,
        due_at=rfc3339(one.due_ms),
        schedule=None if rule.cron is None else f"{rule.cron.expression} {rule.cron.zone}",
        window=rule.window.label if rule.window is not None and one.what == "rotate" else None,
        moved=moved_by is not None,
        moved_by=moved_by if moved_by is not None and policy.may(client, "read", moved_by) else None,
    )

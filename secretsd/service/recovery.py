"""Looks whether a disk that failed works again, so that /healthz says so though nobody asks for anything."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from secretsd.errors import AuditWriteError, Problem
from secretsd.service.core import Core

LOOK_SECONDS: Final = 1.0


async def look(core: Core) -> None:
    """Take the reserve where it isn't taken, and complete what waits for the log, as far as there is room again."""
    # Not only where we gave it up: a pruning may have, and at the start there may have been no room for it.
    await asyncio.to_thread(core.reserve.take)
    with contextlib.suppress(AuditWriteError, Problem):
        await core.log.probe()
        await core.committer.settle()


async def recover(core: Core) -> None:
    """Look again and again; ends when cancelled."""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        await look(core)

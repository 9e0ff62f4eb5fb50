"""Rotations that reach another end, from the asking side: waiting for them, and saying how far they are."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from msgspec import UnsetType

from secretsd.cli.output import distance, version_line, when
from secretsd.cli.session import Session
from secretsd.cli.terminal import printable
from secretsd.model import Metadata, PendingRotation

WAIT_SECS: Final = 60.0
"""How long a command waits besides the daemon's own ten seconds; enough for the tries that come soon."""
LOOK_SECS: Final = 1.0


def under_way(secret: Metadata) -> PendingRotation | None:
    """Return the rotation that the other end hears of; None for none, or where only tidying up is left."""
    pending = secret.pending
    return None if isinstance(pending, UnsetType) or pending.step == "finish" else pending


def settled(session: Session, secrets: Sequence[Metadata], *, within: float = WAIT_SECS) -> list[Metadata]:
    """Wait until each of `secrets` is through or known to fail, or the time is over; return them as they are then.

    One that the client may not read is returned as it was.
    """
    found = list(secrets)
    deadline = time.monotonic() + within
    while any((pending := under_way(one)) is not None and not pending.failing for one in found):
        if time.monotonic() >= deadline:
            break
        time.sleep(LOOK_SECS)
        now = {one.name: one for one in session.secrets()}
        if not any(one.name in now for one in found if under_way(one) is not None):
            break
        found = [now.get(one.name, one) for one in found]
    return found


def outcome_line(done: str, secret: Metadata) -> str:
    """Return a line that says what became of a change: that it is done, or how far it is."""
    pending = under_way(secret)
    if pending is None:
        return version_line(done, secret)
    return printable(f"not {done} yet, {secret.name}: {progress(pending)}; version {secret.version} stays current")


def is_failing(secret: Metadata) -> bool:
    """Tell whether it is known that the rotation doesn't get through."""
    pending = under_way(secret)
    return pending is not None and pending.failing


def progress(pending: PendingRotation) -> str:
    """Return how far a rotation is, for people."""
    if pending.step == "finish":
        said = f"version {pending.version} is in force, and the other end is to be tidied up"
    elif pending.step == "undo":
        said = "cancelled, and the other end is given the old value"
    else:
        said = f"version {pending.version} is on its way since {when(pending.since)}"
    if pending.failure is None:
        return said
    return f"{said}: {pending.attempts} failed, the last one for: {pending.failure}; tried {_next(pending)}"


def _next(pending: PendingRotation) -> str:
    ahead = distance(pending.next_attempt)
    return f"again {ahead}" if ahead.startswith("in ") else "again now"

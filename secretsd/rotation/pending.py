"""A rotation on its way to the other end: which step comes next, and what a failure means (docs/rotators.md).

Pure functions from a record to the next one. The journal errs on one side: at the step `set` the other end may have the
new value or not, so that whatever comes next is right in both cases.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from secretsd.model import MAX_REASON, NOT_BACK
from secretsd.policy import SecretSettings
from secretsd.rotation.announce import Cause
from secretsd.rotation.transitions import superseded
from secretsd.vault.document import Pending, SecretRecord, VersionRecord

SOON_MS: Final = 1000
"""Before the second try; doubled for each one after it."""
SOON_MOST_MS: Final = 60_000
SLOW_MS: Final = 15 * 60_000
"""Between tries once the failure was reported: somebody has to do something first."""

_PART_MOST: Final = 100
"""Characters of the first of two reasons in one: the second has to find room too."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a step failed, in words without a value; `final` where asking again changes nothing."""

    reason: str
    final: bool = False


def not_back(fault: Fault, trouble: Fault) -> Fault:
    """Return a fault after which the old value couldn't be put back either, for `trouble`.

    What matters most is said first, since a reason is cut at its end.
    """
    first, second = (one.reason.partition(": ")[2] for one in (fault, trouble))
    if first[: len(second)] == second[: len(first)]:
        said = fault.reason
    else:
        short = fault.reason if len(fault.reason) <= _PART_MOST else f"{fault.reason[: _PART_MOST - 1]}…"
        said = f"{short}; {trouble.reason}"
    return Fault(f"{NOT_BACK}; {said}"[:MAX_REASON], fault.final)


def in_way(record: SecretRecord) -> Pending | None:
    """Return the rotation that another one would have to wait for: not one that only tidies up."""
    pending = record.under_way
    return None if pending is None or pending.step == "finish" else pending


def brought(record: SecretRecord) -> VersionRecord:
    """Return the version that the last change of the record made current, or is bringing to the other end."""
    pending = in_way(record)
    return record.current if pending is None or pending.step == "undo" else pending.version


def tidying(record: SecretRecord) -> Pending | None:
    """Return the rotation that only tidies up at the other end, None for any other state."""
    pending = record.under_way
    return pending if pending is not None and pending.step == "finish" else None


def is_failing(record: SecretRecord) -> bool:
    """Tell whether the rotation that is under way was announced as failing, be it only in tidying up."""
    pending = record.under_way
    return pending is not None and pending.reported


def begun(
    record: SecretRecord,
    pending: Pending,
    displaced: Collection[VersionRecord],
    generation: int,
) -> SecretRecord:
    """Return the record with a rotation under way; `displaced` are versions in grace that end with it.

    The other end keeps so many values only, and these stop working as soon as it takes the new one.
    """
    kept = tuple(version for version in record.versions if version not in displaced)
    return replace(record, versions=kept, pending=pending, generation=generation)


def asked_again(
    record: SecretRecord, cause: Cause, now_ms: int, generation: int, grace_ms: int | UnsetType | None = UNSET
) -> SecretRecord:
    """Return the record whose rotation, under way already, is asked for once more: a new incident, at once.

    A grace that is asked for with it is what holds; UNSET for none.
    """
    pending = _pending(record)
    return replace(
        record,
        generation=generation,
        pending=replace(
            pending,
            step="set" if pending.step == "undo" else pending.step,
            client=cause.client,
            reason=cause.reason,
            urgent=pending.urgent or cause.urgent,
            grace_ms=pending.grace_ms if isinstance(grace_ms, UnsetType) else grace_ms,
            attempts=0,
            due_at=now_ms,
            failure=None,
            reported=False,
        ),
    )


def cancelled(record: SecretRecord, cause: Cause, now_ms: int, generation: int) -> SecretRecord:
    """Return the record whose rotation is to be undone: the other end takes the old value again, then it is dropped."""
    again = asked_again(record, cause, now_ms, generation)
    return replace(again, pending=replace(_pending(again), step="undo"))


def was_set(record: SecretRecord, now_ms: int) -> SecretRecord:
    """Return the record once the other end took the value: it is tested next, at once."""
    return replace(record, pending=replace(_pending(record), step="test", due_at=now_ms))


def arrived(
    record: SecretRecord, settings: SecretSettings, *, finishes: bool, now_ms: int, generation: int
) -> tuple[SecretRecord, tuple[VersionRecord, ...]]:
    """Return the record with the tested value as its current version, and the versions whose grace ends thereby.

    With `finishes` the other end is tidied up next; the rotation has arrived all the same.
    """
    pending = _pending(record)
    new = replace(pending.version, created_at=now_ms)
    after, ended = superseded(
        record, new, settings, generation=generation, grace_ms=pending.grace_ms, urgent=pending.urgent
    )
    left = replace(pending, version=new, step="finish", attempts=0, due_at=now_ms, failure=None, reported=False)
    return replace(after, pending=left if finishes else UNSET), ended


def dropped(record: SecretRecord) -> SecretRecord:
    """Return the record with nothing under way: the other end is tidied up, or has the old value again."""
    return replace(record, pending=UNSET)


def failed(
    record: SecretRecord, fault: Fault, *, retries: int, now_ms: int, chance: float, generation: int
) -> tuple[SecretRecord, bool]:
    """Return the record after a failed attempt, and whether the failure is to be announced now.

    After `retries` tries soon one after the other, or at once where trying changes nothing, it is announced and tried
    at a slow pace. `chance`, from 0 to 1, spreads what failed together. After a failed test it begins with `set` again,
    since the old value was put back.
    """
    pending = _pending(record)
    attempts = pending.attempts + 1
    report = not pending.reported and (fault.final or attempts > retries)
    slow = report or pending.reported
    pause_ms = _pause_ms(attempts, slow=slow)
    after = replace(
        pending,
        step="set" if pending.step == "test" else pending.step,
        attempts=attempts,
        due_at=now_ms + round(pause_ms * (0.5 + chance / 2)),
        failure=fault.reason,
        reported=slow,
    )
    return replace(record, pending=after, generation=generation if report else record.generation), report


def left_ms(pending: Pending, now_ms: int) -> int:
    """Return how long the next try has yet to wait.

    A time further ahead than its pause can be was given by a clock that has been set back since: it waits for nothing.
    """
    paused = pending.attempts and pending.step != "test"
    left = pending.due_at - now_ms
    return left if paused and 0 < left <= _pause_ms(pending.attempts, slow=pending.reported) else 0


def _pause_ms(attempts: int, *, slow: bool) -> int:
    """Return the longest pause after so many failed attempts."""
    return SLOW_MS if slow else min(SOON_MS << min(attempts - 1, 10), SOON_MOST_MS)


def _pending(record: SecretRecord) -> Pending:
    pending = record.under_way
    if pending is None:
        raise ValueError("no rotation is under way")
    return pending

"""What the schedule will do: the agenda itself, run ahead over records without values. Pure."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from msgspec.structs import replace

from secretsd.policy import Policy, SecretSettings
from secretsd.rotation.pending import arrived, dropped, in_way
from secretsd.rotation.schedule import Agenda, Due
from secretsd.rotation.spacing import Slot, Spacing
from secretsd.rotation.transitions import superseded
from secretsd.vault.document import SecretRecord, VersionRecord

What = Literal["rotate", "publish", "expire", "warn", "grace ends"]

_NO_VALUE: Final = ""


@dataclass(frozen=True, slots=True)
class Planned:
    """One thing that will happen to one secret. Instants in epoch ms; `due_ms` is when it expires."""

    at: int
    name: str
    what: What
    version: int
    """The version that becomes current, is published ahead, expires or ends its grace."""
    due_ms: int
    slot: Slot | None = None
    """Where the rotation was placed, if its window or another secret had a say in it."""


def outlook(
    records: Mapping[str, SecretRecord],
    policy: Policy,
    settings: Callable[[str, SecretRecord], SecretSettings],
    *,
    now_ms: int,
    until_ms: int,
    most: int,
    work: int = sys.maxsize,
    wanted: Callable[[str], bool] = lambda _: True,
) -> tuple[list[Planned], bool]:
    """Return what happens by `until_ms` if nobody does anything by hand, earliest first, and whether that is all.

    `settings` says how a secret is kept, `wanted` which ones are told of. It ends with the instant at which there are
    `most` of those, or `work` of all that have a say in when they happen.
    """
    spacing = Spacing(policy)
    found: list[Planned] = []
    # What no distance is kept from has no say in when others rotate.
    current = {name: record for name, record in records.items() if wanted(name) or spacing.apart(name)}
    for name, record in list(current.items()):
        pending = in_way(record)
        if pending is not None and pending.step == "undo":
            current[name] = dropped(record)
        elif pending is not None:
            # One that is under way is taken to arrive now.
            kept = settings(name, record)
            current[name], _ = arrived(record, kept, finishes=False, now_ms=now_ms, generation=record.generation)
            if wanted(name):
                found.append(Planned(now_ms, name, "rotate", pending.version.version, record.expires_at))
    agenda, done, instant = Agenda(current, policy), 0, now_ms
    # What is to be placed anew is looked at with what happened last: its own instant may be past by then.
    while (instant := max(agenda.next_instant(), instant)) <= until_ms:
        if len(found) >= most or done >= work:
            return found, False
        changed: list[str] = []
        for name, record, due in list(agenda.due(instant)):
            current[name], happens = _carried_out(name, record, due, settings(name, record), instant)
            changed.append(name)
            done += len(happens)
            if wanted(name):
                found += happens
        agenda.update(changed, current)
    return found, True


def _carried_out(
    name: str, record: SecretRecord, due: Due, kept: SecretSettings, now_ms: int
) -> tuple[SecretRecord, list[Planned]]:
    """Return the record after what is due, as the service makes it, and what that was."""
    happens: list[Planned] = []
    over, expires_at = due.retire, record.expires_at
    if over:
        record = replace(record, versions=tuple(version for version in record.versions if version not in over))
    what: What | None = None
    if due.rotate:
        new = VersionRecord(record.current.version + 1, _NO_VALUE, now_ms, "utf-8", _NO_VALUE, _NO_VALUE)
        record, pushed_out = superseded(
            record, new, kept, generation=record.generation, grace_ms=kept.grace_ms, urgent=False
        )
        over += pushed_out
        what = "rotate"
    elif due.expired:
        record, what = replace(record, status="expired"), "expire"
    elif due.expiring is not None:
        record, what = replace(record, status="expiring", announced=due.expiring), "warn"
    if due.publish:
        upcoming = VersionRecord(record.current.version + 1, _NO_VALUE, now_ms, "utf-8", _NO_VALUE, _NO_VALUE)
        record = replace(record, upcoming=upcoming)
        happens.append(Planned(now_ms, name, "publish", upcoming.version, expires_at))
    if what is not None:
        happens.append(Planned(now_ms, name, what, record.current.version, expires_at, due.slot))
    happens.extend(
        Planned(now_ms, name, "grace ends", version.version, version.grace_until or now_ms) for version in over
    )
    return record, happens

"""What an event says of a secret (docs/events.md): never a value, nor a hash of one."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from msgspec import UNSET, UnsetType
from secretsd_bus import rfc3339
from secretsd_bus.payloads import MAX_LAGGARDS, KeyPublished, Previous, RotationFailed, SecretChanged, SecretRetired

from secretsd.model import MAX_REASON, MAX_SAFE_INTEGER, Metadata, PendingRotation, Upcoming
from secretsd.vault.document import OwedLine, SecretRecord, Tombstone, VersionRecord

SCHEDULE = "secretsd"
"""The client that the schedule's own changes are ascribed to."""

Verb = Literal["created", "updated", "rotated", "rotation_started", "expiring", "expired", "retired", "deleted"]


Laggards = Callable[[str, VersionRecord], Mapping[str, str] | None]
"""Tells who uses a version of a name still, each with when it was last seen; None where that isn't known."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Who changed a secret and why."""

    client: str
    reason: str | None = None
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class Announcer:
    """Words the events of one commit."""

    epoch: str
    spread_ms: int
    laggards: Laggards = lambda _name, _version: None

    def changed(self, verb: Verb, name: str, record: SecretRecord, cause: Cause) -> OwedLine:
        """Return the event for a secret as it stands after the commit."""
        return OwedLine(f"secret.{verb}", name, SecretChanged(**self._members(name, record, cause)).data())

    def retired(self, name: str, record: SecretRecord, ended: VersionRecord, cause: Cause) -> OwedLine:
        """Return the event for a version whose grace is over; `version` and `kid` are the secret's current ones."""
        laggards = self.laggards(name, ended)
        retired = SecretRetired(
            **self._members(name, record, cause),
            retired_version=ended.version,
            retired_kid=ended.kid,
            laggards=None if laggards is None else dict(sorted(laggards.items())[:MAX_LAGGARDS]),
            laggard_count=None if laggards is None else len(laggards),
        )
        return OwedLine("secret.retired", name, retired.data())

    def key_published(self, name: str, record: SecretRecord, upcoming: VersionRecord, cause: Cause) -> OwedLine:
        """Return the event for a signing key that verifiers may learn of; the secret is as it was."""
        told = KeyPublished(
            **self._members(name, record, cause), upcoming_version=upcoming.version, upcoming_kid=upcoming.kid
        )
        return OwedLine("secret.key_published", name, told.data())

    def rotation_failed(self, name: str, record: SecretRecord, cause: Cause) -> OwedLine:
        """Return the event for the rotation under way that doesn't get through, as it stands after the failure."""
        pending = record.under_way
        if pending is None:
            raise ValueError("no rotation is under way")
        failed = RotationFailed(**self._members(name, record, cause), attempts=pending.attempts, step=pending.step)
        return OwedLine("secret.rotation_failed", name, failed.data())

    def deleted(self, name: str, stone: Tombstone, cause: Cause) -> OwedLine:
        """Return the event for a secret that is gone."""
        return OwedLine("secret.deleted", name, self._gone(name, stone, cause).data())

    def state(self, name: str, record: SecretRecord) -> dict[str, Any]:
        """Return the `data` of the retained state: what an event would say now, caused by nobody."""
        return SecretChanged(**self._members(name, record, Cause(SCHEDULE))).data()

    def state_of_deleted(self, name: str, stone: Tombstone) -> dict[str, Any]:
        """Return the `data` of the retained state of a deleted name."""
        return self._gone(name, stone, Cause(SCHEDULE)).data()

    def _members(self, name: str, record: SecretRecord, cause: Cause) -> dict[str, Any]:
        return {
            "name": name,
            "version": record.current.version,
            "kid": record.current.kid,
            "type": record.type,
            "status": record.status,
            "expires_at": rfc3339(record.expires_at),
            "previous": previous(record),
            "epoch": self.epoch,
            "generation": record.generation,
            **self._cause(cause),
        }

    def _gone(self, name: str, stone: Tombstone, cause: Cause) -> SecretChanged:
        return SecretChanged(
            name=name,
            version=stone.version,
            kid=stone.kid,
            type=stone.type,
            status="deleted",
            expires_at=rfc3339(stone.expires_at),
            previous=None,
            epoch=self.epoch,
            generation=stone.generation,
            **self._cause(cause),
        )

    def _cause(self, cause: Cause) -> dict[str, Any]:
        return {
            "client": cause.client,
            "reason": cause.reason,
            "urgent": cause.urgent,
            "spread_ms": self.spread_ms,
        }


def previous(record: SecretRecord, now_ms: int = 0, before: int = MAX_SAFE_INTEGER) -> Previous | None:
    """Return the newest version older than `before` that is in grace at `now_ms`, as the wire has it."""
    for version in record.in_grace:
        if version.version < before and (version.grace_until or 0) > now_ms:
            return Previous(version=version.version, kid=version.kid, grace_until=rfc3339(version.grace_until or 0))
    return None


def metadata(name: str, record: SecretRecord, now_ms: int, version: VersionRecord | None = None) -> Metadata:
    """Return what may be said of a secret at `now_ms` to who may read it.

    With `version` of that one, as a read of it tells: nothing of what is under way or to come.
    """
    about = version or record.current
    return Metadata(
        name=name,
        version=about.version,
        kid=about.kid,
        type=record.type,
        status=record.status,
        rotation=record.rotation,
        created_at=rfc3339(about.created_at),
        expires_at=rfc3339(record.expires_at),
        previous=previous(record, now_ms, about.version),
        generation=record.generation,
        pending=pending_rotation(record) if version is None else UNSET,
        upcoming=_upcoming(record) if version is None else UNSET,
    )


def _upcoming(record: SecretRecord) -> Upcoming | UnsetType:
    upcoming = record.published_ahead
    if upcoming is None:
        return UNSET
    return Upcoming(version=upcoming.version, kid=upcoming.kid, published_at=rfc3339(upcoming.created_at))


def pending_rotation(record: SecretRecord) -> PendingRotation | UnsetType:
    """Return what may be said of a rotation that is under way, UNSET for none."""
    pending = record.under_way
    if pending is None:
        return UNSET
    return PendingRotation(
        version=pending.version.version,
        step=pending.step,
        since=rfc3339(pending.version.created_at),
        attempts=pending.attempts,
        next_attempt=rfc3339(pending.due_at),
        failure=pending.failure,
        failing=pending.reported,
    )


def clean_reason(text: str | None) -> str | None:
    """Return `text` fit for an event: no control characters, no lone surrogates, at most MAX_REASON characters."""
    if text is None:
        return None
    return "".join(character for character in text if unicodedata.category(character) not in {"Cc", "Cs"})[:MAX_REASON]

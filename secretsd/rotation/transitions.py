"""What a change means for a secret's record: pure functions from a record to the next one (docs/rotation.md)."""

from __future__ import annotations

from msgspec import UNSET
from msgspec.structs import replace

from secretsd.model import DAY_MS, MAX_IN_GRACE, NEVER_MS
from secretsd.policy import SecretSettings
from secretsd.vault.document import SecretRecord, Tombstone, VersionRecord, Wishes

WARNINGS_BEFORE_EXPIRY_MS = (7 * DAY_MS, DAY_MS)
"""Besides the grace period itself, how long before expiry a manual secret is announced as expiring."""


def instant_after(start_ms: int, period_ms: int | None) -> int:
    """Return the instant `period_ms` after `start_ms`, or the one that stands for never."""
    return NEVER_MS if period_ms is None else min(start_ms + period_ms, NEVER_MS)


def expiry(start_ms: int, settings: SecretSettings) -> int:
    """Return when a version made at `start_ms` expires: the next instant of its cron expression, else its period on.

    Where it rotates by itself in a window only, that is when the window is open next.
    """
    due = instant_after(start_ms, settings.rotation_ms) if settings.cron is None else settings.cron.after(start_ms)
    if settings.window is None or settings.rotation != "auto" or due == NEVER_MS:
        return due
    return settings.window.next_open(due)


def created(first: VersionRecord, settings: SecretSettings, wishes: Wishes, generation: int) -> SecretRecord:
    """Return the record of a new secret."""
    return SecretRecord(
        type=settings.type,
        rotation=settings.rotation,
        rotation_ms=settings.rotation_ms,
        grace_ms=settings.grace_ms,
        wishes=wishes,
        expires_at=expiry(first.created_at, settings),
        status="active",
        announced=0,
        generation=generation,
        versions=(first,),
    )


def superseded(
    record: SecretRecord,
    new: VersionRecord,
    settings: SecretSettings,
    *,
    generation: int,
    grace_ms: int | None,
    urgent: bool,
) -> tuple[SecretRecord, tuple[VersionRecord, ...]]:
    """Return the record with `new` as its current version, and the versions whose grace ends thereby.

    A version that was published ahead is used or dropped with it. The version before stays readable for `grace_ms`
    (None: until told; 0: not at all). `urgent` ends every grace; beyond MAX_IN_GRACE the oldest ends.
    """
    before = replace(record.current, grace_until=instant_after(new.created_at, grace_ms))
    kept: tuple[VersionRecord, ...] = ()
    if not urgent:
        started = () if grace_ms == 0 else (before,)
        kept = (started + record.in_grace)[:MAX_IN_GRACE]
    ended = tuple(version for version in record.in_grace if version not in kept)
    return (
        replace(
            record,
            rotation=settings.rotation,
            rotation_ms=settings.rotation_ms,
            grace_ms=settings.grace_ms,
            expires_at=expiry(new.created_at, settings),
            status="active",
            announced=0,
            generation=generation,
            versions=(new, *kept),
            upcoming=UNSET,
        ),
        ended,
    )


def resettled(record: SecretRecord, settings: SecretSettings, generation: int) -> SecretRecord:
    """Return the record under settings that a changed policy brings; `record` itself when nothing differs."""
    expires_at = expiry(record.current.created_at, settings)
    if (record.rotation, record.rotation_ms, record.grace_ms, record.expires_at) == (
        settings.rotation,
        settings.rotation_ms,
        settings.grace_ms,
        expires_at,
    ):
        return record
    moved = expires_at != record.expires_at
    # The thresholds before expiry depend on both, so their count begins again; those that are past are told as one.
    recounted = moved or record.grace_ms != settings.grace_ms
    return replace(
        record,
        rotation=settings.rotation,
        rotation_ms=settings.rotation_ms,
        grace_ms=settings.grace_ms,
        expires_at=expires_at,
        status="active" if moved else record.status,
        announced=0 if recounted else record.announced,
        generation=generation,
    )


def ready_at(record: SecretRecord, ahead_ms: int | None) -> int:
    """Return from when on an automatic rotation may happen, NEVER_MS while its new key isn't published.

    Where keys are published `ahead_ms` before their use, that has to have been so long whenever it was done.
    """
    if ahead_ms is None:
        return record.expires_at
    upcoming = record.published_ahead
    return NEVER_MS if upcoming is None else max(record.expires_at, upcoming.created_at + ahead_ms)


def buried(record: SecretRecord, generation: int) -> Tombstone:
    """Return what stays of a deleted secret."""
    return Tombstone(
        version=record.current.version,
        kid=record.current.kid,
        type=record.type,
        expires_at=record.expires_at,
        generation=generation,
    )


def warnings(record: SecretRecord) -> tuple[int, ...]:
    """Return the instants at which the current version is announced as expiring, earliest first.

    An automatic rotation announces nothing; neither does a threshold that the version's life is too short for.
    """
    if record.rotation == "auto" or record.expires_at == NEVER_MS:
        return ()
    spans = {*WARNINGS_BEFORE_EXPIRY_MS, record.grace_ms or 0} - {0}
    instants = (record.expires_at - span for span in spans)
    return tuple(sorted(instant for instant in instants if instant > record.current.created_at))

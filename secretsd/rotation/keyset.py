"""Which keys the JWK set holds, and how long a verifier may keep it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from secretsd.vault.document import SecretRecord, VersionRecord

CACHED_MOST_MS: Final = 3_600_000
"""What is rotated by hand reaches the verifiers within this, and so does the end of a key that leaked."""
CACHED_LEAST_MS: Final = 1000


def published(record: SecretRecord, now_ms: int) -> list[VersionRecord]:
    """Return the versions whose public half is in the set at `now_ms`: the one to come, the current, those in grace."""
    upcoming = record.published_ahead
    return [
        *([] if upcoming is None else [upcoming]),
        record.current,
        *(version for version in record.in_grace if (version.grace_until or 0) > now_ms),
    ]


def fresh_for_ms(records: Iterable[tuple[SecretRecord, int | None]], now_ms: int) -> int:
    """Return how long the set of `records`, each with how long ahead its keys are published, may be cached.

    Until it changes by itself, by a rotation or the end of a grace, in bounds. Whoever has it from just before a key
    was published must have asked again before that is used; a tenth of the time between is left for answers on their
    way and for the commit that publishes.
    """
    until, ahead = now_ms + CACHED_MOST_MS, CACHED_MOST_MS
    for record, ahead_ms in records:
        if ahead_ms is not None:
            ahead = min(ahead, ahead_ms - ahead_ms // 10)
        elif record.rotation == "auto":
            until = min(until, record.expires_at)
        until = min(until, *(version.grace_until or until for version in published(record, now_ms)), until)
    return min(max(until - now_ms, CACHED_LEAST_MS), ahead)

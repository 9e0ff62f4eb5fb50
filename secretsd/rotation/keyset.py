"""Which keys the JWK set holds, and how long a verifier may keep it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from secretsd.vault.document import SecretRecord, VersionRecord

CACHED_MOST_MS: Final = 3_600_000
"""What is rotated by hand reaches the verifiers within this, and so does the end of a key that leaked."""
CACHED_LEAST_MS: Final = 1000


def published(record: SecretRecord, now_ms: int) -> list[VersionRecord]:
    """Return the versions whose public half is in the set at `now_ms`: the current one, and those in grace."""
    return [version for version in record.versions if version is record.current or (version.grace_until or 0) > now_ms]


def fresh_for_ms(records: Iterable[SecretRecord], now_ms: int) -> int:
    """Return how long the set of `records` may be cached: until it changes by itself, in bounds.

    It changes when a key rotates or its grace ends.
    """
    changes = [now_ms + CACHED_MOST_MS]
    for record in records:
        if record.rotation == "auto":
            changes.append(record.expires_at)
        changes.extend(version.grace_until for version in published(record, now_ms) if version.grace_until is not None)
    return max(min(changes) - now_ms, CACHED_LEAST_MS)

"""Who stands where with one secret: judged from its record and what was seen. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from secretsd_bus import parse_time, rfc3339

from secretsd.consumers.sightings import Mark, Sighting, Sightings, client_of
from secretsd.model import DAY_MS, NEVER_MS, ConsumerState
from secretsd.vault.document import SecretRecord, VersionRecord

LIVE_MS: Final = 30 * DAY_MS
"""A consumer that asked for nothing for so long is taken to be gone."""
ANSWER_MS: Final = 60_000
"""For so long after a rotation whoever has the version before counts as there: a client that heard nothing but the
bus for months asks what changed within a checkpoint's interval, and is seen thereby."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One consumer of one secret. `using` is the version that it is taken to use, None for who never read it."""

    key: str
    state: ConsumerState
    using: Mark | None
    sighting: Sighting
    seen_at: str | None
    live: bool
    counts: bool
    """Whether the policy takes it for a consumer."""


def standings(
    record: SecretRecord, name: str, sightings: Sightings, readers: Mapping[str, bool], now_ms: int
) -> list[Standing]:
    """Return where each of `readers` stands with the secret `name`, by name; those too that never read it.

    `readers` are the clients that may, each with whether it counts as a consumer. One whose processes say which they
    are stands there once for each.
    """
    found = sightings.of(name)
    known = {key for key in found if client_of(key) in readers}
    never = readers.keys() - {client_of(key) for key in known}
    readable = {version.kid for version in record.versions}
    horizon = rfc3339(max(0, now_ms - LIVE_MS))
    answering = {old.kid for new, old in pairwise(record.versions) if now_ms < new.created_at + ANSWER_MS}
    return [
        _standing(
            key,
            found.get(key, Sighting()),
            sightings.seen.get(key),
            record.current.kid,
            readable,
            horizon,
            answering,
            counts=readers[client_of(key)],
        )
        for key in sorted(known | never)
    ]


def holders(version: VersionRecord, found: Iterable[Standing]) -> list[Standing]:
    """Return the live consumers that use `version`; who doesn't count as a consumer is none."""
    return [one for one in found if one.live and one.counts and one.using is not None and one.using.kid == version.kid]


def lagging(record: SecretRecord, found: Iterable[Standing], now_ms: int) -> list[Standing]:
    """Return the live consumers that use a version more than half of whose grace is over."""
    known = list(found)
    return [one for version in late_versions(record, now_ms) for one in holders(version, known)]


def late_versions(record: SecretRecord, now_ms: int) -> list[VersionRecord]:
    """Return the versions in grace more than half of whose grace is over; one that stays until told never is."""
    late = []
    for newer, version in pairwise(record.versions):
        until = version.grace_until or 0
        if until < NEVER_MS and newer.created_at + until < 2 * now_ms:
            late.append(version)
    return late


def covered(record: SecretRecord, sightings: Sightings) -> bool:
    """Tell whether all that was read since the oldest readable version was made is known."""
    oldest = min(version.created_at for version in record.versions)
    return sightings.since is None or parse_time(sightings.since) <= oldest


def _standing(
    key: str,
    sighting: Sighting,
    seen_at: str | None,
    current: str,
    readable: set[str],
    horizon: str,
    answering: set[str],
    *,
    counts: bool,
) -> Standing:
    using = _using(sighting, current, readable)
    live = (seen_at is not None and seen_at >= horizon) or (using is not None and using.kid in answering)
    state: ConsumerState
    if using is None:
        state = "never"
    elif using.kid == current:
        state = "current" if sighting.acknowledged is None or sighting.acknowledged.kid != current else "in-use"
    else:
        state = "previous" if using.kid in readable else "outdated"
    return Standing(key, state, using, sighting, seen_at, live, counts)


def _using(sighting: Sighting, current: str, readable: set[str]) -> Mark | None:
    """Return the version that the consumer is taken to use.

    Who acknowledges is taken at its word: having read the current version it still uses the one that it acknowledged,
    as long as that is readable. Who doesn't, uses what it read.
    """
    read, acknowledged = sighting.read, sighting.acknowledged
    if acknowledged is None:
        return read
    if read is None or acknowledged.kid == current or acknowledged.kid in readable:
        return acknowledged
    return read

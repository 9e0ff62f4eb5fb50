"""Who still uses what, and which versions in grace nobody needs any more (docs/consumers.md)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from secretsd.consumers.standing import Standing, covered, holders, lagging, late_versions, standings
from secretsd.service.core import Core
from secretsd.vault.document import SecretRecord, VersionRecord

SWEEP_MS: Final = 60_000
"""How often it is looked whether somebody has been away for so long that nothing waits for it any more."""

LAGGING_MS: Final = 2000
NAMED_MOST: Final = 3


def standing(core: Core, name: str, record: SecretRecord) -> list[Standing]:
    """Return where each consumer of a secret stands now."""
    policy = core.policy
    return standings(
        record,
        name,
        core.follower.sightings,
        {client: rule.consumer for client, rule in policy.clients.items() if policy.may(client, "read", name)},
        core.clock.now_ms(),
    )


def is_complete(core: Core, record: SecretRecord) -> bool:
    """Tell whether all is known that was read since the oldest readable version was made."""
    return core.follower.caught_up and covered(record, core.follower.sightings)


def laggards(core: Core, name: str, version: VersionRecord) -> Mapping[str, str] | None:
    """Return who is known to use a version now, each with when it was last seen; None where that isn't known yet."""
    record = core.document.secrets.get(name)
    if record is None or not core.follower.caught_up:
        return None
    found = holders(version, standing(core, name, record))
    return {one.key: one.seen_at for one in found if one.seen_at is not None}


def unneeded(core: Core, name: str) -> tuple[VersionRecord, ...]:
    """Return the versions of a secret whose grace may end, because every live consumer has moved on.

    Only where the policy says so and all who read it are known. Where nobody is known to use the current version,
    nobody can be said to have moved. And lines become durable in the order in which they were asked for: whoever was
    given an earlier version as the current one comes before the first who was given this one, so nobody whose line is
    still under way is overlooked.
    """
    record = core.document.secrets.get(name)
    if record is None or not record.in_grace or not core.policy.rule_for(name).converges:
        return ()
    if not is_complete(core, record):
        return ()
    found = standing(core, name, record)
    if not holders(record.current, found):
        return ()
    return tuple(version for version in record.in_grace if not holders(version, found))


class Ripe:
    """The names of secrets with a version that nobody needs any more, gathered until the schedule comes to them."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._names: dict[str, None] = {}
        self._swept_ms = 0

    def __bool__(self) -> bool:
        return bool(self._names)

    def look(self, names: Iterable[str]) -> None:
        """Look at secrets of which something new is known."""
        self._names.update((name, None) for name in names if unneeded(self._core, name))

    def sweep(self) -> None:
        """Look at all that wait, now and then: with time, too, somebody is taken to be gone."""
        elapsed_ms = self._core.clock.elapsed_ms()
        if elapsed_ms - self._swept_ms >= SWEEP_MS:
            self._swept_ms = elapsed_ms
            self.look(name for name, record in self._core.document.secrets.items() if record.in_grace)

    def take(self) -> Iterator[tuple[str, SecretRecord, tuple[VersionRecord, ...]]]:
        """Yield what holds of them now, each with its record; they are forgotten."""
        names, self._names = self._names, {}
        for name in names:
            versions = unneeded(self._core, name)
            if versions:
                yield name, self._core.document.secrets[name], versions


class Lagging:
    """Who lags behind now, worked out anew at most every LAGGING_MS."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._found: Mapping[str, Sequence[str]] = {}
        self._at_ms = -LAGGING_MS

    def found(self) -> Mapping[str, Sequence[str]]:
        """Return the consumers that use a version more than half of whose grace is over, by secret."""
        core = self._core
        elapsed_ms = core.clock.elapsed_ms()
        if elapsed_ms - self._at_ms >= LAGGING_MS:
            self._at_ms, now_ms = elapsed_ms, core.clock.now_ms()
            late = {name: record for name, record in core.document.secrets.items() if late_versions(record, now_ms)}
            found = {name: lagging(record, standing(core, name, record), now_ms) for name, record in late.items()}
            self._found = {name: [one.key for one in ones] for name, ones in sorted(found.items()) if ones}
        return self._found

    def count(self) -> int:
        """Return how many there are, each once for each secret."""
        return sum(len(keys) for keys in self.found().values())

    def words(self) -> str | None:
        """Return who lags behind with which secrets, some of them, None for nobody; no times, for it is compared."""
        found = self.found()
        if not found:
            return None
        named = [f"{name} ({', '.join(keys[:NAMED_MOST])})" for name, keys in islice(found.items(), NAMED_MOST)]
        more = ", …" if len(found) > NAMED_MOST else ""
        return f"earlier versions are still used, and their grace is half over: {', '.join(named)}{more}"

"""What the audit log's lines say of who has which version: a fold over them. No I/O, no clock.

The same lines in the same order always give the same sightings, so that a lost file is made again from the log.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from heapq import nsmallest
from typing import Any, Final

from msgspec import Struct

READ: Final = "secret.read"
ACKNOWLEDGED: Final = "secret.acknowledged"
_DELETED: Final = "secret.deleted"
_SEEN: Final = frozenset({READ, ACKNOWLEDGED, "secret.listed"})
KINDS: Final = _SEEN | {_DELETED}
"""The types of lines that say something here."""

MOST: Final = 50_000
"""Pairs of a secret and a consumer that are remembered; beyond it those that were longest not seen are forgotten."""
_FORGOTTEN_AT_ONCE: Final = 10
"""A tenth of them, so that forgetting is rare."""


class Mark(Struct, frozen=True, array_like=True):
    """One version, and when it was last given out or acknowledged: RFC 3339 as the line has it."""

    version: int
    kid: str
    at: str


class Sighting(Struct, frozen=True, array_like=True):
    """What one consumer has of one secret: the newest version that it read, and the newest that it said it uses."""

    read: Mark | None = None
    acknowledged: Mark | None = None

    @property
    def at(self) -> str:
        """When it last read or acknowledged a newest version."""
        return max(mark.at for mark in (self.read, self.acknowledged) if mark is not None)


def consumer_key(client: str, instance: str | None) -> str:
    """Return what tells a consumer: `client`, or `client/instance` for one of several processes that share it."""
    return client if instance is None else f"{client}/{instance}"


def client_of(key: str) -> str:
    """Return the client of a consumer's key; neither part holds a slash."""
    return key.partition("/")[0]


class Sightings:
    """The fold. `since` is the time from which on nothing is missing; None: the log's very beginning."""

    def __init__(
        self,
        secrets: Mapping[str, Mapping[str, Sighting]] | None = None,
        seen: Mapping[str, str] | None = None,
        since: str | None = None,
        *,
        most: int = MOST,
    ) -> None:
        self.secrets: dict[str, dict[str, Sighting]] = {name: dict(found) for name, found in (secrets or {}).items()}
        self.seen: dict[str, str] = dict(seen or {})
        """When each consumer last asked for anything."""
        self.since = since
        self._most = most
        self._count = sum(len(found) for found in self.secrets.values())

    def of(self, name: str) -> Mapping[str, Sighting]:
        """Return the sightings of one secret, by consumer."""
        return self.secrets.get(name, {})

    def take(self, kind: str, at: str, data: Mapping[str, Any]) -> str | None:
        """Take in a line of the type `kind` (without prefix); return the secret of which something new is known."""
        if kind == _DELETED:
            return self._drop(data.get("name"))
        if kind not in _SEEN:
            return None
        key = consumer_key(data["client"], data.get("instance"))
        if key not in self.seen and len(self.seen) >= self._most:
            self._forget_consumers()
        self.seen[key] = at
        name, kid = data.get("name"), data.get("kid")
        if kind == "secret.listed" or name is None or kid is None:
            return None
        found = self.secrets.setdefault(name, {})
        before = found.get(key)
        if before is None:
            self._count += 1
        mark = Mark(data["version"], kid, at)
        superseded = bool(data.get("superseded"))
        had = before or Sighting()
        if kind == ACKNOWLEDGED:
            after = Sighting(had.read, _newer(had.acknowledged, mark, superseded=superseded))
        else:
            after = Sighting(_newer(had.read, mark, superseded=superseded), had.acknowledged)
        found[key] = after
        if self._count > self._most:
            self._forget()
        return None if before is not None and _same(before, after) else name

    def skipped(self, since: str) -> None:
        """Note that lines before `since` are not known: what they told is missing here."""
        self.since = since if self.since is None else max(self.since, since)

    def _drop(self, name: str | None) -> str | None:
        if name is None or name not in self.secrets:
            return None
        self._count -= len(self.secrets.pop(name))
        return name

    def _entries(self) -> Iterator[tuple[str, str, str]]:
        for name, found in self.secrets.items():
            for key, sighting in found.items():
                yield sighting.at, name, key

    def _forget(self) -> None:
        oldest = nsmallest(max(1, self._most // _FORGOTTEN_AT_ONCE), self._entries())
        for at, name, key in oldest:
            del self.secrets[name][key]
            if not self.secrets[name]:
                del self.secrets[name]
            self.skipped(at)
        self._count -= len(oldest)

    def _forget_consumers(self) -> None:
        for key in nsmallest(
            max(1, self._most // _FORGOTTEN_AT_ONCE), self.seen, key=lambda key: (self.seen[key], key)
        ):
            del self.seen[key]


def _newer(before: Mark | None, mark: Mark, *, superseded: bool) -> Mark:
    """Return the newer of the two.

    What is current counts whatever its number: after an older vault was accepted, numbers begin again below those given
    before.
    """
    if before is None or not superseded or mark.version >= before.version:
        return mark
    return before


def _same(before: Sighting, after: Sighting) -> bool:
    return _kids(before) == _kids(after)


def _kids(sighting: Sighting) -> tuple[str | None, str | None]:
    read, acknowledged = sighting.read, sighting.acknowledged
    return (None if read is None else read.kid, None if acknowledged is None else acknowledged.kid)

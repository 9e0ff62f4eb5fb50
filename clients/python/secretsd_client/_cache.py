"""What is cached, name by name: which value is current, which is superseded, and how long that may be served.

Pure: no I/O; times are monotonic seconds handed in. The rules are those of the contract for clients, by
their numbers (docs/client.md). Everything here belongs to one epoch; another epoch clears it.
"""

import math
from dataclasses import dataclass, replace

from secretsd_client._model import Announcement, Change, Fetched, Secret


class Entry:
    """A value that nothing newer is known of. Never changed once made: other threads read it."""

    __slots__ = ("as_of", "confirmed_at", "fresh_until", "kid", "secret", "value")

    def __init__(self, secret: Secret, *, as_of: int, confirmed_at: float, ttl: float) -> None:
        self.secret = secret
        self.value, self.kid = secret.value, secret.kid
        self.as_of = as_of
        """The vault's generation at which HTTP gave it."""
        self.confirmed_at = confirmed_at
        self.fresh_until = confirmed_at + ttl


@dataclass(frozen=True)
class Superseded:
    """A value that something newer is known of; it may stand in while the daemon is away, until then."""

    entry: Entry
    grace_until: float
    """When its grace ends; infinity when the same value is still the current one."""
    servable_until: float
    latest_kid: str
    """The newest version heard of."""


class Cache:
    """The entries of one epoch."""

    def __init__(self, *, max_stale: float, ttl: float) -> None:
        self.fresh: dict[str, Entry] = {}
        """Read by other threads without a lock: an entry is replaced or removed, never changed."""
        self.ttl = ttl
        self._max_stale = max_stale
        self._superseded: dict[str, Superseded] = {}
        self._announced: dict[str, int] = {}

    def names(self) -> set[str]:
        """Return the names with a value, current or superseded."""
        return self.fresh.keys() | self._superseded.keys()

    def etag(self, name: str) -> str | None:
        """Return the kid that a fetch may ask about instead of asking for the value."""
        entry = self._held(name)
        return None if entry is None else entry.secret.kid

    def announced(self, name: str) -> int:
        """Return the generation that an answer must have reached to count as current (rule 2)."""
        return self._announced.get(name, 0)

    def announce(self, news: Announcement, *, now: float, wall_ms: float, vouched_at: float) -> bool:
        """Take in a verified event or state of this epoch; return whether it is news (rules 2 and 4).

        `wall_ms` is the daemon's clock as far as known: a grace that ends at a time of the daemon's becomes a
        span from now, and an announcement that was under way for long doesn't lengthen it.
        """
        if news.generation <= self._announced.get(news.name, 0):
            return False
        self._announced[news.name] = news.generation
        entry = self._held(news.name)
        if entry is None or news.generation <= entry.as_of:
            return entry is None
        until = self._grace_before(news.name)
        latest_kid = self._latest_kid(news.name, entry)
        if news.status == "deleted" or (news.urgent and news.kid != entry.secret.kid):
            until = -math.inf
        elif news.kid == entry.secret.kid:
            pass  # the same value, only its state changed
        elif news.previous_kid == entry.secret.kid and news.grace_until_ms is not None:
            until = min(until, now + (news.grace_until_ms - max(news.time_ms, wall_ms)) / 1000)
        elif news.previous_kid is None or latest_kid not in {news.kid, news.previous_kid}:
            until = -math.inf  # no grace, or one that a version we never heard of may have ended
        self._supersede(news.name, entry, until, news.kid, now, vouched_at)
        return True

    def apply(self, changes: tuple[Change, ...], *, now: float, vouched_at: float) -> set[str]:
        """Take in a `/changes` answer of this epoch; return the names that were news and aren't deleted."""
        changed = set()
        for change in changes:
            if change.generation <= self.announced(change.name):
                continue
            self._announced[change.name] = change.generation
            entry = self._held(change.name)
            if entry is not None and change.generation <= entry.as_of:
                continue
            deleted = change.status == "deleted"
            if not deleted:
                changed.add(change.name)
            if entry is not None:
                # /changes doesn't tell the end of a grace; a value whose grace isn't known is never served.
                same = change.kid == entry.secret.kid and not deleted
                until = self._grace_before(change.name) if same else -math.inf
                self._supersede(change.name, entry, until, change.kid, now, vouched_at)
        return changed

    def keep_only(self, names: set[str]) -> None:
        """Drop what a complete `/changes` answer doesn't list: deleted, or no longer ours to read."""
        for name in self.names() - names:
            self.drop(name)

    def store(self, name: str, answer: Fetched, *, confirmed_at: float) -> Secret | None:
        """Take in an answer of this epoch; return the secret when it counts as current (rule 2), else None.

        None also for a 304 about a value that was dropped while it was under way: ask again.
        """
        held = self._held(name)
        secret = answer.secret or (held.secret if held is not None else None)
        if secret is None or answer.generation < self.announced(name):
            return None
        current = self.fresh.get(name)
        if current is not None and current.as_of > answer.generation:
            return current.secret
        self.fresh[name] = Entry(secret, as_of=answer.generation, confirmed_at=confirmed_at, ttl=self.ttl)
        self._superseded.pop(name, None)
        return secret

    def stale(self, name: str, *, now: float, vouched_at: float) -> Secret | None:
        """Return what may be served while the daemon can't be asked, marked stale (rule 6), or None."""
        if (entry := self.fresh.get(name)) is not None:
            until = max(entry.confirmed_at, vouched_at) + self._max_stale
        elif (older := self._superseded.get(name)) is not None:
            entry, until = older.entry, older.servable_until
        else:
            return None
        return replace(entry.secret, stale=True) if now < until else None

    def drop(self, name: str) -> None:
        """Forget the value, for good: deleted, or the right to it withdrawn."""
        self.fresh.pop(name, None)
        self._superseded.pop(name, None)

    def drop_values(self) -> None:
        """Forget every value; what was announced still holds."""
        self.fresh.clear()
        self._superseded.clear()

    def forget(self) -> None:
        """Forget everything: another epoch, or a history that is gone."""
        self.drop_values()
        self._announced.clear()

    def use_ttl(self, ttl: float) -> None:
        """Judge by another time to live from now on, what is cached included."""
        if ttl == self.ttl:
            return
        self.ttl = ttl
        for name, entry in list(self.fresh.items()):
            self.fresh[name] = Entry(entry.secret, as_of=entry.as_of, confirmed_at=entry.confirmed_at, ttl=ttl)

    def _held(self, name: str) -> Entry | None:
        if (entry := self.fresh.get(name)) is not None:
            return entry
        older = self._superseded.get(name)
        return None if older is None else older.entry

    def _grace_before(self, name: str) -> float:
        older = self._superseded.get(name)
        return math.inf if older is None else older.grace_until

    def _latest_kid(self, name: str, entry: Entry) -> str:
        older = self._superseded.get(name)
        return entry.secret.kid if older is None else older.latest_kid

    def _supersede(self, name: str, entry: Entry, grace: float, latest_kid: str, now: float, vouched_at: float) -> None:
        """Take the entry out of the readers' sight; keep it only while it may stand in."""
        until = min(grace, max(entry.confirmed_at, vouched_at) + self._max_stale)
        self.fresh.pop(name, None)
        if now < until:
            self._superseded[name] = Superseded(entry, grace, until, latest_kid)
        else:
            self._superseded.pop(name, None)

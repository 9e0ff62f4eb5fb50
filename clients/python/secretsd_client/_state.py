"""The client's decisions, all of them: what is fresh, what to fetch, when to ask what changed, what to drop.

A state machine without I/O. In go HTTP answers and failures, verified messages and the monotonic clock; out
come values to serve and, from `due`, what to ask now and when to look again. `AsyncSecretsClient` asks.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from secretsd_client._cache import Cache, Entry
from secretsd_client._history import History
from secretsd_client._model import Announcement, Changes, Checkpoint, Fetched, Secret

RETRY_FIRST = 0.25
RETRY_MOST = 5.0
_ONCE_KNOWN = math.inf
"""When to fetch what the daemon didn't give because it didn't know the client: once `/changes` has answered."""


@dataclass(frozen=True)
class Times:
    """Seconds that bound staleness; the defaults are the contract's."""

    ttl_silent: float = 30.0
    """A value's time to live while a configured bus doesn't vouch."""
    ttl_without_bus: float = 300.0
    max_stale: float = 3600.0


@dataclass(frozen=True)
class Order:
    """How to fetch a name: with which `If-None-Match`, and from which generation on."""

    etag: str | None
    min_generation: int


@dataclass(frozen=True)
class Due:
    """What to do now, and when to ask again (None: when something has happened)."""

    changes: bool
    fetch: tuple[str, ...]
    wake_at: float | None


class State:
    """What one client knows. Used on one thread; `fresh` and `vouched_until` may be read on any."""

    def __init__(self, *, random: Callable[[], float], times: Times) -> None:
        self._random = random
        self.times = times
        self._cache = Cache(max_stale=times.max_stale, ttl=times.ttl_silent)
        self.history = History(random=random)
        self.counts: Counter[str] = Counter()
        self.watched: set[str] = set()
        self.fresh = self._cache.fresh
        self._bus = True  # until HTTP says that there is none
        self._epoch: str | None = None
        self._epoch_since = -math.inf
        self._wanted: set[str] = set()
        self._refetch: dict[str, float] = {}
        self._failures = 0
        self._retry_at = -math.inf
        self._date: tuple[float, float] | None = None

    # Reading

    def lookup(self, name: str, now: float) -> Secret | None:
        """Return the cached value if it is fresh: the bus vouches, or HTTP confirmed it within its TTL."""
        entry = self.fresh.get(name)
        return entry.secret if entry is not None and self._is_fresh(entry, now) else None

    def _is_fresh(self, entry: Entry, now: float) -> bool:
        return now < self.history.vouched_until or now < entry.fresh_until

    def stale(self, name: str, now: float) -> Secret | None:
        """Return what may stand in while the daemon can't be asked (rule 6), or None."""
        return self._cache.stale(name, now=now, vouched_at=self.history.vouched_at)

    def backing_off(self, now: float) -> bool:
        """Return whether the daemon failed so recently that a stale value is served without asking."""
        return now < self._retry_at

    @property
    def failing(self) -> bool:
        """Whether the daemon couldn't be asked when it was last tried."""
        return self._failures > 0

    def names(self) -> set[str]:
        """Return the names that this client cares about: cached ones and watched ones."""
        return self._cache.names() | self.watched

    # What HTTP says about one name

    def order(self, name: str) -> Order:
        """Return how to fetch the name."""
        return Order(self._cache.etag(name), self._cache.announced(name))

    def fetched(self, name: str, answer: Fetched, *, sent_at: float, now: float) -> Secret | None:
        """Take in an answer; return the secret when it counts as current (rule 2), None: fetch again."""
        self._reached()
        if not self._enter(answer.epoch, sent_at, now):
            return None
        secret = self._cache.store(name, answer, confirmed_at=sent_at)
        if secret is not None:
            self._refetch.pop(name, None)
        return secret

    def missing(self, name: str, epoch: str, generation: int, *, sent_at: float, now: float) -> bool:
        """Drop a name that isn't there; return False when that is older news than announced: ask again."""
        self._reached()
        if not self._enter(epoch, sent_at, now) or generation < self._cache.announced(name):
            return False
        self._drop(name)
        return True

    def denied(self, name: str) -> None:
        """Drop a name that may not be read, or no more: never served again until HTTP gives it."""
        self._reached()
        self._drop(name)

    def rejected(self, now: float, name: str | None = None) -> None:
        """Drop all: the daemon doesn't know this client any more, so its rights are gone.

        It may know it again soon, and what became of `name`, asked for in vain, and of others about to be fetched is
        owed to who watches them.
        """
        self._reached()
        self._wanted |= self._cache.names()
        self._cache.drop_values()
        self._refetch = dict.fromkeys(self.watched & {*self._refetch, name}, _ONCE_KNOWN)
        if self._refetch:
            self.history.demand(now + self.times.ttl_silent)

    def unreachable(self, now: float) -> None:
        """Leave a daemon that couldn't be asked alone for a moment, a longer one each time, never in step."""
        if now < self._retry_at:
            return
        pause = min(RETRY_MOST, RETRY_FIRST * 2**self._failures)
        self._failures = min(self._failures + 1, 16)
        self._retry_at = now + pause * (0.5 + self._random() / 2)

    def retry(self, name: str, now: float) -> None:
        """Fetch once more when the daemon may be back."""
        self._refetch[name] = max(now + RETRY_FIRST, self._retry_at)

    def _drop(self, name: str) -> None:
        self._cache.drop(name)
        self._refetch.pop(name, None)

    def _reached(self) -> None:
        self._failures, self._retry_at = 0, -math.inf

    def _enter(self, epoch: str, sent_at: float, now: float) -> bool:
        """Belong to `epoch` from now on; False when the answer is from before another one was entered."""
        if epoch == self._epoch:
            return True
        if self._epoch is not None:
            if sent_at < self._epoch_since:
                return False
            self._start_over(now)
        self._epoch, self._epoch_since = epoch, now
        return True

    def _start_over(self, now: float) -> None:
        self.counts["started_over"] += 1
        self._wanted |= self._cache.names()
        self._cache.forget()
        self._refetch.clear()
        self._epoch = None
        self.history.forget(now)

    # What /changes says

    def changes_answered(self, answer: Changes, *, complete: bool, sent_at: float, now: float) -> None:
        """Take in the answer to `/changes`; `complete`: it was asked without `since` and lists every name."""
        self._reached()
        if not self._enter(answer.epoch, sent_at, now):
            self.history.forget(now)
            return
        if not complete and self.history.epoch is None:
            return  # what it adds to was dropped while it was under way; everything is asked for next
        held = self._cache.names() | self._wanted
        news = self._cache.apply(answer.changes, now=now, vouched_at=self.history.vouched_at)
        self.counts["superseded"] += len(news & held)
        if complete:
            self._cache.keep_only({change.name for change in answer.changes})
            self._wanted.clear()
        owed = {name for name, at in self._refetch.items() if at == _ONCE_KNOWN}
        for name in news & (held | self.watched) | owed:
            self._refetch_soon(name, now)
        self.history.answered(answer, now)

    def history_gone(self, now: float) -> None:
        """Drop the whole cache, as a 410 of `/changes` says: rights may have changed."""
        self._reached()
        self._start_over(now)

    def changes_failed(self, now: float) -> None:
        """Ask `/changes` again when the daemon may be back."""
        self.unreachable(now)
        self.history.failed(max(self._retry_at, now + RETRY_FIRST))

    def changes_refused(self, now: float) -> None:
        """Drop all, as a 401 of `/changes` says, and look now and then whether the client is known again."""
        self.rejected(now)
        self.history.failed(now + self.times.ttl_silent)

    def daemon_time(self, wall_ms: float, sent_at: float) -> None:
        """Learn the daemon's clock from an answer: it said `wall_ms` after the question was sent.

        Counted from `sent_at` it is never behind the real one, so no grace is thought longer than it is.
        """
        self._date = (wall_ms, sent_at)

    # What the bus says, verified

    def bus_configured(self, configured: bool, now: float) -> None:
        """Learn whether there is a bus that could vouch; without one values live longer (section 5)."""
        self._bus = configured
        self._cache.use_ttl(self.times.ttl_silent if configured else self.times.ttl_without_bus)
        self._poll(now)

    def watch(self, name: str, now: float) -> None:
        """Note that somebody wants to be told of changes: the present version must be known, and stay so."""
        self.watched.add(name)
        self._poll(now)
        if name not in self.fresh:
            self._refetch_at(name, now)

    def _poll(self, now: float) -> None:
        """Ask what changed once per TTL while nothing vouches, where somebody would gain from it."""
        self.history.poll(self._cache.ttl if self._bus or self.watched else None, now)

    def announced(self, news: Announcement, now: float) -> None:
        """Take in a verified event or state of a secret."""
        if self._epoch is None:
            return  # /changes is about to be asked, and tells all
        if news.epoch != self._epoch:
            self.counts["other_epoch"] += 1
            self.history.another_identity(now)
            return
        cared = news.name in self._cache.names() or news.name in self.watched
        if not self._cache.announce(news, now=now, wall_ms=self._wall_ms(now), vouched_at=self.history.vouched_at):
            self.counts["repeated"] += 1
            return
        self.history.spread = news.spread_secs
        if cared:
            self.counts["superseded"] += 1
            if news.status == "deleted":
                self._refetch.pop(news.name, None)
            else:
                self._refetch_soon(news.name, now)

    def checkpoint(self, seen: Checkpoint, now: float) -> None:
        """Take in a verified checkpoint."""
        if not self.history.checkpoint(seen, now):
            self.counts["stale_checkpoints"] += 1

    def _refetch_soon(self, name: str, now: float) -> None:
        self._refetch_at(name, now + self._random() * self.history.spread)

    def _refetch_at(self, name: str, at: float) -> None:
        self._refetch[name] = min(at, self._refetch.get(name, _ONCE_KNOWN))

    def _wall_ms(self, now: float) -> float:
        return -math.inf if self._date is None else self._date[0] + (now - self._date[1]) * 1000

    # What to do

    def forget_values(self) -> None:
        """Drop every cached value because the caller wants to; the next reads fetch, and who watches is still told."""
        self._cache.drop_values()
        self._refetch = {name: at for name, at in self._refetch.items() if name in self.watched}

    def due(self, now: float) -> Due:
        """Return what to ask now; asking is up to the caller, who says what came of it."""
        fetch = tuple(name for name, at in self._refetch.items() if at <= now)
        for name in fetch:
            del self._refetch[name]
        ask_at = self.history.next_ask()
        changes = ask_at is not None and ask_at <= now
        if changes:
            self.history.begin(now)
            ask_at = None
        wake_at = min([math.inf if ask_at is None else ask_at, *self._refetch.values()])
        return Due(changes, fetch, None if wake_at == math.inf else wake_at)

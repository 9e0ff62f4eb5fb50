"""The client on asyncio; `SecretsClient` drives this one on a thread."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator
from types import TracebackType
from typing import Any, Self

from secretsd_client._acknowledge import Acknowledgements
from secretsd_client._bus import Listener
from secretsd_client._daemon import Behind, Daemon, HistoryGone, NoSecret
from secretsd_client._errors import (
    CLOSED,
    AccessDenied,
    AuthenticationFailed,
    SecretNotFound,
    SecretsError,
    SecretsUnavailable,
)
from secretsd_client._model import Secret, check_name
from secretsd_client._settings import Settings
from secretsd_client._state import State
from secretsd_client._trust import Trust
from secretsd_client._watch import Callback, Watchers, tell

_BACKGROUND_FETCHES = 8
_PATIENCE_SECS = 0.25
"""How long a read that has a stale value waits for a daemon that failed before: it may hang."""
Deliver = Callable[[Callback, Secret], None]


class Watch:
    """A registered callback. Await it to be sure that the version it changes from is known."""

    def __init__(self, cancel: Callable[[], None], settled: Callable[[], Awaitable[None]]) -> None:
        self._cancel = cancel
        self._settled = settled

    def cancel(self) -> None:
        """Stop calling back."""
        self._cancel()

    def __await__(self) -> Generator[Any, None, Self]:
        yield from self._settled().__await__()
        return self


class AsyncSecretsClient:
    """Secrets, cached, and dropped when they change. Used on one event loop; an async context manager.

    Making one needs neither the daemon nor the broker: the first read asks the daemon, and the bus is
    connected in the background.
    """

    def __init__(self, settings: Settings | None = None, *, deliver: Deliver | None = None) -> None:
        """Raise SecretsError for settings that make no sense. `deliver` runs callbacks somewhere else."""
        self._settings = settings if settings is not None else Settings.from_env()
        self._settings.check()
        self._trust = Trust.from_pem_file(self._settings.pubkey)
        self._clock = time.monotonic
        self.state = State(random=random.random, times=self._settings.times)
        self._daemon = Daemon(self._settings.transport())
        self._acknowledgements = Acknowledgements(self._daemon, self.state.counts)
        self.watchers = Watchers()
        self._deliver = deliver or self._queue_callback
        self._queue: asyncio.Queue[tuple[Callback, Secret]] = asyncio.Queue()
        self._fetches: dict[str, asyncio.Task[Secret]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._answered = asyncio.Event()
        self._room = asyncio.Semaphore(_BACKGROUND_FETCHES)
        self._listener: Listener | None = None
        self._closed = False

    @classmethod
    def from_env(cls) -> Self:
        """Return a client as the JARVIS_* variables say; SecretsError when they make no sense."""
        return cls(Settings.from_env())

    async def get_secret(self, name: str) -> str:
        """Return the current value: see `get`."""
        return (await self.get(name)).value

    async def get(self, name: str) -> Secret:
        """Return the secret: from the cache when it is fresh, else as the daemon gives it now.

        When the daemon can't be asked, what was current when it last could comes marked stale, for as long
        as that is safe (docs/client.md); after that SecretsUnavailable. Raises SecretNotFound, AccessDenied
        and AuthenticationFailed as the daemon says.
        """
        secret = await self._read(name)
        self.watchers.given[name] = secret.kid
        return secret

    async def _read(self, name: str) -> Secret:
        now = self._clock()
        if (secret := self.state.lookup(name, now)) is not None:
            return secret
        check_name(name)
        self.start()
        if self.state.backing_off(now) and (secret := self.state.stale(name, now)) is not None:
            self.state.counts["served_stale"] += 1
            return secret
        try:
            return await self._fetched(name)
        except SecretsUnavailable:
            if (secret := self.state.stale(name, self._clock())) is None:
                raise
        self.state.counts["served_stale"] += 1
        return secret

    def on_change(self, name: str, callback: Callback) -> Watch:
        """Call `callback(secret)` each time another version of `name` has come into the cache.

        Other than the one that this client last gave you, so that what changes between a read and this call isn't
        missed; where it gave you none, other than the one there is now. Callbacks run one after another, in order;
        coroutine functions are awaited. What one raises is logged by its type. Await the result to be sure that the
        version it changes from is known. Once all callbacks for a version have run, and none failed, the daemon is told
        that it is in use.
        """
        check_name(name)
        self.start()
        now = self._clock()
        self.watchers.add(name, callback)
        if (present := self.state.lookup(name, now)) is not None:
            self._tell_watchers(present)
        self.state.watch(name, now)
        self._poke()
        return Watch(lambda: self.unwatch(name, callback), lambda: self._settled(name))

    def unwatch(self, name: str, callback: Callback) -> None:
        """Stop calling `callback` back: what `Watch.cancel` does."""
        if self.watchers.remove(name, callback):
            self.state.watched.discard(name)

    def acknowledge(self, secret: Secret) -> None:
        """Tell the daemon, in the background, that this version is in use (docs/consumers.md).

        `on_change` does that by itself once its callbacks have run; this is for who uses a value later than that, with
        `acknowledge=False` in the settings.
        """
        self.start()
        self._acknowledgements.in_use(secret.name, secret.kid)

    def clear_cache(self) -> None:
        """Drop every cached value; the next reads ask the daemon."""
        self.state.forget_values()

    def stats(self) -> dict[str, int]:
        """Return counters since the client was made, and how many values are cached now; no names."""
        return {**self.state.counts, "cached": len(self.state.fresh)}

    async def wait_ready(self, timeout_secs: float = 10.0) -> bool:
        """Wait until the bus is listened to (at once where the daemon uses none); return whether it is."""
        try:
            async with asyncio.timeout(timeout_secs):
                await self.start().ready.wait()
        except TimeoutError:
            return False
        if self._closed:
            raise SecretsError(CLOSED)
        return True

    def start(self) -> Listener:
        """Begin the background work, if it hasn't begun; reads do that by themselves."""
        if self._closed:
            raise SecretsError(CLOSED)
        if self._listener is None:
            asyncio.get_running_loop()  # raises where there is none, before anything has begun
            self._listener = Listener(
                self._settings,
                self._trust,
                daemon=self._daemon,
                state=self.state,
                synchronise=self._synchronise,
                poke=self._poke,
                clock=self._clock,
            )
            self._spawn(self._listener.run())
            self._spawn(self._maintain())
            self._spawn(self._call_back())
            self._spawn(self._acknowledgements.run())
        return self._listener

    async def close(self) -> None:
        """End the background work and the connections, and drop what is cached. Callbacks may call it."""
        self._closed = True
        work: set[asyncio.Task[Any]] = {*self._tasks, *self._fetches.values()}
        work -= {task for task in (asyncio.current_task(),) if task is not None}
        for task in work:
            task.cancel()
        try:
            await asyncio.gather(*work, return_exceptions=True)
        finally:
            if self._listener is not None:
                self._listener.ready.set()  # who waits for it is told that the client is closed
            self.state.forget_values()
            await self._daemon.close()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # Fetching one name

    async def _fetched(self, name: str) -> Secret:
        """Wait for the fetch of this name. A close, which cancels that, doesn't cancel who waits."""
        fetch = self._fetch(name)
        if self._may_hang(name):
            await asyncio.wait({fetch}, timeout=_PATIENCE_SECS)
            if not fetch.done():
                self.state.unreachable(self._clock())
                if self._may_hang(name):
                    raise SecretsUnavailable(f"reading {name}: the daemon, which failed before, doesn't answer")
        await asyncio.wait({fetch})
        if fetch.cancelled():
            raise SecretsError(CLOSED)
        return fetch.result()

    def _may_hang(self, name: str) -> bool:
        """Return whether a read had better be served stale than wait for a daemon that failed before."""
        return self.state.failing and self.state.stale(name, self._clock()) is not None

    def _fetch(self, name: str) -> asyncio.Task[Secret]:
        """Return the one fetch of this name that is under way."""
        if (task := self._fetches.get(name)) is None:
            task = self._fetches[name] = asyncio.ensure_future(self._fetch_current(name))
            task.add_done_callback(lambda done: self._fetch_ended(name, done))
        return task

    def _fetch_ended(self, name: str, task: asyncio.Task[Secret]) -> None:
        self._fetches.pop(name, None)
        if not task.cancelled():
            task.exception()  # whoever waits gets it; a background fetch's is dealt with where it runs

    async def _fetch_current(self, name: str) -> Secret:
        """Ask until the answer is as new as what was announced; a change during the question asks again."""
        give_up_at = self._clock() + self._settings.timeout_secs
        pause = 0.02
        while (secret := await self._fetch_once(name)) is None:
            if self._clock() >= give_up_at:
                raise SecretsUnavailable(f"{name} has changed, and the daemon doesn't give the new value yet")
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.5)
        self._tell_watchers(secret)
        if self._listener is not None:
            self._listener.names_changed(name)
        return secret

    async def _fetch_once(self, name: str) -> Secret | None:
        order, sent_at = self.state.order(name), self._clock()
        self.state.counts["fetches"] += 1
        try:
            answer = await self._daemon.secret(name, etag=order.etag, min_generation=order.min_generation)
        except Behind:
            return None
        except NoSecret as absent:
            now = self._clock()
            if not self.state.missing(name, absent.epoch, absent.generation, sent_at=sent_at, now=now):
                return None
            self.watchers.absent(name)
        except AccessDenied:
            self.state.denied(name)
            raise
        except AuthenticationFailed:
            self.state.rejected(self._clock(), name)
            self._poke()
            raise
        except SecretsUnavailable:
            self.state.unreachable(self._clock())
            raise
        else:
            now = self._clock()
            self._note_date(sent_at)
            self.state.counts["not_modified"] += answer.secret is None
            return self.state.fetched(name, answer, sent_at=sent_at, now=now)
        raise SecretNotFound(f"there is no secret {name}")

    def _note_date(self, sent_at: float) -> None:
        if self._daemon.date_ms is not None:
            self.state.daemon_time(self._daemon.date_ms, sent_at)

    async def _settled(self, name: str) -> None:
        if self.state.lookup(name, self._clock()) is None:
            self.start()  # a closed client asks nobody any more
            await asyncio.wait({self._fetch(name)})

    # The background

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _poke(self) -> None:
        self._wake.set()

    async def _maintain(self) -> None:
        """Do what the state says is due, when it is due."""
        while True:
            now = self._clock()
            due = self.state.due(now)
            if due.changes:
                self._spawn(self._ask_changes())
            for name in due.fetch:
                self._spawn(self._refetch(name))
            try:
                async with asyncio.timeout(None if due.wake_at is None else due.wake_at - now):
                    await self._wake.wait()
            except TimeoutError:
                continue
            self._wake.clear()

    async def _refetch(self, name: str) -> None:
        async with self._room:
            if self.state.lookup(name, self._clock()) is not None:
                return  # a reader was faster
            try:
                await asyncio.shield(self._fetch(name))
            except SecretsUnavailable:
                self.state.retry(name, self._clock())
                self._poke()
            except SecretsError:
                pass  # the state has drawn its conclusions; a reader will be told

    async def _ask_changes(self) -> None:
        since, sent_at = self.state.history.since, self._clock()
        self.state.counts["changes_asked"] += 1
        try:
            answer = await self._daemon.changes(since)
        except HistoryGone:
            self.state.history_gone(self._clock())
        except AuthenticationFailed:
            self.state.changes_refused(self._clock())
        except SecretsError:
            self.state.changes_failed(self._clock())
        else:
            now = self._clock()
            self._note_date(sent_at)
            self.state.changes_answered(answer, complete=since is None, sent_at=sent_at, now=now)
        self._poke()
        self._answered.set()

    async def _synchronise(self) -> None:
        """Return when `/changes` has answered a question asked from now on (rule 1)."""
        called_at = self._clock()
        self.state.history.demand(called_at)
        self._poke()
        while self.state.history.confirmed_at < called_at:
            self._answered.clear()
            await self._answered.wait()

    def _tell_watchers(self, secret: Secret) -> None:
        """Tell whom it concerns that this version is the current one."""
        told, begins = self.watchers.stored(secret)
        if begins:
            self._in_use(secret)
        if told and self._settings.acknowledge:
            self._acknowledgements.began(secret, len(told))
        for callback in told:
            self._deliver(callback, secret)

    def _queue_callback(self, callback: Callback, secret: Secret) -> None:
        self._queue.put_nowait((callback, secret))

    def _in_use(self, secret: Secret) -> None:
        """Acknowledge a version that a watched name begins with: who watches says what it uses."""
        if self._settings.acknowledge:
            self._acknowledgements.in_use(secret.name, secret.kid)

    def called_back(self, name: str, kid: str, *, failed: bool) -> None:
        """Count a callback that has run for the version `kid`; after the last one that is in use."""
        self._acknowledgements.ran(name, kid, failed=failed)
        self.state.counts["callbacks"] += 1
        self.state.counts["callbacks_failed"] += failed

    def not_called_back(self, name: str, kid: str) -> None:
        """Note a callback that was stopped before its turn: that this version is in use nobody has said."""
        self._acknowledgements.ran(name, kid, failed=True)

    async def _call_back(self) -> None:
        while not self._closed:  # a callback may close the client
            callback, secret = await self._queue.get()
            name, kid = secret.name, secret.kid
            if self.watchers.hand_over(callback, secret):
                self.called_back(name, kid, failed=not await tell(callback, secret))
            else:
                self.not_called_back(name, kid)
            del callback, secret  # don't keep the value until the next change

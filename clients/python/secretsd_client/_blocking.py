"""The client for code without asyncio: one background thread runs `AsyncSecretsClient` on its own loop.

A cached read is a dict look-up and a comparison with the clock, on the caller's thread: no lock, no network.
That is safe because entries are never changed, only replaced or removed, and a dict look-up is atomic.
"""

import asyncio
import atexit
import concurrent.futures
import contextlib
import inspect
import os
import queue
import random
import threading
import weakref
from collections.abc import Callable, Coroutine
from functools import partial
from time import monotonic
from types import TracebackType
from typing import Any, Self, TypeVar

from secretsd_client._cache import Entry
from secretsd_client._client import AsyncSecretsClient, Watch
from secretsd_client._errors import SecretsError
from secretsd_client._history import History
from secretsd_client._model import Secret
from secretsd_client._settings import Settings
from secretsd_client._watch import Callback, log_failure

T = TypeVar("T")
PlainCallback = Callable[[Secret], None]
_CLOSE_SECS = 5.0
_NOT_AWAITED = "a coroutine function can't be called back here: AsyncSecretsClient awaits those"


class SecretsClient:
    """Secrets, cached, and dropped when they change. Safe on all threads; a context manager.

    Making one needs neither the daemon nor the broker, nor a thread: those come with the first read, and end when it is
    closed, or when nobody refers to it and it watches nothing. After a fork the child begins anew with an empty cache,
    and its registered callbacks, at its first read.
    """

    _lock: threading.Lock
    _runtime: "_Runtime | None"
    _fresh: dict[str, Entry]
    _history: History

    def __init__(self, settings: Settings | None = None) -> None:
        """Raise SecretsError for settings that make no sense."""
        self._settings = settings if settings is not None else Settings.from_env()
        self._settings.check()
        self._watches: list[tuple[str, PlainCallback]] = []
        self._given: dict[str, str] = {}
        self._closed = False
        self._begin_anew()
        _clients.add(self)

    @classmethod
    def from_env(cls) -> Self:
        """Return a client as the JARVIS_* variables say; SecretsError when they make no sense."""
        return cls(Settings.from_env())

    def get_secret(self, name: str) -> str:
        """Return the current value: see `get`."""
        entry = self._fresh.get(name)
        if entry is not None:
            now = monotonic()
            if now < self._history.vouched_until or now < entry.fresh_until:
                self._given[name] = entry.kid
                return entry.value
        return self.get(name).value

    def get(self, name: str) -> Secret:
        """Return the secret: from the cache when it is fresh, else as the daemon gives it now.

        When the daemon can't be asked, what was current when it last could comes marked stale, for as long
        as that is safe (docs/client.md); after that SecretsUnavailable. Raises SecretNotFound, AccessDenied
        and AuthenticationFailed as the daemon says.
        """
        entry = self._fresh.get(name)
        if entry is not None:
            now = monotonic()
            if now < self._history.vouched_until or now < entry.fresh_until:
                self._given[name] = entry.kid
                return entry.secret
        runtime = self._started()
        return runtime.run(runtime.client.get(name))

    def on_change(self, name: str, callback: PlainCallback) -> Callable[[], None]:
        """Call `callback(secret)` each time another version of `name` has come into the cache.

        Other than the one that this client last gave you, so that what changes between a read and this call isn't
        missed; where it gave you none, other than the one there is now: when this returns that is known, unless the
        daemon couldn't be asked. All callbacks run on one thread of the client's, one after another; what one raises is
        logged by its type. Returns a function that stops them. Raises SecretsError for a coroutine function.
        """
        if inspect.iscoroutinefunction(callback):
            raise SecretsError(_NOT_AWAITED)
        runtime = self._started()
        runtime.run(_watch(runtime.client, name, callback))
        self._watches.append((name, callback))
        runtime.kept = self

        def cancel() -> None:
            if (name, callback) in self._watches:
                self._watches.remove((name, callback))
            # After a fork it is another one; a client that is closed calls nobody back.
            if (runtime := self._runtime) is not None:
                with contextlib.suppress(SecretsError):
                    runtime.call(runtime.client.unwatch, name, callback)
                if not self._watches:
                    runtime.kept = None

        return cancel

    def acknowledge(self, secret: Secret) -> None:
        """Tell the daemon, in the background, that this version is in use (docs/consumers.md).

        `on_change` does that by itself once its callbacks have run; this is for who uses a value later than that, with
        `acknowledge=False` in the settings.
        """
        runtime = self._started()
        runtime.call(runtime.client.acknowledge, secret)

    def clear_cache(self) -> None:
        """Drop every cached value; the next reads ask the daemon."""
        if (runtime := self._runtime) is not None:
            runtime.call(runtime.client.clear_cache)

    def stats(self) -> dict[str, int]:
        """Return counters since the client was made, and how many values are cached now; no names."""
        runtime = self._started()
        return runtime.call(runtime.client.stats)

    def wait_ready(self, timeout_secs: float = 10.0) -> bool:
        """Wait until the bus is listened to (at once where the daemon uses none); return whether it is."""
        runtime = self._started()
        return runtime.run(runtime.client.wait_ready(timeout_secs))

    def close(self) -> None:
        """End the threads and the connections; waits a few seconds at most. Callbacks may call it."""
        with self._lock:
            self._closed = True
            runtime, self._runtime = self._runtime, None
            self._fresh = {}
        if runtime is not None:
            self._unused.detach()
            runtime.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _started(self) -> "_Runtime":
        if (runtime := self._runtime) is not None:
            return runtime
        with self._lock:
            if self._closed:
                raise SecretsError("the client is closed")
            if self._runtime is None:
                runtime = _Runtime(self._settings, self._given)
                for name, callback in self._watches:
                    runtime.call(runtime.client.on_change, name, callback)
                self._fresh, self._history = runtime.client.state.fresh, runtime.client.state.history
                self._given = runtime.client.watchers.given
                self._unused = weakref.finalize(self, runtime.end)
                self._unused.atexit = False
                self._runtime, runtime.kept = runtime, self if self._watches else None
            return self._runtime

    def _begin_anew(self) -> None:
        self._lock = threading.Lock()
        self._runtime = None
        self._fresh = {}
        self._history = History(random=random.random)  # one by which nothing is vouched for

    def _forked(self) -> None:
        """Forget, in a child, what the parent's threads do; they don't exist here."""
        if self._runtime is not None:
            # Never collected: closing the copied event loop would take sockets out of the parent's epoll.
            _left_to_the_parent.append(self._runtime)
            self._runtime.kept = None
            self._unused.detach()
        self._begin_anew()


async def _watch(client: AsyncSecretsClient, name: str, callback: PlainCallback) -> Watch:
    return await client.on_change(name, callback)


class _Runtime:
    """A loop on a thread, the client on it, and the thread on which callbacks run (made when one is due)."""

    kept: SecretsClient | None = None
    """Whom it serves, while that watches something: then it isn't unused, though nobody may refer to it."""

    def __init__(self, settings: Settings, given: dict[str, str]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="secretsd-client", daemon=True)
        self._due: queue.SimpleQueue[tuple[Callback, Secret] | None] = queue.SimpleQueue()
        self._caller: threading.Thread | None = None
        self._thread.start()
        self.client = self.run(self._make(settings))
        self.client.watchers.given.update(given)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it on the loop, wait, return what it returns."""
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:
            work.close()
        else:
            try:
                return future.result()
            except concurrent.futures.CancelledError:
                pass
        raise SecretsError("the client is closed")

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Call it on the loop, wait, return what it returns."""

        async def called() -> T:
            return function(*args)

        return self.run(called())

    def end(self) -> "concurrent.futures.Future[None]":
        """Begin to end the threads and the connections; the result is done when the latter are closed."""
        closed = asyncio.run_coroutine_threadsafe(self.client.close(), self._loop)
        closed.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._loop.stop))
        self._due.put(None)
        return closed

    def close(self) -> None:
        """End them, and wait for it a few seconds at most."""
        self.kept = None
        if not concurrent.futures.wait([self.end()], timeout=_CLOSE_SECS).done:
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSE_SECS)
        if self._caller is not None and self._caller is not threading.current_thread():
            self._caller.join(_CLOSE_SECS)

    async def _make(self, settings: Settings) -> AsyncSecretsClient:
        return AsyncSecretsClient(settings, deliver=self._deliver)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    def _deliver(self, callback: Callback, secret: Secret) -> None:
        if self._caller is None:
            self._caller = threading.Thread(target=self._call_back, name="secretsd-callbacks", daemon=True)
            self._caller.start()
        self._due.put((callback, secret))

    def _call_back(self) -> None:
        while (due := self._due.get()) is not None:
            callback, secret = due
            name, kid = secret.name, secret.kid
            if self.client.watchers.hand_over(callback, secret):
                done = partial(self.client.called_back, name, kid, failed=not _told(callback, secret))
            else:
                done = partial(self.client.not_called_back, name, kid)
            del due, callback, secret  # don't keep the value until the next change
            with contextlib.suppress(RuntimeError):  # a callback may have closed the client
                self._loop.call_soon_threadsafe(done)


def _told(callback: Callback, secret: Secret) -> bool:
    """Call it; return whether it went well (errors are logged)."""
    try:
        result = callback(secret)
    except BaseException as error:  # noqa: BLE001 - somebody else's code; its message may hold the value
        log_failure(secret.name, error)
        return False
    if inspect.iscoroutine(result):
        result.close()
        log_failure(secret.name, SecretsError(_NOT_AWAITED))
        return False
    return True


_clients: "weakref.WeakSet[SecretsClient]" = weakref.WeakSet()
_left_to_the_parent: list[_Runtime] = []


def _after_fork() -> None:
    for client in _clients:
        client._forked()


def _at_exit() -> None:
    for client in list(_clients):
        client.close()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)

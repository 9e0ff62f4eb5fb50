"""The client for code without asyncio: one background thread runs `AsyncSecretsClient` on its own loop.

A cached read is a dict look-up and a comparison with the clock, on the caller's thread: no lock, no network.
That is safe because entries are never changed, only replaced or removed, and a dict look-up is atomic.
"""

import asyncio
import atexit
import concurrent.futures
import contextlib
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


class SecretsClient:
    """Secrets, cached, and dropped when they change. Safe on all threads; a context manager.

    Making one needs neither the daemon nor the broker, nor a thread: those come with the first read. After a
    fork the child begins anew with an empty cache, and its registered callbacks, at its first read.
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
                return entry.secret
        runtime = self._started()
        return runtime.run(runtime.client.get(name))

    def on_change(self, name: str, callback: PlainCallback) -> Callable[[], None]:
        """Call `callback(secret)` each time another version of `name` has come into the cache.

        All callbacks run on one thread of the client's, one after another; what one raises is logged by its
        type. Returns a function that stops them. When this returns, the version that the secret changes
        from is known, unless the daemon couldn't be asked.
        """
        runtime = self._started()
        watch = runtime.run(_watch(runtime.client, name, callback))
        self._watches.append((name, callback))

        def cancel() -> None:
            if (name, callback) in self._watches:
                self._watches.remove((name, callback))
            runtime.call(watch.cancel)

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
                runtime = _Runtime(self._settings)
                for name, callback in self._watches:
                    runtime.call(runtime.client.on_change, name, callback)
                self._fresh, self._history = runtime.client.state.fresh, runtime.client.state.history
                self._runtime = runtime
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
        self._begin_anew()


async def _watch(client: AsyncSecretsClient, name: str, callback: PlainCallback) -> Watch:
    return await client.on_change(name, callback)


class _Runtime:
    """A loop on a thread, the client on it, and the thread on which callbacks run (made when one is due)."""

    def __init__(self, settings: Settings) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="secretsd-client", daemon=True)
        self._due: queue.SimpleQueue[tuple[Callback, Secret] | None] = queue.SimpleQueue()
        self._caller: threading.Thread | None = None
        self._thread.start()
        self.client = self.run(self._make(settings))

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

    def close(self) -> None:
        future = asyncio.run_coroutine_threadsafe(self.client.close(), self._loop)
        concurrent.futures.wait([future], timeout=_CLOSE_SECS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSE_SECS)
        self._due.put(None)
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
            name, kid, failed = secret.name, secret.kid, False
            try:
                callback(secret)
            except Exception as error:  # noqa: BLE001 - somebody else's code; its message may hold the value
                log_failure(secret.name, error)
                failed = True
            del due, callback, secret  # don't keep the value until the next change
            with contextlib.suppress(RuntimeError):  # a callback may have closed the client
                self._loop.call_soon_threadsafe(partial(self.client.called_back, name, kid, failed=failed))


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

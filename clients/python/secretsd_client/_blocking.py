"""The client for code without asyncio: one background thread runs `AsyncSecretsClient` on its own loop.

A cached read is a dict look-up and a comparison with the clock, on the caller's thread: no lock, no network.
That is safe because entries are never changed, only replaced or removed, and a dict look-up is atomic.
"""

import atexit
import contextlib
import inspect
import os
import random
import threading
import weakref
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Self

from secretsd_client._cache import Entry
from secretsd_client._client import AsyncSecretsClient, Watch
from secretsd_client._errors import CLOSED, SecretsError
from secretsd_client._history import History
from secretsd_client._model import Secret
from secretsd_client._runtime import NOT_AWAITED, Runtime, forked
from secretsd_client._settings import Settings

PlainCallback = Callable[[Secret], None]


class SecretsClient:
    """Secrets, cached, and dropped when they change. Safe on all threads; a context manager.

    Making one needs neither the daemon nor the broker, nor a thread: those come with the first read, and end when it is
    closed, or when nobody refers to it and it watches nothing. After a fork the child begins anew with an empty cache,
    and its registered callbacks, at its first read.
    """

    _runtime: Runtime | None
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
        return runtime.run(runtime.client.get, name)

    def on_change(self, name: str, callback: PlainCallback) -> Callable[[], None]:
        """Call `callback(secret)` each time another version of `name` has come into the cache.

        Other than the one that this client last gave you, so that what changes between a read and this call isn't
        missed; where it gave you none, other than the one there is now: when this returns that is known, unless the
        daemon couldn't be asked. All callbacks run on one thread of the client's, one after another; what one raises is
        logged by its type. Returns a function that stops them. Raises SecretsError for a coroutine function.
        """
        if inspect.iscoroutinefunction(callback):
            raise SecretsError(NOT_AWAITED)
        runtime = self._started()
        runtime.run(_watch, runtime.client, name, callback)
        self._watches.append((name, callback))
        runtime.kept = self

        def cancel() -> None:
            if (name, callback) in self._watches:
                self._watches.remove((name, callback))
            # After a fork it is another one; a client that is closed calls nobody back.
            if (runtime := self._runtime) is not None:
                with contextlib.suppress(SecretsError):
                    runtime.tell(runtime.client.unwatch, name, callback)
                if not self._watches:
                    runtime.kept = None

        return cancel

    def acknowledge(self, secret: Secret) -> None:
        """Tell the daemon, in the background, that this version is in use (docs/consumers.md).

        `on_change` does that by itself once its callbacks have run; this is for who uses a value later than that, with
        `acknowledge=False` in the settings.
        """
        runtime = self._started()
        runtime.tell(runtime.client.acknowledge, secret)

    def clear_cache(self) -> None:
        """Drop every cached value; the next reads ask the daemon."""
        if (runtime := self._runtime) is not None:
            runtime.tell(runtime.client.clear_cache)

    def stats(self) -> dict[str, int]:
        """Return counters since the client was made, and how many values are cached now; no names."""
        runtime = self._started()
        return runtime.call(runtime.client.stats)

    def wait_ready(self, timeout_secs: float = 10.0) -> bool:
        """Wait until the bus is listened to (at once where the daemon uses none); return whether it is."""
        runtime = self._started()
        return runtime.run(runtime.client.wait_ready, timeout_secs)

    def close(self) -> None:
        """End the threads and the connections; waits a few seconds at most. Callbacks may call it."""
        self._closed = True
        with self._lock:
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

    def _started(self) -> Runtime:
        if (runtime := self._runtime) is not None:
            return runtime
        with self._lock:
            if self._runtime is None and not self._closed:
                self._serve(Runtime(self._settings, self._given))
            if (runtime := self._runtime) is not None and not self._closed:
                return runtime
        self.close()
        raise SecretsError(CLOSED)

    def _serve(self, runtime: Runtime) -> None:
        """Be served by this one from now on, unless what interrupted its making has begun one of its own."""
        if self._runtime is not None:
            runtime.end()
            return
        for name, callback in self._watches:
            runtime.soon(runtime.client.on_change, name, callback)
        self._fresh, self._history = runtime.client.state.fresh, runtime.client.state.history
        self._given = runtime.client.watchers.given
        self._unused = weakref.finalize(self, runtime.end)
        self._unused.atexit = False
        self._runtime, runtime.kept = runtime, self if self._watches else None

    def _begin_anew(self) -> None:
        self._lock = threading.RLock()  # a signal handler or a destructor may interrupt its holder, and come in again
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


_clients: "weakref.WeakSet[SecretsClient]" = weakref.WeakSet()
_left_to_the_parent: list[Runtime] = []


def _after_fork() -> None:
    forked()
    for client in _clients:
        client._forked()


def _at_exit() -> None:
    for client in list(_clients):
        client.close()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)

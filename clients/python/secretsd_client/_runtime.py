"""The threads of a `SecretsClient`: one for its loop, one for code that isn't ours, callbacks and log handlers.

Signal handlers and destructors run on any thread, in the midst of anything, and may read or close the client. So who
waits holds no lock meanwhile (a SimpleQueue's put never waits, whomever it interrupts), a loop's own thread waits for
no loop, and whoever waits is told when the client is closed.
"""

import asyncio
import contextlib
import inspect
import logging
import queue
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, NoReturn, TypeVar

from secretsd_client._client import AsyncSecretsClient
from secretsd_client._errors import CLOSED, SecretsError
from secretsd_client._model import Secret
from secretsd_client._settings import Settings
from secretsd_client._watch import Callback, log_failure

T = TypeVar("T")
NOT_AWAITED = "a coroutine function can't be called back here: AsyncSecretsClient awaits those"
_CLOSE_SECS = 5.0
_ON_A_LOOP = (
    "this is the thread of a SecretsClient's own work, which can't wait for itself: only what is cached can be read "
    "where a destructor or a log handler runs on it"
)

_log = logging.getLogger("secretsd_client")


class Runtime:
    """A loop on a thread, the client on it, and the thread for callbacks and log handlers (made when one is due)."""

    kept: object | None = None
    """Whom it serves, while that watches something: then it isn't unused, though nobody may refer to it."""

    def __init__(self, settings: Settings, given: dict[str, str]) -> None:
        self.client = AsyncSecretsClient(settings, deliver=self._deliver)
        self.client.watchers.given.update(given)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="secretsd-client", daemon=True)
        self._due: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._caller: threading.Thread | None = None
        self._waiting: set[queue.SimpleQueue[Callable[[], Any]]] = set()
        self._ended = False
        self._owned = threading.Lock()  # who has it closes the loop; nobody waits for it
        try:
            self._thread.start()
        except BaseException:  # a signal handler's, for one
            self.end()
            if self._owned.acquire(blocking=False):  # the thread never ran
                self._loop.close()
            raise

    def run(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """Run it on the loop, wait, return what it returns."""
        if on_a_loop():
            raise SecretsError(_ON_A_LOOP)
        answer: queue.SimpleQueue[Callable[[], T]] = queue.SimpleQueue()
        self._waiting.add(answer)
        try:
            if self._ended:  # looked at after the line above: so either we see it, or `end` sees us
                _closed()
            self.soon(self._begin, answer, function, args)
            return answer.get()()
        except asyncio.CancelledError:
            _closed()
        finally:
            self._waiting.discard(answer)

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Call it on the loop, wait, return what it returns."""

        async def called() -> T:
            return function(*args)

        return self.run(called)

    def tell(self, function: Callable[..., object], *args: Any) -> None:
        """Call it on the loop, and wait until it has run; from a loop's own thread it runs next."""
        if on_a_loop():
            self.soon(function, *args)
        else:
            self.call(function, *args)

    def soon(self, function: Callable[..., object], *args: Any) -> None:
        """Have it called on the loop, after what was to be called before; don't wait."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(function, *args)

    def end(self) -> None:
        """Begin to end the threads and the connections, and tell who waits; don't wait."""
        self._ended = True
        for answer in tuple(self._waiting):
            answer.put(_closed)
        self._due.put(None)
        self.soon(self._loop.stop)

    def close(self) -> None:
        """End them, and wait for it a few seconds at most."""
        self.kept = None
        self.end()
        if on_a_loop():
            return
        self._thread.join(_CLOSE_SECS)
        if self._caller is not None and self._caller is not threading.current_thread():
            self._caller.join(_CLOSE_SECS)

    # On the loop's thread

    def _run(self) -> None:
        if not self._owned.acquire(blocking=False):
            return
        _here.runtime = self
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(self._wind_up())
        finally:
            self.end()  # whatever ended the loop, nobody waits for it
            self._loop.close()

    def _begin(
        self,
        answer: queue.SimpleQueue[Callable[[], T]],
        function: Callable[..., Coroutine[Any, Any, T]],
        args: tuple[Any, ...],
    ) -> None:
        if not self._ended:
            self._loop.create_task(function(*args)).add_done_callback(partial(_answer, answer))

    async def _wind_up(self) -> None:
        """Close the client, and end what is under way besides."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECS):
                await self.client.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=_CLOSE_SECS)

    def _deliver(self, callback: Callback, secret: Secret) -> None:
        self.elsewhere(partial(self._call_back, callback, secret))

    def elsewhere(self, work: Callable[[], None]) -> None:
        """Have code that isn't ours run on the thread for that, one piece after another."""
        if self._caller is None:
            self._caller = threading.Thread(target=self._work, name="secretsd-callbacks", daemon=True)
            self._caller.start()
        self._due.put(work)

    # On the callbacks' thread

    def _work(self) -> None:
        while (work := self._due.get()) is not None:
            work()
            del work  # don't keep the value until the next change

    def _call_back(self, callback: Callback, secret: Secret) -> None:
        if self.client.watchers.hand_over(callback, secret):
            failed = not _told(callback, secret)
            self.soon(partial(self.client.called_back, secret.name, secret.kid, failed=failed))
        else:
            self.soon(self.client.not_called_back, secret.name, secret.kid)


def on_a_loop() -> bool:
    """Return whether this is the thread of some client's loop."""
    return _here.runtime is not None


def forked() -> None:
    """Forget, in a child, that the thread that forked was a loop's."""
    _here.runtime = None


class _Here(threading.local):
    runtime: Runtime | None = None


class _Elsewhere(logging.Filter):
    """Keeps log handlers off the loops: they may block, and read a secret while they hold their lock."""

    def filter(self, record: logging.LogRecord) -> bool:
        if (runtime := _here.runtime) is None:
            return True
        runtime.elsewhere(partial(_handle, record))
        return False


def _handle(record: logging.LogRecord) -> None:
    with contextlib.suppress(Exception, SystemExit):  # somebody else's code
        _log.handle(record)


def _closed() -> NoReturn:
    raise SecretsError(CLOSED)


def _answer(answer: queue.SimpleQueue[Callable[[], T]], task: asyncio.Task[T]) -> None:
    if not task.cancelled():
        task.exception()  # nobody may be left to be told
    answer.put(task.result)


def _told(callback: Callback, secret: Secret) -> bool:
    """Call it; return whether it went well (errors are logged)."""
    try:
        result = callback(secret)
    except BaseException as error:  # noqa: BLE001 - somebody else's code; its message may hold the value
        log_failure(secret.name, error)
        return False
    if inspect.iscoroutine(result):
        result.close()
        log_failure(secret.name, SecretsError(NOT_AWAITED))
        return False
    return True


_here = _Here()
_log.addFilter(_Elsewhere())

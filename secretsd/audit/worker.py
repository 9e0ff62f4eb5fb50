"""One thread that blocks in the event loop's place, one job after the other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue

_Job = tuple[Callable[[], None], asyncio.AbstractEventLoop, "asyncio.Future[None]"]


class Worker:
    """Does what an executor of one thread does, for the one job that every request waits for.

    An executor's two futures, locks and semaphore cost each batch of lines as much as two signatures.
    """

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def do(self, job: Callable[[], None]) -> asyncio.Future[None]:
        """Have `job` done after those before it; the future has its end, or what it raised."""
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        self._jobs.put((job, loop, done))
        return done

    def stop(self) -> None:
        """End the thread when all jobs are done; blocks."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            call, loop, done = job
            error: BaseException | None = None
            try:
                call()
            except BaseException as raised:  # noqa: BLE001 — whoever waits for the future gets it
                error = raised
            loop.call_soon_threadsafe(_settle, done, error)


def _settle(done: asyncio.Future[None], error: BaseException | None) -> None:
    if done.done():
        return  # nobody waits any more
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)

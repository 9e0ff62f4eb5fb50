from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from secretsd.audit.worker import Worker


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    worker = Worker("test")
    yield worker
    worker.stop()


async def test_jobs_are_done_one_after_the_other_off_the_loop(worker: Worker) -> None:
    done: list[tuple[int, int]] = []
    await asyncio.gather(*(worker.do(lambda n=n: done.append((n, threading.get_ident()))) for n in range(20)))
    assert [number for number, _ in done] == list(range(20))
    assert {thread for _, thread in done} != {threading.get_ident()}
    assert len({thread for _, thread in done}) == 1


async def test_what_a_job_raises_its_caller_gets_and_the_next_job_is_done(worker: Worker) -> None:
    def fail() -> None:
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        await worker.do(fail)
    await worker.do(lambda: None)


async def test_a_job_whose_caller_has_gone_is_done_all_the_same(worker: Worker) -> None:
    go, done = threading.Event(), threading.Event()
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))

    def job() -> None:
        assert go.wait(10)
        done.set()

    held = worker.do(job)
    held.cancel()
    go.set()
    await worker.do(lambda: None)
    assert done.is_set()
    assert not complaints


async def test_stopping_waits_for_the_jobs_that_were_given() -> None:
    worker = Worker("test")
    done: list[int] = []
    last = worker.do(lambda: done.append(1))
    worker.stop()
    assert done == [1]
    await last

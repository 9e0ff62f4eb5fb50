from __future__ import annotations

import asyncio

import pytest

from secretsd import tasks


async def test_a_task_is_over_with_what_it_does_last_when_it_is_ended() -> None:
    done: list[str] = []
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            done.append("tidied up")

    task = asyncio.create_task(work())
    await begun.wait()
    await tasks.end(task)
    assert done == ["tidied up"]
    assert task.cancelled()


async def test_what_a_task_failed_with_is_not_swallowed() -> None:
    async def fail() -> None:
        raise ValueError("it failed")

    task = asyncio.create_task(fail())
    await asyncio.wait([task])
    with pytest.raises(ValueError, match="it failed"):
        await tasks.end(task)


async def test_a_task_that_never_began_has_ended() -> None:
    await tasks.end(None)

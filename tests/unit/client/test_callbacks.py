"""Callbacks: of what they are told, and that nothing they do takes anything from the others."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest
from secretsd_client import AsyncSecretsClient, Secret, SecretNotFound, SecretsClient, SecretsError, Times

from tests.unit.client.waiting import until

QUICK = Times(ttl_silent=0.05, ttl_without_bus=0.05)


async def test_a_version_that_came_between_a_read_and_on_change_is_told(daemon):
    told: list[int] = []
    async with AsyncSecretsClient(daemon.settings()) as client:
        assert await client.get_secret("db") == "first"
        daemon.put("db", "second")
        client.clear_cache()
        await client.on_change("db", lambda secret: told.append(secret.version))
        await until(lambda: told == [2], "the second version is told")


async def test_a_version_that_the_caller_was_given_is_not_told_to_who_comes_after(daemon):
    told: list[int] = []
    async with AsyncSecretsClient(daemon.settings()) as client:
        await client.get("db")
        daemon.put("db", "second")
        client.clear_cache()
        assert await client.get_secret("db") == "second"
        await client.on_change("db", lambda secret: told.append(secret.version))
        daemon.put("db", "third")
        client.clear_cache()
        await client.get("db")
        await until(lambda: told, "a version is told")
    assert told == [3]


async def test_a_callback_that_registers_another_has_given_the_version(daemon):
    told: list[tuple[str, int]] = []

    async with AsyncSecretsClient(daemon.settings(QUICK)) as client:

        def begins_anew(secret: Secret) -> None:
            told.append(("first", secret.version))
            watch.cancel()
            client.on_change("db", lambda secret: told.append(("second", secret.version)))

        await client.get("db")
        watch = await client.on_change("db", begins_anew)
        daemon.put("db", "second")
        await until(lambda: told, "the second version is told")
        daemon.put("db", "third")
        await until(lambda: len(told) == 2, "the third version is told")
    assert told == [("first", 2), ("second", 3)]


async def test_a_secret_that_comes_to_be_is_told_to_who_watched_for_it(daemon):
    told: list[int] = []
    async with AsyncSecretsClient(daemon.settings(QUICK)) as client:
        await client.on_change("late", lambda secret: told.append(secret.version))
        with pytest.raises(SecretNotFound):
            await client.get("late")
        daemon.put("late", "here")
        await until(lambda: told == [1], "it is told")


async def test_a_callback_of_the_asyncio_client_may_close_it(daemon):
    closed = asyncio.Event()
    client = AsyncSecretsClient(daemon.settings(QUICK))

    async def closes(_: Secret) -> None:
        await client.close()
        closed.set()

    await client.on_change("db", closes)
    daemon.put("db", "second")
    async with asyncio.timeout(10):
        await closed.wait()
    await until(lambda: not client._tasks, "no task is left")
    with pytest.raises(SecretsError, match="closed"):
        await client.get("db")


async def test_a_callback_that_is_cancelled_fails_and_the_next_are_called(daemon):
    told: list[int] = []

    async def waits_for_what_is_cancelled(_: Secret) -> None:
        other = asyncio.ensure_future(asyncio.sleep(60))
        other.cancel()
        await other

    async with AsyncSecretsClient(daemon.settings(QUICK)) as client:
        await client.on_change("db", waits_for_what_is_cancelled)
        await client.on_change("db", lambda secret: told.append(secret.version))
        for version in (2, 3):
            daemon.put("db", f"value {version}")
            await until(lambda version=version: version in told, f"version {version} is told")
        await until(lambda: client.stats()["callbacks"] == 4, "all have been counted")
        assert client.stats()["callbacks_failed"] == 2


async def test_a_callback_that_exits_fails_and_the_next_are_called(daemon):
    told: list[int] = []

    def exits(_: Secret) -> None:
        raise SystemExit

    with SecretsClient(daemon.settings(QUICK)) as client:
        await asyncio.to_thread(client.on_change, "db", exits)
        await asyncio.to_thread(client.on_change, "db", lambda secret: told.append(secret.version))
        for version in (2, 3):
            daemon.put("db", f"value {version}")
            await until(lambda version=version: version in told, f"version {version} is told")


async def test_who_was_stopped_while_waiting_for_its_turn_is_not_called(daemon):
    entered, leave = threading.Event(), threading.Event()
    told: list[int] = []

    def slow(_: Secret) -> None:
        entered.set()
        leave.wait(20)

    with SecretsClient(daemon.settings(QUICK)) as client:
        await asyncio.to_thread(client.on_change, "db", slow)
        stop = await asyncio.to_thread(client.on_change, "db", lambda secret: told.append(secret.version))
        daemon.put("db", "second")
        await until(entered.is_set, "the first callback runs")
        await asyncio.to_thread(stop)
        leave.set()
        await until(lambda: client.stats().get("callbacks"), "the first one is counted")
    assert told == []
    assert ("db", daemon.secrets["db"].kid) not in daemon.acknowledged


async def test_the_client_without_asyncio_refuses_what_it_cannot_await(daemon):
    async def coroutine_function(_: Secret) -> None: ...

    def returns_a_coroutine(secret: Secret) -> None:
        return coroutine_function(secret)  # type: ignore[return-value] # what must fail

    with SecretsClient(daemon.settings(QUICK)) as client:
        with pytest.raises(SecretsError, match="AsyncSecretsClient"):
            client.on_change("db", coroutine_function)  # type: ignore[arg-type] # what must fail
        await asyncio.to_thread(client.on_change, "db", returns_a_coroutine)
        daemon.put("db", "second")
        await until(lambda: client.stats().get("callbacks_failed") == 1, "it has failed")


async def test_stopping_a_callback_of_a_closed_client_is_no_mistake(daemon):
    with SecretsClient(daemon.settings()) as client:
        stop = await asyncio.to_thread(client.on_change, "db", lambda _: None)
    stop()
    stop()


async def test_a_watch_outside_a_loop_is_refused_before_anything_has_begun(daemon):
    client = AsyncSecretsClient(daemon.settings())

    def without_a_loop() -> None:
        with pytest.raises(RuntimeError):
            client.on_change("db", lambda _: None)

    await asyncio.to_thread(without_a_loop)
    assert await client.wait_ready(10)
    await client.close()


async def test_a_client_that_nobody_refers_to_ends_its_threads_unless_it_watches(daemon):
    def own() -> set[str]:
        gc.collect()
        return {thread.name for thread in threading.enumerate()} & {"secretsd-client", "secretsd-callbacks"}

    told: list[int] = []
    await asyncio.to_thread(lambda: SecretsClient(daemon.settings()).get("db"))
    await until(lambda: not own(), "the threads of the one that only read have ended")
    stop = await asyncio.to_thread(
        lambda: SecretsClient(daemon.settings(QUICK)).on_change("db", lambda secret: told.append(secret.version))
    )
    gc.collect()
    daemon.put("db", "second")
    await until(lambda: told == [2], "the one that watches goes on")
    await asyncio.to_thread(stop)
    del stop
    await until(lambda: not own(), "its threads have ended too")

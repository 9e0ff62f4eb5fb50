"""The daemon is told which version is in use, once its callbacks have run, and never in a reader's way."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from secretsd_client import AsyncSecretsClient, Secret, SecretsClient, SecretsError, Settings, Times

from tests.support.waiting import eventually
from tests.unit.client.waiting import until

QUICK = Times(ttl_silent=0.05, ttl_without_bus=0.05)


def kid(daemon, name="db"):
    return daemon.secrets[name].kid


async def test_a_watched_version_is_acknowledged_and_each_later_one_after_its_callbacks(daemon):
    entered, leave = asyncio.Event(), asyncio.Event()

    async def slow(_: Secret) -> None:
        entered.set()
        await leave.wait()

    async with AsyncSecretsClient(daemon.settings(QUICK)) as client:
        await client.on_change("db", lambda _: None)
        await client.on_change("db", slow)
        first = kid(daemon)
        await until(lambda: daemon.acknowledged == [("db", first)], "the first version is acknowledged")
        daemon.put("db", "second")
        async with asyncio.timeout(10):
            await entered.wait()
        daemon.put("later", "x")
        await client.on_change("later", lambda _: None)
        await until(lambda: len(daemon.acknowledged) > 1, "what came later is acknowledged")
        later = ("later", kid(daemon, "later"))
        assert daemon.acknowledged == [("db", first), later]  # one callback has run, the other has not
        leave.set()
        await until(lambda: daemon.acknowledged == [("db", first), later, ("db", kid(daemon))], "the second one too")
        await until(lambda: client.stats()["acknowledged"] == 3, "the client counts them, once it has the answers")


async def test_nothing_is_acknowledged_for_who_only_reads(daemon):
    async with AsyncSecretsClient(daemon.settings(QUICK)) as client:
        daemon.put("watched", "x")
        await client.get("db")
        daemon.put("db", "second")
        client.clear_cache()
        assert await client.get_secret("db") == "second"
        await client.on_change("watched", lambda _: None)
        await until(lambda: daemon.acknowledged, "what is watched is acknowledged")
    assert [name for name, _ in daemon.acknowledged] == ["watched"]


async def test_a_version_whose_callback_failed_is_not_acknowledged(daemon):
    told = asyncio.Event()

    def fails(_: Secret) -> None:
        told.set()
        raise RuntimeError("can't take it")

    async with AsyncSecretsClient(daemon.settings(QUICK)) as client:
        await client.on_change("db", fails)
        first = kid(daemon)
        await until(lambda: daemon.acknowledged == [("db", first)], "the first version is acknowledged")
        daemon.put("db", "second")
        async with asyncio.timeout(10):
            await told.wait()
        daemon.put("other", "x")
        await client.on_change("other", lambda _: None)
        await until(lambda: ("other", kid(daemon, "other")) in daemon.acknowledged, "what came later is")
    assert [name for name, _ in daemon.acknowledged] == ["db", "other"]


async def test_the_switch_turns_it_off_and_what_is_said_by_hand_is_said(daemon):
    told: asyncio.Queue[Secret] = asyncio.Queue()
    settings = replace(daemon.settings(QUICK), acknowledge=False)
    async with AsyncSecretsClient(settings) as client:
        await client.on_change("db", told.put_nowait)
        daemon.put("db", "second")
        async with asyncio.timeout(10):
            secret = await told.get()
        assert daemon.acknowledged == []
        client.acknowledge(secret)
        await until(lambda: daemon.acknowledged == [("db", secret.kid)], "it is said")


async def test_what_could_not_be_said_is_said_later_and_only_the_newest(daemon):
    told: asyncio.Queue[Secret] = asyncio.Queue()
    daemon.refuse_acknowledgements = 503
    async with AsyncSecretsClient(daemon.settings(QUICK)) as client:
        await client.on_change("db", told.put_nowait)
        for value in ("second", "third"):
            daemon.put("db", value)
            async with asyncio.timeout(10):
                assert (await told.get()).value == value
        await until(lambda: daemon.asked("/secret/db/ack") > 0, "it was tried")
        daemon.refuse_acknowledgements = None
        await until(lambda: daemon.acknowledged, "it is said")
    assert daemon.acknowledged == [("db", kid(daemon))]


async def test_what_could_not_be_said_is_tried_again_without_another_word(daemon):
    daemon.refuse_acknowledgements = 503
    async with AsyncSecretsClient(daemon.settings(QUICK)) as client:
        await client.on_change("db", lambda _: None)
        await until(lambda: daemon.asked("/secret/db/ack") > 1, "it is tried again")
        daemon.refuse_acknowledgements = None
        await until(lambda: daemon.acknowledged == [("db", kid(daemon))], "it is said")


async def test_what_was_said_is_not_said_again(daemon):
    daemon.put("other", "x")
    async with AsyncSecretsClient(replace(daemon.settings(QUICK), acknowledge=False)) as client:
        for name in ("db", "db", "other"):
            client.acknowledge(await client.get(name))
            await until(lambda name=name: (name, kid(daemon, name)) in daemon.acknowledged, "it is said")
    assert daemon.acknowledged == [("db", kid(daemon)), ("other", kid(daemon, "other"))]


@pytest.mark.parametrize("status", [403, 404, 405])
async def test_a_daemon_that_refuses_is_not_asked_again_and_no_read_fails(daemon, status):
    daemon.refuse_acknowledgements = status
    async with AsyncSecretsClient(daemon.settings(QUICK)) as client:
        await client.on_change("db", lambda _: None)
        await until(lambda: daemon.asked("/secret/db/ack") == 1, "it was tried")
        daemon.put("other", "x")
        await client.on_change("other", lambda _: None)
        await until(lambda: daemon.asked("/secret/other/ack") == 1, "the next one too")
        assert await client.get_secret("db") == "first"
    assert daemon.asked("/secret/db/ack") == 1


async def test_the_blocking_client_acknowledges_after_its_callbacks_too(daemon):
    def use() -> None:
        with SecretsClient(daemon.settings(QUICK)) as client:
            client.on_change("db", lambda _: None)
            first = kid(daemon)
            eventually(lambda: ("db", first) in daemon.acknowledged, "the first is acknowledged")
            daemon.put("db", "second")
            eventually(lambda: ("db", kid(daemon)) in daemon.acknowledged, "and the second")

    await asyncio.to_thread(use)


async def test_the_instance_goes_with_every_request(daemon):
    async with AsyncSecretsClient(daemon.settings(instance="web-1")) as client:
        await client.get("db")
    assert {headers["X-Jarvis-Instance"] for path, headers in daemon.requests if path.startswith("/secret")} == {
        "web-1"
    }


def test_settings_come_from_the_environment_and_nonsense_is_refused():
    assert Settings.from_env({}).acknowledge
    assert Settings.from_env({}).instance is None
    off = Settings.from_env({"JARVIS_CLIENT_ACKNOWLEDGE": "off", "JARVIS_CLIENT_INSTANCE": "web-1"})
    assert (off.acknowledge, off.instance) == (False, "web-1")
    with pytest.raises(SecretsError):
        Settings.from_env({"JARVIS_CLIENT_ACKNOWLEDGE": "perhaps"})
    with pytest.raises(SecretsError):
        Settings(client_id="x", instance="a b").check()

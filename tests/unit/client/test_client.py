"""The asyncio client against HTTP: what callers get, and what they get when the daemon fails."""

from __future__ import annotations

import asyncio
import logging

import pytest
from aiohttp import web
from secretsd_client import (
    AccessDenied,
    AsyncSecretsClient,
    AuthenticationFailed,
    Secret,
    SecretNotFound,
    SecretsError,
    SecretsUnavailable,
    Times,
)

from tests.unit.client.waiting import until, until_async

QUICK = Times(ttl_silent=0.05, ttl_without_bus=0.05)


async def test_a_secret_is_fetched_once_and_then_comes_from_the_cache(daemon):
    async with AsyncSecretsClient(daemon.settings()) as client:
        assert await client.get_secret("db") == "first"
        for _ in range(10):
            assert await client.get_secret("db") == "first"
    assert daemon.asked("/secret/db") == 1


async def test_many_readers_at_once_make_one_request(daemon):
    async with AsyncSecretsClient(daemon.settings()) as client:
        values = await asyncio.gather(*(client.get_secret("db") for _ in range(50)))
    assert set(values) == {"first"}
    assert daemon.asked("/secret/db") == 1


async def test_a_secret_shows_what_it_is_but_not_its_value(daemon):
    async with AsyncSecretsClient(daemon.settings()) as client:
        secret = await client.get("db")
    assert (secret.name, secret.value, secret.version, secret.stale) == ("db", "first", 1, False)
    assert secret.kid == daemon.secrets["db"].kid
    assert secret.expires_at == "9999-12-31T23:59:59.999Z"
    assert "first" not in f"{secret!r} {secret}"
    with pytest.raises(AttributeError):
        secret.value = "other"  # type: ignore[misc] # what must fail


async def test_bytes_come_decoded_beside_their_base64():
    assert Secret("n", "AAEC", "k", 1, "t", "base64").data == b"\x00\x01\x02"
    assert Secret("n", "ä", "k", 1, "t").data == "ä".encode()


async def test_errors_say_whose_fault_it_is(daemon):
    async with AsyncSecretsClient(daemon.settings()) as client:
        with pytest.raises(SecretNotFound):
            await client.get("nothing")
        daemon.denied.add("db")
        with pytest.raises(AccessDenied):
            await client.get("db")
        daemon.unknown_client = True
        with pytest.raises(AuthenticationFailed):
            await client.get("other")


@pytest.mark.parametrize("name", ["", "../keys", "a b", "é", "x" * 129, "db?version=1"])
async def test_what_cannot_be_a_name_is_asked_of_nobody(daemon, name):
    async with AsyncSecretsClient(daemon.settings()) as client:
        with pytest.raises(SecretNotFound):
            await client.get(name)
    assert daemon.asked(f"/secret/{name}") == 0


async def test_no_daemon_is_unavailable_and_the_first_read_after_it_came_works(daemon):
    await daemon.stop()
    async with AsyncSecretsClient(daemon.settings()) as client:
        with pytest.raises(SecretsUnavailable):
            await client.get("db")
        await daemon.start()
        assert await client.get_secret("db") == "first"


async def test_something_else_at_the_url_is_unavailable_and_not_quoted(daemon):
    async def other(request: web.Request) -> web.Response:
        return web.json_response({"value": "planted-value"})

    daemon.answer_of["db"] = other
    async with AsyncSecretsClient(daemon.settings()) as client:
        with pytest.raises(SecretsUnavailable) as caught:
            await client.get("db")
    assert "planted-value" not in repr(caught.value)


async def test_without_a_bus_a_value_is_confirmed_by_its_etag_when_its_time_is_over(daemon):
    async with AsyncSecretsClient(daemon.settings(QUICK)) as client:
        await client.get("db")
        await until_async(lambda: _get_and_count(client), "a 304 was answered")
        headers = [headers for path, headers in daemon.requests if path == "/secret/db"]
        assert headers[1]["If-None-Match"] == f'"{daemon.secrets["db"].kid}"'
        daemon.put("db", "second")
        await until_async(lambda: _reads(client, "second"), "the new value is read")


async def _get_and_count(client: AsyncSecretsClient) -> int:
    await client.get("db")
    return client.stats().get("not_modified", 0)


async def _reads(client: AsyncSecretsClient, value: str) -> bool:
    return await client.get_secret("db") == value


async def test_with_the_daemon_dead_values_are_served_marked_stale(daemon):
    async with AsyncSecretsClient(daemon.settings(QUICK)) as client:
        await client.get("db")
        await daemon.stop()
        await until_async(lambda: _is_stale(client), "the value is marked stale")
        assert await client.get_secret("db") == "first"
        await daemon.start()
        await until_async(lambda: _is_fresh(client), "the value is fresh again")


async def test_a_stale_value_is_served_without_waiting_for_a_daemon_that_just_failed(daemon):
    async with AsyncSecretsClient(daemon.settings(QUICK)) as client:
        await client.get("db")
        await daemon.stop()
        await until(lambda: client.state.lookup("db", client._clock()) is None, "the time to live is over")
        await client.get("db")
        fetches = client.stats()["fetches"]
        assert (await client.get("db")).stale
        assert client.stats()["fetches"] == fetches


async def test_a_daemon_that_goes_on_failing_by_not_answering_holds_up_no_read_that_has_a_stale_value(daemon):
    leave = asyncio.Event()

    async def answers_nothing(_: asyncio.StreamReader, connection: asyncio.StreamWriter) -> None:
        await leave.wait()
        connection.close()

    async with AsyncSecretsClient(daemon.settings(QUICK, timeout_secs=600.0)) as client:
        await client.get("db")
        await daemon.stop()
        await until_async(lambda: _is_stale(client), "the value is marked stale")
        async with await asyncio.start_server(answers_nothing, "127.0.0.1", daemon.port), asyncio.timeout(40):
            fetches = client.stats()["fetches"]
            await until_async(lambda: _is_stale_and_asked(client, fetches), "the daemon was asked")
            for _ in range(10):
                assert await _is_stale(client)
            assert client.stats()["fetches"] == fetches + 1
            leave.set()
        await daemon.start()
        await until_async(lambda: _is_fresh(client), "the value is fresh again")


async def _is_stale(client: AsyncSecretsClient) -> bool:
    return (await client.get("db")).stale


async def _is_stale_and_asked(client: AsyncSecretsClient, fetches: int) -> bool:
    return await _is_stale(client) and client.stats()["fetches"] > fetches


async def _is_fresh(client: AsyncSecretsClient) -> bool:
    return not await _is_stale(client)


async def test_beyond_max_stale_nothing_is_served(daemon):
    times = Times(ttl_silent=0.01, ttl_without_bus=0.01, max_stale=0.05)
    async with AsyncSecretsClient(daemon.settings(times)) as client:
        await client.get("db")
        await daemon.stop()
        await until(lambda: client.state.stale("db", client._clock()) is None, "the hour is over")
        with pytest.raises(SecretsUnavailable):
            await client.get("db")


async def test_a_right_withdrawn_is_denied_at_the_next_question_and_never_served_after(daemon):
    async with AsyncSecretsClient(daemon.settings(QUICK)) as client:
        await client.get("db")
        daemon.denied.add("db")

        async def denied() -> bool:
            try:
                await client.get("db")
            except AccessDenied:
                return True
            return False

        await until_async(denied, "the read is denied")
        await daemon.stop()
        with pytest.raises(SecretsUnavailable):
            await client.get("db")


async def test_a_watched_secret_is_followed_without_a_bus_too(daemon):
    seen: list[Secret] = []
    async with AsyncSecretsClient(daemon.settings(QUICK)) as client:
        await client.on_change("db", seen.append)
        daemon.put("db", "second")
        await until(lambda: seen, "the callback was called")
        assert await client.get_secret("db") == "second"
    assert [secret.value for secret in seen] == ["second"]


async def test_callbacks_are_awaited_in_order_and_one_that_fails_is_logged_by_its_type_only(daemon, caplog):
    order: list[str] = []

    async def slow(secret: Secret) -> None:
        await asyncio.sleep(0)
        order.append(f"slow {secret.value}")

    def broken(secret: Secret) -> None:
        raise ValueError(f"can't use {secret.value}")

    async with AsyncSecretsClient(daemon.settings()) as client:
        await client.on_change("db", slow)
        await client.on_change("db", broken)
        await client.on_change("db", lambda secret: order.append(f"quick {secret.value}"))
        daemon.put("db", "second")
        client.clear_cache()
        with caplog.at_level(logging.DEBUG):
            await client.get("db")
            await until(lambda: len(order) == 2, "the callbacks were called")
    assert order == ["slow second", "quick second"]
    assert "ValueError" in caplog.text
    assert "second" not in caplog.text
    assert client.stats()["callbacks_failed"] == 1


async def test_a_cancelled_watch_is_not_called(daemon):
    seen: list[Secret] = []
    async with AsyncSecretsClient(daemon.settings()) as client:
        watch = await client.on_change("db", seen.append)
        watch.cancel()
        daemon.put("db", "second")
        client.clear_cache()
        assert await client.get_secret("db") == "second"
    assert seen == []


async def test_a_fetch_racing_a_rotation_asks_again_until_the_answer_is_as_new_as_the_announcement(daemon):
    old = daemon.secrets["db"]

    async def answers_before_the_rotation(request: web.Request) -> web.StreamResponse:
        del daemon.answer_of["db"]
        news = daemon.put("db", "second")
        client.state.announced(_announcement(news), client._clock())
        body = {"name": "db", "value": old.value, "kid": old.kid, "version": 1, "expires_at": "t"}
        daemon.generation, at_rotation = old.generation, daemon.generation
        asyncio.get_running_loop().call_later(0.05, setattr, daemon, "generation", at_rotation)
        return web.json_response(body)

    async with AsyncSecretsClient(daemon.settings()) as client:
        daemon.secrets["other"] = old
        await client.get("other")
        daemon.answer_of["db"] = answers_before_the_rotation
        assert await client.get_secret("db") == "second"
    assert any(f"min_generation={daemon.generation}" in path for path, _ in daemon.requests)


def _announcement(data):
    from secretsd_client._model import Announcement

    return Announcement(
        data["name"], data["epoch"], data["generation"], data["kid"], "active", False, None, None, 0, 0.0
    )


async def test_another_epoch_drops_the_whole_cache(daemon):
    daemon.put("other", "thing")
    async with AsyncSecretsClient(daemon.settings()) as client:
        await client.get("db")
        daemon.epoch, daemon.generation = "epoch-2", 1
        await client.get("other")
        daemon.secrets["db"].value, daemon.secrets["db"].kid = "restored", "kid-restored"
        assert await client.get_secret("db") == "restored"


async def test_a_closed_client_says_so(daemon):
    client = AsyncSecretsClient(daemon.settings())
    await client.get("db")
    await client.close()
    assert client.stats()["cached"] == 0
    with pytest.raises(SecretsError, match="closed"):
        await client.get("db")


async def test_a_watch_awaited_after_the_close_asks_nobody(daemon):
    client = AsyncSecretsClient(daemon.settings())
    watch = client.on_change("db", lambda _: None)
    await client.close()
    with pytest.raises(SecretsError, match="closed"):
        await watch
    assert daemon.asked("/secret/db") == 0


async def test_who_waits_while_another_closes_the_client_is_told_so(daemon):
    asked = daemon.never_answers("db")
    client = AsyncSecretsClient(daemon.settings(mqtt_url="mqtt://127.0.0.1:1"))
    waiting = [asyncio.create_task(work) for work in (client.get("db"), client.wait_ready(3600))]
    await asked.wait()
    await client.close()
    async with asyncio.timeout(40):
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [(type(outcome), str(outcome)) for outcome in outcomes] == [(SecretsError, "the client is closed")] * 2


async def test_who_is_cancelled_while_it_reads_is_cancelled_also_in_the_moment_of_a_close(daemon):
    asked = daemon.never_answers("db")
    client = AsyncSecretsClient(daemon.settings())
    first, second = (asyncio.create_task(client.get("db")) for _ in range(2))
    await asked.wait()
    first.cancel()
    await asyncio.wait({first})
    assert first.cancelled()
    assert not second.done()
    closing = asyncio.create_task(client.close())
    await asyncio.sleep(0)  # the fetch is being cancelled
    second.cancel()
    await closing
    await asyncio.wait({second})
    assert second.cancelled()


async def test_stats_are_plain_numbers_without_names(daemon):
    async with AsyncSecretsClient(daemon.settings()) as client:
        await client.get("db")
        stats = client.stats()
    assert stats["cached"] == 1
    assert stats["fetches"] == 1
    assert all(type(value) is int for value in stats.values())
    assert not any("db" in key for key in stats)

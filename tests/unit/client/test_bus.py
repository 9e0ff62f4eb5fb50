"""The client and a real Mosquitto on which the daemon, and others, say things."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest
from secretsd_bus import SigningKey, key_rotated
from secretsd_client import AsyncSecretsClient, Secret, SecretsUnavailable, Times

from tests.unit.client.daemon import NODE
from tests.unit.client.waiting import until, until_async

QUICK = Times(ttl_silent=0.1, ttl_without_bus=0.1)


async def ready(client: AsyncSecretsClient) -> None:
    """The value is cached, the bus is listened to and vouches."""
    await client.get("db")
    assert await client.wait_ready()
    await vouched(client)


async def vouched(client: AsyncSecretsClient) -> None:
    await until(lambda: client.state.history.vouched_until > time.monotonic(), "the bus vouches")


async def test_a_rotation_on_the_bus_drops_the_value_and_calls_back_when_the_new_one_is_cached(bus_daemon):
    seen: list[Secret] = []
    async with AsyncSecretsClient(bus_daemon.settings()) as client:
        await client.on_change("db", seen.append)
        await ready(client)
        await bus_daemon.say("rotated", bus_daemon.put("db", "second"))
        await until(lambda: seen, "the callback was called")
        assert await client.get_secret("db") == "second"
    assert [secret.value for secret in seen] == ["second"]


async def test_while_the_bus_vouches_a_value_is_served_beyond_its_time_to_live_without_asking(bus_daemon):
    async with AsyncSecretsClient(bus_daemon.settings(Times(ttl_silent=0.0))) as client:
        await ready(client)
        fetches = bus_daemon.asked("/secret/db")
        for _ in range(10):
            assert await client.get_secret("db") == "first"
        assert bus_daemon.asked("/secret/db") == fetches


async def test_a_subscription_comes_before_the_question_what_changed(bus_daemon):
    async with AsyncSecretsClient(bus_daemon.settings()) as client:
        assert await client.wait_ready()
        assert client.state.history.applied == bus_daemon.generation
        assert bus_daemon.asked("/changes") == 1


async def test_a_dropped_event_is_healed_by_the_checkpoint(bus_daemon):
    async with AsyncSecretsClient(bus_daemon.settings()) as client:
        await ready(client)
        bus_daemon.put("db", "second")
        assert await client.get_secret("db") == "first"
        await bus_daemon.say_checkpoint()
        await until_async(lambda: _reads(client, "second"), "the new value is read")


async def test_a_rotation_heard_while_the_daemon_does_not_take_the_token_is_told_once_it_does(bus_daemon):
    seen: list[Secret] = []
    async with AsyncSecretsClient(bus_daemon.settings(QUICK)) as client:
        await client.on_change("db", seen.append)
        await ready(client)
        bus_daemon.unknown_client, asked = True, bus_daemon.asked("/secret/db")
        await bus_daemon.say("rotated", bus_daemon.put("db", "second"))
        await until(lambda: bus_daemon.asked("/secret/db") > asked and not client._fetches, "the refetch is refused")
        bus_daemon.unknown_client = False
        await until(lambda: seen, "the callback was called")
    assert [secret.value for secret in seen] == ["second"]


async def test_a_rotation_is_told_although_the_cache_is_cleared_before_the_new_value_has_come(bus_daemon):
    seen: list[Secret] = []
    async with AsyncSecretsClient(bus_daemon.settings()) as client:
        await client.on_change("db", seen.append)
        await ready(client)
        data = bus_daemon.put("db", "second")
        await bus_daemon.stop()
        await bus_daemon.say("rotated", data)
        await until(lambda: not client.state.fresh, "the rotation was heard")
        client.clear_cache()
        with pytest.raises(SecretsUnavailable):
            await client.get("db")
        await bus_daemon.start()
        await until(lambda: seen, "the callback was called")
    assert [secret.value for secret in seen] == ["second"]


async def _reads(client: AsyncSecretsClient, value: str) -> bool:
    return await client.get_secret("db") == value


@pytest.mark.parametrize("forgery", ["other key", "changed", "moved", "not json"])
async def test_a_forged_message_has_no_effect_but_a_counter_and_a_warning(bus_daemon, caplog, forgery):
    async with AsyncSecretsClient(bus_daemon.settings()) as client:
        await ready(client)
        bus_daemon.put("other", "thing")
        await client.get("other")
        genuine = bus_daemon._chain.copy()
        data = bus_daemon.event_data("db", generation=99, urgent=True)
        topic = bus_daemon.topics.secret_event("db", "rotated")
        if forgery == "other key":
            await bus_daemon.say("rotated", data, key=SigningKey.generate())
        elif forgery == "changed":
            raw = genuine.append("secret.rotated", "db", data, "2026-01-01T00:00:00.000Z").raw
            await bus_daemon.publish(topic, raw.replace(b'"generation":99', b'"generation":98'))
        elif forgery == "moved":
            raw = genuine.append("secret.rotated", "other", {**data, "name": "other"}, "2026-01-01T00:00:00Z").raw
            await bus_daemon.publish(topic, raw)
        else:
            await bus_daemon.publish(topic, b"{")
        await until(lambda: client.stats().get("refused"), "the message was refused")
        assert client.state.lookup("db", time.monotonic()) is not None
        assert client.state.order("db").min_generation < 98
    assert "refused" in caplog.text


async def test_a_replayed_event_has_no_effect(bus_daemon):
    async with AsyncSecretsClient(bus_daemon.settings()) as client:
        await ready(client)
        event = await bus_daemon.say("rotated", bus_daemon.put("db", "second"))
        await until_async(lambda: _reads(client, "second"), "the new value is read")
        fetches = client.stats()["fetches"]
        for _ in range(3):
            await bus_daemon.publish(bus_daemon.topics.secret_event("db", "rotated"), event.raw)
        await until(lambda: client.stats().get("repeated", 0) >= 3, "the repeats were seen")
        assert client.stats()["fetches"] == fetches
        assert client.stats().get("refused", 0) == 0


async def test_a_deleted_secret_is_not_served_even_with_the_daemon_dead(bus_daemon):
    async with AsyncSecretsClient(bus_daemon.settings()) as client:
        await ready(client)
        data = bus_daemon.delete("db")
        await bus_daemon.stop()
        await bus_daemon.say("deleted", data)
        await until(lambda: not client.state.fresh, "the value is dropped")
        with pytest.raises(SecretsUnavailable):
            await client.get("db")


async def test_with_the_daemon_dead_a_superseded_value_is_served_stale_within_its_grace(bus_daemon):
    async with AsyncSecretsClient(bus_daemon.settings()) as client:
        await ready(client)
        data = bus_daemon.put("db", "second")
        await bus_daemon.stop()
        await bus_daemon.say("rotated", data)
        await until(lambda: not client.state.fresh, "the value is superseded")
        secret = await client.get("db")
        assert (secret.value, secret.stale) == ("first", True)


async def test_with_the_daemon_dead_an_urgently_superseded_value_is_not_served(bus_daemon):
    async with AsyncSecretsClient(bus_daemon.settings()) as client:
        await ready(client)
        data = {**bus_daemon.put("db", "second"), "urgent": True, "previous": None}
        await bus_daemon.stop()
        await bus_daemon.say("rotated", data)
        await until(lambda: not client.state.fresh, "the value is dropped")
        with pytest.raises(SecretsUnavailable):
            await client.get("db")


async def test_with_the_broker_dead_values_are_confirmed_over_http(bus_daemon, broker):
    async with AsyncSecretsClient(bus_daemon.settings(QUICK)) as client:
        await client.get("db")
        await bus_daemon.say_checkpoint(interval_secs=1)
        assert await client.wait_ready()
        broker.kill()
        bus_daemon.put("db", "second")
        await until_async(lambda: _reads(client, "second"), "the new value is read")


async def test_a_broker_that_comes_back_is_found_and_listened_to(bus_daemon, broker):
    async with AsyncSecretsClient(bus_daemon.settings()) as client:
        await ready(client)
        broker.kill()
        await until(lambda: not client._listener.ready.is_set(), "the loss was noticed")
        broker.start()
        assert await client.wait_ready()
        await bus_daemon.say("rotated", bus_daemon.put("db", "second"))
        await until_async(lambda: _reads(client, "second"), "the new value is read")
        assert client.stats()["bus_connects"] == 2


async def test_without_a_broker_the_first_read_works(bus_daemon, broker):
    broker.kill()
    async with AsyncSecretsClient(bus_daemon.settings()) as client:
        assert await client.get_secret("db") == "first"


async def test_a_name_read_later_is_subscribed_to(bus_daemon):
    seen: list[Secret] = []
    bus_daemon.put("later", "one")
    async with AsyncSecretsClient(bus_daemon.settings()) as client:
        await ready(client)
        await client.on_change("later", seen.append)
        await until(lambda: "later" in client._listener._subscribed, "its topics are subscribed to")
        await bus_daemon.say("rotated", bus_daemon.put("later", "two"))
        await until(lambda: seen, "the callback was called")
    assert seen[0].value == "two"


async def test_a_retained_state_newer_than_the_cache_supersedes(bus_daemon):
    async with AsyncSecretsClient(bus_daemon.settings()) as client:
        await ready(client)
        data = bus_daemon.put("db", "second")
        from secretsd_bus import Unchained

        sealed = Unchained(log_id="log", node=NODE, key=bus_daemon.key, session=1).seal(
            "secret.state", "db", data, "2026-01-01T00:00:00.000Z"
        )
        await bus_daemon.publish(bus_daemon.topics.secret_state("db"), sealed.raw, retain=True)
        await until_async(lambda: _reads(client, "second"), "the new value is read")


# Keys


async def test_a_rotated_key_is_followed_by_a_client_with_a_pinned_key(bus_daemon, tmp_path):
    pem = tmp_path / "pub.pem"
    pem.write_bytes(bus_daemon.key.public.to_pem())
    async with AsyncSecretsClient(bus_daemon.settings(pubkey=pem)) as client:
        await ready(client)
        new = SigningKey.generate()
        await bus_daemon.rotate_key(key_rotated(new), new)
        await bus_daemon.say("rotated", bus_daemon.put("db", "second"))
        await until_async(lambda: _reads(client, "second"), "the new value is read")
        assert client.stats()["keys_followed"] == 1
        assert client.stats().get("refused", 0) == 0


async def test_a_pinned_key_is_believed_over_what_http_says(bus_daemon, tmp_path):
    pem = tmp_path / "pub.pem"
    pem.write_bytes(SigningKey.generate().public.to_pem())
    async with AsyncSecretsClient(bus_daemon.settings(pubkey=pem)) as client:
        assert await client.get_secret("db") == "first"
        await until(lambda: bus_daemon.asked("/keys"), "a key that follows the pinned one is looked for")
        refused = client.stats()["refused_unknown_key"]
        await bus_daemon.say_checkpoint()
        await until(lambda: client.stats()["refused_unknown_key"] > refused, "HTTP's key is still refused")
        assert bus_daemon.asked("/keys") == 1
        assert client.stats().get("verified", 0) == 0


async def test_a_key_rotated_while_nobody_listened_is_learnt_from_http(bus_daemon):
    async with AsyncSecretsClient(bus_daemon.settings()) as client:
        await ready(client)
        new = SigningKey.generate()
        bus_daemon.key = new
        client._listener._keys_asked_at = float("-inf")
        await bus_daemon.say_checkpoint()
        await until(lambda: bus_daemon.asked("/keys") == 2, "the keys were asked for")
        bus_daemon.put("db", "second")
        await bus_daemon.say_checkpoint()
        await until_async(lambda: _reads(client, "second"), "the new value is read")


async def test_unknown_keys_do_not_make_the_client_ask_again_and_again(bus_daemon):
    async with AsyncSecretsClient(bus_daemon.settings()) as client:
        await ready(client)
        for _ in range(20):
            await bus_daemon.say_checkpoint(key=SigningKey.generate())
        await until(lambda: client.stats().get("refused_unknown_key") == 20, "all were refused")
        assert bus_daemon.asked("/keys") <= 2


async def test_no_log_line_holds_a_value(bus_daemon, caplog):
    bus_daemon.put("db", "planted-value")
    with caplog.at_level(logging.DEBUG):
        async with AsyncSecretsClient(bus_daemon.settings(token="planted-token")) as client:
            await ready(client)
            await bus_daemon.say("rotated", bus_daemon.put("db", "planted-too"))
            await until_async(lambda: _reads(client, "planted-too"), "the new value is read")
            await bus_daemon.stop()
            client.clear_cache()
            with pytest.raises(SecretsUnavailable):
                await client.get("db")
    assert "planted" not in caplog.text


async def test_hundreds_of_names_changed_at_once_heal_with_few_questions(bus_daemon):
    names = [f"name-{number}" for number in range(300)]
    for name in names:
        bus_daemon.put(name, "one")
    async with AsyncSecretsClient(bus_daemon.settings()) as client:
        await asyncio.gather(*(client.get(name) for name in names))
        assert await client.wait_ready()
        for name in names:
            bus_daemon.put(name, "two")
        asked = bus_daemon.asked("/changes")
        await bus_daemon.say_checkpoint()
        await until(
            lambda: len([entry for entry in client.state.fresh.values() if entry.value == "two"]) == len(names),
            "all new values are cached",
        )
        assert bus_daemon.asked("/changes") - asked <= 2

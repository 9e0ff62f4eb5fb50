"""The link on a real Mosquitto."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from secretsd_bus import BusDenied, BusLost, BusRejected, BusSettings, BusUnreachable, Link, Message, Will

from tests.support.broker import Broker
from tests.support.waiting import free_port

T = TypeVar("T")
PATIENCE_SECS = 20.0
numbers = itertools.count()


async def soon(awaitable: Awaitable[T]) -> T:
    async with asyncio.timeout(PATIENCE_SECS):
        return await awaitable


@asynccontextmanager
async def linked(
    settings: BusSettings | str, on_message: Callable[[Message], None] | None = None, will: Will | None = None
) -> AsyncIterator[Link]:
    settings = BusSettings(settings) if isinstance(settings, str) else settings
    link = await Link.connect(settings, client_id=f"test-{next(numbers)}", on_message=on_message, will=will)
    try:
        yield link
    finally:
        await link.disconnect()


class Ear:
    """Hears messages, and waits for them."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Message] = asyncio.Queue()
        self.heard = self.queue.put_nowait

    async def next(self) -> Message:
        return await soon(self.queue.get())


async def test_a_published_message_reaches_a_subscriber_once_and_live(broker: Broker) -> None:
    ear = Ear()
    async with linked(broker.url, ear.heard) as subscriber, linked(broker.url) as publisher:
        assert (publisher.protocol, publisher.window) == ("5", 64)
        await soon(subscriber.subscribe(["live/+", "other/#"]))
        await soon(publisher.publish("live/a", b"\x00\xff"))
        assert await ear.next() == Message("live/a", b"\x00\xff", retain=False, duplicate=False)
        assert publisher.in_flight == 0
        assert ear.queue.empty()


async def test_a_retained_message_is_there_for_who_subscribes_later(broker: Broker) -> None:
    ear = Ear()
    async with linked(broker.url, ear.heard) as link:
        await soon(link.publish("kept/a", b"state", retain=True))
        await soon(link.subscribe(["kept/a"]))
        assert await ear.next() == Message("kept/a", b"state", retain=True, duplicate=False)


async def test_nobody_subscribed_is_a_success(broker: Broker) -> None:
    async with linked(broker.url) as link:
        await soon(link.publish("nobody/listens", b"x"))


async def test_five_thousand_messages_arrive_in_order_through_the_window(broker: Broker) -> None:
    ear = Ear()
    async with linked(broker.url, ear.heard) as subscriber, linked(broker.url) as publisher:
        await soon(subscriber.subscribe(["many"]))
        sent = []
        async with asyncio.timeout(90):
            for number in range(5000):
                await publisher.wait_window()
                assert publisher.in_flight < publisher.window
                sent.append(publisher.publish("many", b"%d" % number))
            await asyncio.gather(*sent)
            received = [int((await ear.queue.get()).payload) for _ in range(5000)]
    assert received == list(range(5000))


async def test_what_goes_beyond_the_window_waits_for_its_turn_in_order(broker: Broker) -> None:
    ear = Ear()
    async with linked(broker.url, ear.heard) as link:
        await soon(link.subscribe(["beyond"]))
        sent = [link.publish("beyond", b"%d" % number) for number in range(300)]
        assert link.in_flight == 300
        await soon(asyncio.gather(*sent))
        assert [int((await ear.next()).payload) for _ in range(300)] == list(range(300))


async def test_a_message_of_several_hundred_kilobytes_passes(broker: Broker) -> None:
    ear = Ear()
    payload = bytes(range(256)) * 2000
    async with linked(broker.url, ear.heard) as link:
        await soon(link.subscribe(["big"]))
        await soon(link.publish("big", payload))
        assert (await ear.next()).payload == payload


async def test_a_publish_that_the_acl_forbids_is_denied_and_the_connection_goes_on(strict_broker: Broker) -> None:
    settings = BusSettings(strict_broker.url, username="backend", password_file=strict_broker.password_file("backend"))
    async with linked(settings) as link:
        for _ in range(2):
            with pytest.raises(BusDenied) as denial:
                await soon(link.publish("jarvis/secretsd/secret/postgres_password/rotated", b"forged"))
            assert denial.value.reason_code == 0x87
            assert "Not authorized" in str(denial.value)


async def test_the_user_of_the_acl_may_publish(strict_broker: Broker) -> None:
    settings = BusSettings(
        strict_broker.url, username="secretsd", password_file=strict_broker.password_file("secretsd")
    )
    async with linked(settings) as link:
        await soon(link.publish("jarvis/secretsd/status/n", b"x", retain=True))


async def test_a_wrong_password_is_rejected_without_being_shown(strict_broker: Broker, tmp_path: Path) -> None:
    wrong = tmp_path / "password"
    wrong.write_text("hunter2")
    for settings in (
        BusSettings(strict_broker.url, username="secretsd", password_file=wrong),
        BusSettings(strict_broker.url),
    ):
        with pytest.raises(BusRejected, match="Not authorized") as refusal:
            await soon(Link.connect(settings, client_id="x"))
        assert refusal.value.reason_code == 0x87
        assert "hunter2" not in str(refusal.value)


async def test_a_password_that_cant_be_read_is_named(broker: Broker, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(BusUnreachable, match=f"{missing}: No such file"):
        await soon(Link.connect(BusSettings(broker.url, username="x", password_file=missing), client_id="x"))


async def test_no_listener_is_unreachable() -> None:
    port = free_port()
    with pytest.raises(BusUnreachable, match=f"127.0.0.1:{port}: Connection refused"):
        await soon(Link.connect(BusSettings(f"mqtt://127.0.0.1:{port}"), client_id="x"))


async def test_a_killed_broker_ends_everything_that_waits(mortal_broker: Broker) -> None:
    async with linked(mortal_broker.url) as link:
        sent = [link.publish("a", b"x") for _ in range(100)]
        mortal_broker.kill()
        window = asyncio.create_task(link.wait_window())
        assert await soon(link.closed) == "the connection was lost"
        for future in sent:
            with pytest.raises(BusLost):
                await soon(future)
        with pytest.raises(BusLost):
            await soon(window)
        assert link.in_flight == 0
        with pytest.raises(BusLost):
            await soon(link.publish("a", b"x"))
        with pytest.raises(BusLost):
            await soon(link.subscribe(["a"]))


async def test_a_broker_that_stops_in_order_says_why(mortal_broker: Broker) -> None:
    async with linked(mortal_broker.url) as link:
        await asyncio.to_thread(mortal_broker.stop)
        assert await soon(link.closed) in {
            "the broker closed the connection: Server shutting down (0x8b)",
            "the connection was lost",
        }


async def test_the_will_is_published_when_the_connection_is_dropped(broker: Broker) -> None:
    ear = Ear()
    async with linked(broker.url, ear.heard) as watcher:
        await soon(watcher.subscribe(["will/a"]))
        async with linked(broker.url, will=Will("will/a", b"offline")) as link:
            link.abort("enough")
            assert link.closed.result() == "enough"
        assert (await ear.next()).payload == b"offline"
    async with linked(broker.url, ear.heard) as later:
        await soon(later.subscribe(["will/a"]))
        assert (await ear.next()).retain


async def test_no_will_after_a_goodbye_however_much_is_still_coming_in(broker: Broker) -> None:
    ear = Ear()
    async with linked(broker.url, ear.heard) as watcher:
        await soon(watcher.subscribe(["will/b", "mark"]))
        for _ in range(10):
            async with linked(broker.url, lambda _: None, Will("will/b", b"offline")) as link:
                await soon(link.subscribe(["flood"]))
                for _ in range(60):
                    watcher.publish("flood", b"x" * 20_000)
                await soon(link.publish("flood", b"x"))
            assert link.closed.result() == "closed"
        await soon(watcher.publish("mark", b""))
        assert (await ear.next()).topic == "mark"


async def test_what_is_in_flight_arrives_before_a_goodbye(broker: Broker) -> None:
    ear = Ear()
    async with linked(broker.url, ear.heard) as watcher:
        await soon(watcher.subscribe(["last"]))
        async with linked(broker.url) as link:
            sent = [link.publish("last", b"%d" % number) for number in range(200)]
        assert all(future.done() and future.exception() is None for future in sent)
        assert [int((await ear.next()).payload) for _ in range(200)] == list(range(200))


async def test_a_goodbye_twice_or_after_the_end_is_fine(broker: Broker) -> None:
    async with linked(broker.url) as link:
        await soon(link.disconnect())
        await soon(link.disconnect())
        link.abort()
        assert link.closed.result() == "closed"


async def test_a_listener_that_fails_costs_neither_the_connection_nor_the_next_message(broker: Broker) -> None:
    ear = Ear()
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))

    def hear(message: Message) -> None:
        ear.heard(message)
        raise RuntimeError("mine")

    async with linked(broker.url, hear) as link:
        await soon(link.subscribe(["fails"]))
        for payload in (b"1", b"2"):
            await soon(link.publish("fails", payload))
            assert (await ear.next()).payload == payload
    assert [str(failure["exception"]) for failure in failures] == ["mine", "mine"]


@pytest.mark.parametrize("topic", ["", "a/+", "#", "a" * 65_536])
async def test_a_topic_that_cant_be_one_is_a_value_error(broker: Broker, topic: str) -> None:
    async with linked(broker.url) as link:
        if topic:
            with pytest.raises(ValueError, match="topic"):
                link.publish(topic, b"x")
        with pytest.raises(ValueError, match=r"[Ff]ilter|topic"):
            await soon(link.subscribe([topic] if "+" not in topic and topic != "#" else ["a/#/b"]))
        await soon(link.publish("fine", b"x"))


async def test_tls_is_verified_against_the_authority(tls_broker: Broker, authority: dict[str, Path]) -> None:
    ear = Ear()
    payload = bytes(range(256)) * 800
    async with linked(BusSettings(tls_broker.url, ca_file=authority["cafile"]), ear.heard) as link:
        await soon(link.subscribe(["tls"]))
        sent = [link.publish("tls", payload) for _ in range(20)]
        await soon(asyncio.gather(*sent))
        assert [(await ear.next()).payload == payload for _ in range(20)] == [True] * 20


async def test_tls_with_a_certificate_of_an_unknown_authority_is_refused(tls_broker: Broker) -> None:
    with pytest.raises(BusUnreachable, match=r"TLS with .* failed: .*certificate"):
        await soon(Link.connect(BusSettings(tls_broker.url), client_id="x"))


async def test_tls_for_another_host_is_refused(tls_broker: Broker, authority: dict[str, Path]) -> None:
    settings = BusSettings(f"mqtts://localhost:{tls_broker.port}", ca_file=authority["cafile"])
    with pytest.raises(BusUnreachable, match=r"TLS with .* failed: .*localhost"):
        await soon(Link.connect(settings, client_id="x"))


async def test_plain_mqtt_to_a_tls_listener_says_what_may_be_wrong(tls_broker: Broker) -> None:
    with pytest.raises(BusUnreachable, match="does it want TLS"):
        await soon(Link.connect(BusSettings(f"mqtt://127.0.0.1:{tls_broker.port}"), client_id="x"))


async def test_tls_to_a_plain_listener_is_unreachable(broker: Broker) -> None:
    with pytest.raises(BusUnreachable, match=r"127\.0\.0\.1"):
        await soon(Link.connect(BusSettings(f"mqtts://127.0.0.1:{broker.port}"), client_id="x", timeout_secs=5))


async def test_tls_files_that_cant_be_used_are_named(authority: dict[str, Path], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pem")
    for settings in (
        BusSettings("mqtts://127.0.0.1:1", ca_file=tmp_path / "missing.pem"),
        BusSettings("mqtts://127.0.0.1:1", ca_file=tmp_path / "pipe.pem"),
        BusSettings("mqtts://127.0.0.1:1", cert_file=authority["certfile"], key_file=authority["cafile"]),
    ):
        with pytest.raises(BusUnreachable, match=r"can't use the TLS files .*\.pem"):
            await soon(Link.connect(settings, client_id="x"))


def test_it_works_on_uvloop_with_and_without_tls(
    broker: Broker, tls_broker: Broker, authority: dict[str, Path]
) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def round_trips(settings: BusSettings) -> None:
        ear = Ear()
        async with linked(settings, ear.heard) as link:
            await soon(link.subscribe(["loop"]))
            sent = [link.publish("loop", b"%d" % number) for number in range(200)]
            await soon(asyncio.gather(*sent))
            assert [int((await ear.next()).payload) for _ in range(200)] == list(range(200))

    def run(main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main)

    run(round_trips(BusSettings(broker.url)))
    run(round_trips(BusSettings(tls_broker.url, ca_file=authority["cafile"])))

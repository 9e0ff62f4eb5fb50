"""The link on brokers that are old, slow, silent or hostile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

import pytest
from secretsd_bus import BusDenied, BusLost, BusRejected, BusSettings, BusUnreachable, Link, Message, Will
from secretsd_bus import link as link_module

from tests.unit.bus.fakebroker import (
    CONNECT,
    DISCONNECT,
    PINGREQ,
    PUBLISH,
    SUBSCRIBE,
    Answer,
    connack,
    fake_broker,
    packet_number,
    puback,
    well_behaved,
)

T = TypeVar("T")


async def soon(awaitable: Awaitable[T]) -> T:
    async with asyncio.timeout(20):
        return await awaitable


def connecting(url: str, **options: float) -> Awaitable[Link]:
    return soon(Link.connect(BusSettings(url), client_id="test", **options))  # type: ignore[arg-type]  # keywords


def answering(properties: bytes = b"", **answers: Answer) -> Answer:
    """A well behaved broker, but for these."""

    def answer(kind: int, body: bytes) -> bytes | None:
        if kind == CONNECT:
            return connack(properties=properties)
        special = {PUBLISH: "publish", SUBSCRIBE: "subscribe", PINGREQ: "ping"}.get(kind, "")
        return answers.get(special, well_behaved)(kind, body)

    return answer


def speaking_only_3(refusal: bytes | None) -> Answer:
    def answer(kind: int, body: bytes) -> bytes | None:
        if kind == CONNECT and body[6] != 4:
            return refusal
        return b"\x20\x02\x00\x00" if kind == CONNECT else well_behaved(kind, body)

    return answer


@pytest.mark.parametrize(
    ("refusal", "levels"),
    [(connack(0x84), [5, 4]), (b"\x20\x02\x00\x01", [5, 4]), (None, [5, 4, 5, 4])],
    ids=["0x84", "0x01", "hangs-up"],
)
async def test_a_broker_that_doesnt_speak_5_gets_3_1_1(refusal: bytes | None, levels: list[int]) -> None:
    async with fake_broker(speaking_only_3(refusal)) as broker:
        link = await connecting(broker.url)
        assert link.protocol == "3.1.1"
        assert broker.levels == levels
        await soon(link.publish("a", b"x", retain=True))
        await link.disconnect()


def descriptors() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


async def test_a_cancelled_goodbye_leaves_nothing_open() -> None:
    """A leaked socket is a ResourceWarning, which fails the test."""

    def holds_on(kind: int, body: bytes) -> bytes | None:
        return b"" if kind == DISCONNECT else well_behaved(kind, body)

    async with fake_broker(holds_on) as broker:
        link = await connecting(broker.url)
        before = descriptors()
        parting = asyncio.ensure_future(link.disconnect())
        await asyncio.sleep(0)
        assert descriptors() > before, "the goodbye is under way"
        parting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await parting
        assert descriptors() < before


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer to version 5 is waited for a fraction of a second only."""
    monkeypatch.setattr(link_module, "_VERSION_5_SECS", 0.3)
    monkeypatch.setattr(link_module, "_VERSION_5_AGAIN_SECS", 0.3)


@pytest.mark.usefixtures("impatient")
async def test_a_broker_that_waits_for_ever_on_seeing_5_gets_3_1_1() -> None:
    async with fake_broker(speaking_only_3(b"")) as broker:
        link = await connecting(broker.url)
        assert (link.protocol, broker.levels) == ("3.1.1", [5, 4, 5, 4])
        await link.disconnect()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("first", [None, b""], ids=["hangs-up", "is-silent"])
async def test_a_broker_that_only_wasnt_there_for_the_first_connect_gets_5(first: bytes | None) -> None:
    """As one that starts behind a proxy: in 3.1.1 its denials would look like acknowledgements."""
    firsts = [first]

    def answer(kind: int, body: bytes) -> bytes | None:
        if kind == CONNECT and firsts:
            return firsts.pop()
        if kind == CONNECT and body[6] != 5:
            return b"\x20\x02\x00\x00"
        return well_behaved(kind, body)

    async with fake_broker(answer) as broker:
        link = await connecting(broker.url)
        assert (link.protocol, broker.levels) == ("5", [5, 4, 5])
        assert broker.count(DISCONNECT) == 1, "the one in between ends without a will"
        await link.disconnect()


async def test_a_broker_that_speaks_neither_rejects_us() -> None:
    async with fake_broker(lambda kind, body: connack(0x84) if body[6] == 5 else b"\x20\x02\x00\x01") as broker:
        with pytest.raises(BusUnreachable, match="without an answer"):
            await connecting(broker.url)


async def test_an_old_brokers_refusal_of_the_password_is_a_rejection() -> None:
    async with fake_broker(lambda kind, body: b"\x20\x02\x00\x04") as broker:
        with pytest.raises(BusRejected, match="user name or password"):
            await connecting(broker.url)


async def test_a_refusal_for_another_reason_is_no_reason_to_speak_3_1_1() -> None:
    async with fake_broker(lambda kind, body: connack(0x97)) as broker:
        with pytest.raises(BusRejected, match="Quota exceeded") as refusal:
            await connecting(broker.url)
        assert refusal.value.reason_code == 0x97
        assert broker.levels == [5]


async def test_a_broker_that_never_answers_is_unreachable_in_time() -> None:
    async with fake_broker(lambda kind, body: b"") as broker:
        with pytest.raises(BusUnreachable, match=r"within 0\.3 s"):
            await connecting(broker.url, timeout_secs=0.3)


async def test_a_cancelled_connect_leaves_nothing_open() -> None:
    async with fake_broker(lambda kind, body: b"") as broker:
        task = asyncio.ensure_future(connecting(broker.url))
        await soon(broker.until(CONNECT, 1))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await soon(asyncio.gather(*(writer.wait_closed() for writer in broker.writers), return_exceptions=True))


async def test_publishes_name_their_content_type_and_the_will_too() -> None:
    async with fake_broker(well_behaved) as broker:
        link = await soon(
            Link.connect(BusSettings(broker.url), client_id="test", will=Will("w", b"gone"), keepalive_secs=20)
        )
        await soon(link.publish("a", b"x"))
        await soon(link.publish("a", b"x", content_type="application/json"))
        bodies = [body for kind, body in broker.seen if kind in {CONNECT, PUBLISH}]
        for body, expected in zip(bodies, (b"cloudevents+json", b"cloudevents+json", b"application/json"), strict=True):
            assert expected in body
        await link.disconnect()
        await soon(broker.until(DISCONNECT, 1))


async def test_the_brokers_receive_maximum_is_kept() -> None:
    held: list[bytes] = []

    def hold(kind: int, body: bytes) -> bytes:
        held.append(puback(body))
        return b""

    async with fake_broker(answering(b"\x21\x00\x02", publish=hold)) as broker:
        link = await connecting(broker.url)
        assert link.window == 2
        sent = [link.publish("a", b"%d" % number) for number in range(5)]
        window = asyncio.create_task(link.wait_window())
        for sent_so_far, on_their_way in ((2, 2), (4, 2), (5, 1)):
            await soon(broker.until(PUBLISH, sent_so_far))
            assert (broker.count(PUBLISH), len(held)) == (sent_so_far, on_their_way)
            assert window.done() == (link.in_flight < 2)
            for writer in broker.writers:
                writer.write(b"".join(held))
            held.clear()
        await soon(asyncio.gather(*sent))
        await soon(window)
        await link.disconnect()


async def test_a_message_that_the_broker_cant_take_is_denied_and_not_sent() -> None:
    async with fake_broker(answering(b"\x27\x00\x00\x04\x00\x25\x00")) as broker:
        link = await connecting(broker.url)
        with pytest.raises(BusDenied, match="larger") as large:
            await soon(link.publish("a", b"x" * 1024))
        with pytest.raises(BusDenied, match="retains") as retained:
            await soon(link.publish("a", b"x", retain=True))
        await soon(link.publish("a", b"x" * 500))
        assert (large.value.reason_code, retained.value.reason_code, broker.count(PUBLISH)) == (0x95, 0x9A, 1)
        await link.disconnect()


async def test_a_broker_without_acknowledgements_is_no_broker_for_us() -> None:
    async with fake_broker(answering(b"\x24\x00")) as broker:
        with pytest.raises(BusRejected, match="acknowledges nothing"):
            await connecting(broker.url)


@pytest.mark.parametrize(("code", "words"), [(0x80, "Unspecified error"), (0x87, "Not authorized")])
async def test_a_refused_subscription_is_denied(code: int, words: str) -> None:
    refusal = b"\x00\x01" + bytes([code])
    async with fake_broker(answering(subscribe=lambda kind, body: b"\x90\x05" + body[:2] + refusal)) as broker:
        link = await connecting(broker.url)
        with pytest.raises(BusDenied, match=words) as denial:
            await soon(link.subscribe(["a", "b"]))
        assert denial.value.reason_code == code
        await link.disconnect()


async def test_a_broker_that_stops_answering_is_noticed_and_a_subscription_that_waits_ends() -> None:
    silent: Answer = lambda kind, body: b""  # noqa: E731
    async with fake_broker(answering(ping=silent, subscribe=silent)) as broker:
        link = await connecting(broker.url, keepalive_secs=1)
        with pytest.raises(BusLost, match="stopped answering"):
            await soon(link.subscribe(["a"]))
        assert await soon(link.closed) == "the broker stopped answering"


async def test_a_broker_that_answers_pings_and_acknowledges_nothing_can_be_given_up() -> None:
    async with fake_broker(answering(publish=lambda kind, body: b"")) as broker:
        link = await connecting(broker.url, keepalive_secs=1)
        assert link.oldest_secs == 0
        sent = link.publish("a", b"x")
        await soon(broker.until(PINGREQ, 1))
        assert link.oldest_secs > 0.2
        assert not sent.done()
        link.abort("no acknowledgement")
        with pytest.raises(BusLost, match="no acknowledgement"):
            await sent
        assert link.oldest_secs == 0


async def test_a_publish_whose_caller_gave_up_stays_in_flight_until_acknowledged() -> None:
    held: list[bytes] = []

    def hold(kind: int, body: bytes) -> bytes:
        held.append(puback(body))
        return b""

    async with fake_broker(answering(b"\x21\x00\x01", publish=hold)) as broker:
        link = await connecting(broker.url)
        first, second, third = (link.publish("a", b"%d" % number) for number in range(3))
        first.cancel()
        second.cancel()
        await soon(broker.until(PUBLISH, 1))
        assert link.in_flight == 3
        for writer in broker.writers:
            writer.write(held.pop())
        await soon(broker.until(PUBLISH, 2))
        assert [body[-1:] for kind, body in broker.seen if kind == PUBLISH] == [b"0", b"2"]
        for writer in broker.writers:
            writer.write(held.pop())
        await soon(third)
        assert link.in_flight == 0
        await link.disconnect()


async def test_an_acknowledgement_for_nothing_is_ignored() -> None:
    def twice(kind: int, body: bytes) -> bytes:
        return puback(body) * 2 + b"\x40\x02\x7f\x7f"

    async with fake_broker(answering(publish=twice)) as broker:
        link = await connecting(broker.url)
        for _ in range(3):
            await soon(link.publish("a", b"x"))
        assert not link.closed.done()
        await link.disconnect()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff" * 64,
        b"\x00" * 64,
        b"\x40\x00",
        b"\x40\x03\x00\x01\x77",
        b"\x90\x01\x00",
        b"\x30\x01\x00",
        b"\x30\xff\xff\xff\xff\xff",
        b"\x32\x05\x00\x01a\x00\x01",
        b"\x36\x05\x00\x01a\x00\x01",
        b"\x20\x02\x00\x00",
        b"\xf0\x00",
        b"\x62\x02\x00\x01",
        b"\x30\x0a\x00\x01a\x05\x26\x00\x01\xff\x00\x00",
    ],
    ids=bytes.hex,
)
async def test_garbage_from_a_broker_breaks_nothing_but_the_connection(garbage: bytes) -> None:
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))

    def answer(kind: int, body: bytes) -> bytes | None:
        if kind == PUBLISH:
            return garbage
        return None if kind == PINGREQ else well_behaved(kind, body)

    async with fake_broker(answer) as broker:
        link = await connecting(broker.url, keepalive_secs=1)
        sent = link.publish("a", b"x")
        assert await soon(link.closed)
        with pytest.raises(BusLost):
            await soon(sent)
    assert failures == []


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (b"\x30\x80\x80\x80\x01" + b"\x00\x01a\x00" + b"x" * 1000, "larger than we take"),
        (b"\x30\xff\xff\xff\x7f" + b"\x00\x01a\x00" + b"x" * 1000, "larger than we take"),
        (b"\x34\x07\x00\x01a\x00\x01\x00x", "QoS 2"),
    ],
    ids=["2-MB", "256-MB", "QoS-2"],
)
async def test_a_broker_that_sends_more_than_is_taken_is_left_before_it_fills_memory(sent: bytes, says: str) -> None:
    heard: list[Message] = []
    async with fake_broker(answering(publish=lambda kind, body: sent)) as broker:
        link = await soon(Link.connect(BusSettings(broker.url), client_id="test", on_message=heard.append))
        published = link.publish("a", b"x")
        assert says in await soon(link.closed)
        with pytest.raises(BusLost, match=says):
            await published
    assert heard == []


async def test_a_broker_is_told_how_large_a_packet_may_be_and_what_just_fits_is_taken() -> None:
    heard: list[Message] = []
    payload = b"x" * (1024 * 1024 - 4)
    fits = b"\x30\x80\x80\x40" + b"\x00\x01a\x00" + payload
    async with fake_broker(answering(publish=lambda kind, body: puback(body) + fits)) as broker:
        link = await soon(Link.connect(BusSettings(broker.url), client_id="test", on_message=heard.append))
        [connect] = [body for kind, body in broker.seen if kind == CONNECT]
        assert b"\x27\x00\x10\x00\x00" in connect  # Maximum Packet Size
        await soon(link.publish("a", b"x"))
        while not heard:  # noqa: ASYNC110 — the message has a megabyte to come
            await asyncio.sleep(0.01)
        assert heard[0].payload == payload
        await link.disconnect()


def test_the_fake_broker_finds_the_number_of_a_publish() -> None:
    assert packet_number(b"\x00\x01a\x12\x34\x00x") == b"\x12\x34"

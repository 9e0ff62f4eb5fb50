"""Mosquitto's own dynamic security plugin: passwords change, refusals are told apart, no value is in an error."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from secretsd_bus import BusCommandFailed, BusDenied, BusRejected, BusSettings, BusUnreachable, Link, Message
from secretsd_bus.dynsec import ANSWER_TOPIC, KNOWN, NOT_AN_ANSWER, find_answer, set_password, try_login

from tests.support.broker import Broker
from tests.support.dynsec import ADMIN, ADMIN_PASSWORD, DynsecBroker
from tests.support.waiting import free_port

NEW = 'a new password, with "quotes" and ünïcode'


@pytest.fixture(scope="module")
def dynsec() -> Iterator[DynsecBroker]:
    """A broker with some accounts; each test changes another one."""
    running = DynsecBroker({name: f"{name}'s first" for name in ("alice", "bob", "carol")})
    running.start()
    yield running
    running.close()


async def test_a_password_is_changed_and_the_old_one_is_dead_at_once(dynsec: DynsecBroker) -> None:
    """And a live session of that client ends, which the daemon's own connection has to know."""
    alice = BusSettings(dynsec.url, username="alice")
    live = await Link.connect(alice, client_id="alice-1", password="alice's first")
    await set_password(BusSettings(dynsec.url, username=ADMIN), ADMIN_PASSWORD, "alice", NEW)
    await live.closed
    await live.disconnect()
    await try_login(alice, NEW)
    with pytest.raises(BusRejected):
        await try_login(alice, "alice's first")


async def test_each_refusal_is_an_error_of_its_own_without_the_value(dynsec: DynsecBroker) -> None:
    """A wrong administrator, one without the right, and a client that isn't there."""
    admin = BusSettings(dynsec.url, username=ADMIN)
    with pytest.raises(BusRejected) as rejected:
        await set_password(admin, "not the administrator's", "bob", NEW)
    with pytest.raises(BusDenied) as denied:
        await set_password(BusSettings(dynsec.url, username="carol"), "carol's first", "bob", NEW)
    with pytest.raises(BusCommandFailed, match="knows no such client") as failed:
        await set_password(admin, ADMIN_PASSWORD, "nobody", NEW)
    for error in (rejected, denied, failed):
        assert NEW not in str(error.value)
    await try_login(BusSettings(dynsec.url, username="bob"), "bob's first")


async def test_a_broker_without_the_plugin_or_none_at_all_is_told(broker: Broker) -> None:
    """The open broker has no such topic."""
    with pytest.raises((BusDenied, BusUnreachable)):
        await set_password(BusSettings(broker.url, username="x"), "y", "bob", NEW, timeout_secs=1)
    nobody = BusSettings(f"mqtt://127.0.0.1:{free_port()}", username="x")
    with pytest.raises(BusUnreachable):
        await set_password(nobody, "y", "bob", NEW, timeout_secs=2)


def test_an_answer_counts_only_with_our_mark_and_its_words_are_never_repeated() -> None:
    """A broker may say anything, also what we sent it."""

    def heard(payload: object, topic: str = ANSWER_TOPIC) -> object:
        data = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
        return find_answer(Message(topic, data, retain=False, duplicate=False), "mark")

    assert heard({"responses": [{"correlationData": "mark"}]}) == {"correlationData": "mark"}
    assert heard({"responses": [{"correlationData": "another's"}]}) is None
    assert heard({"responses": [{"correlationData": "mark"}]}, topic="elsewhere") is None
    for junk in (b"", b"[]", b'{"responses": 1}', b"[" * 100_000, b'{"responses": ["mark"]}'):
        assert heard(junk) is None
    assert heard({"responses": [{"correlationData": "mark", "error": {"x": 1}}]}) == {"error": NOT_AN_ANSWER}
    assert NEW not in KNOWN

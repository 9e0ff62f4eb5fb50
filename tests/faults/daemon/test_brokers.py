"""Brokers that deny, stay silent, speak only the old protocol or forget: what shows, what is owed, what comes after."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest

from tests.support.broker import CONFIGURATION, Broker
from tests.support.daemon import NODE, Daemon
from tests.support.tap import Tap
from tests.support.waiting import PATIENCE_SECS, eventually, free_port
from tests.unit.bus.fakebroker import CONNECT, PUBLISH, SUBSCRIBE, Answer, FakeBroker, fake_broker, well_behaved

pytestmark = pytest.mark.slow

New = Callable[..., Daemon]
T = TypeVar("T")
ACK_SECS = 15
"""How long the daemon waits for an acknowledgement."""
USERS = {user: secrets.token_urlsafe(12) for user in ("secretsd", "admin")}
ACL = (CONFIGURATION / "acl").read_text()
OURS = "topic readwrite jarvis/secretsd/#"


# A broker that denies by its ACL


@pytest.fixture
def guarded() -> Iterator[Broker]:
    broker = Broker(access="acl", users=USERS).start()
    yield broker
    broker.close()


@pytest.fixture
def guest(guarded: Broker, new_daemon: New) -> Daemon:
    """A daemon with its password at the guarded broker, connected, with a secret."""
    credentials = {"username": "secretsd", "password_file": str(guarded.password_file("secretsd"))}
    daemon = new_daemon(bus=guarded.url, config={"bus": credentials}).start().wait_bus()
    daemon.api.create("x", type="generic")
    return daemon


def listen(daemon: Daemon, broker: Broker) -> Tap:
    return daemon.tap(username="admin", password_file=broker.password_file("admin"))


def test_denied_states_show_and_stand_there_once_they_are_allowed(guest: Daemon, guarded: Broker) -> None:
    guarded.write_acl(ACL.replace(OURS, "topic readwrite jarvis/secretsd/audit/#\ntopic read jarvis/secretsd/#"))
    guest.wait_bus("denied")
    guest.api.rotate("x")
    assert guest.api.get("/healthz").status == 200
    assert "denies" in guest.output()
    guarded.write_acl(ACL)
    guest.wait_bus()
    with listen(guest, guarded) as tap:
        state = tap.wait_topic(tap.topics.secret_state("x"))
        assert state.event is not None
        assert state.event.data["version"] == 2


def versions_on(tap: Tap, topic: str) -> list[int]:
    """The versions announced on a topic, each at its first arrival."""
    arrived = [heard.event.data["version"] for heard in tap.on(topic) if heard.event is not None]
    return list(dict.fromkeys(arrived))


def test_denied_events_stay_owed_and_all_come_in_order_once_they_are_allowed(guest: Daemon, guarded: Broker) -> None:
    guarded.write_acl(
        ACL.replace(OURS, "topic readwrite jarvis/secretsd/+/+\ntopic write jarvis/secretsd/secret/+/state\n"
                          "topic read jarvis/secretsd/#")
    )  # fmt: skip

    def denied() -> bool:
        guest.api.rotate("x")
        return bool(guest.api.health()["bus"] == "denied")

    eventually(denied, "the broker has read its ACL and denies")
    first = guest.api.secret("x")["version"]
    for _ in range(20):
        guest.api.rotate("x")
    with listen(guest, guarded) as tap:
        guarded.write_acl(ACL)
        topic = tap.topics.secret_event("x", "rotated")
        wanted = set(range(first + 1, first + 21))
        guest.api.rotate("x")
        eventually(lambda: wanted <= set(versions_on(tap, topic)), "all that was denied arrives", within=90)
        assert versions_on(tap, topic) == sorted(versions_on(tap, topic))
    guest.wait_bus()


# A broker that doesn't answer


class Pretender:
    """A broker that does only what it is told, on a thread of its own. A context manager."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="pretender", daemon=True)
        self._open = contextlib.AsyncExitStack()

    def __enter__(self) -> FakeBroker:
        self._thread.start()
        broker: FakeBroker = self._do(self._open.enter_async_context(fake_broker(self._answer)))
        return broker

    def __exit__(self, *_: object) -> None:
        self._do(self._open.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_SECS)
        self._loop.close()

    def _do(self, what: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(PATIENCE_SECS)


def silent_to(*kinds: int) -> Answer:
    return lambda kind, body: b"" if kind in kinds else well_behaved(kind, body)


@pytest.mark.parametrize(
    "kinds",
    [
        pytest.param((PUBLISH,), id="publish", marks=pytest.mark.slow),
        pytest.param((SUBSCRIBE,), id="subscribe", marks=pytest.mark.slow),
        pytest.param((PUBLISH, SUBSCRIBE), id="both", marks=pytest.mark.slow),
    ],
)
def test_a_broker_that_never_acknowledges_is_left_and_asked_again(
    prefix: str, new_daemon: New, kinds: tuple[int, ...]
) -> None:
    with Pretender(silent_to(*kinds)) as broker:
        daemon = new_daemon(bus=broker.url, prefix=prefix).start()
        for number in range(100):
            daemon.api.create(f"x{number}", "v")
        eventually(lambda: "acknowledge" in daemon.output(), "the silence is named", within=3 * ACK_SECS)
        eventually(lambda: broker.count(CONNECT) >= 2, "it is tried again", within=3 * ACK_SECS)
        assert daemon.api.value("x99") == "v"
        assert daemon.api.get("/healthz").status == 200


@pytest.mark.slow
def test_a_broker_that_falls_silent_with_a_full_window_is_left_and_told_all_again(prefix: str, new_daemon: New) -> None:
    silent = threading.Event()

    def answer(kind: int, body: bytes) -> bytes | None:
        return b"" if silent.is_set() and kind == PUBLISH else well_behaved(kind, body)

    with Pretender(answer) as broker:
        daemon = new_daemon(bus=broker.url, prefix=prefix).start().wait_bus()
        silent.set()
        names = [f"x{number}" for number in range(200)]
        for name in names:
            daemon.api.create(name, "v")  # far more than may be in flight
        connections = broker.count(CONNECT)
        eventually(lambda: broker.count(CONNECT) > connections, "it is left", within=3 * ACK_SECS)
        mark = len(broker.seen)
        silent.clear()

        def published(name: str) -> bool:
            topic = f"{prefix}/secret/{name}/created".encode()
            return any(kind == PUBLISH and topic in body for kind, body in broker.seen[mark:])

        eventually(lambda: all(map(published, names)), "what was not acknowledged is published again", within=60)
        daemon.wait_bus()


# A broker that speaks only MQTT 3.1.1

AMQTT = """
import asyncio, sys
from amqtt.broker import Broker
async def main():
    broker = Broker({"listeners": {"default": {"type": "tcp", "bind": "127.0.0.1:" + sys.argv[1]}},
                     "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}})
    await broker.start()
    await asyncio.Event().wait()
asyncio.run(main())
"""


def accepts(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=1):
        return True


@pytest.fixture
def old_broker() -> Iterator[str]:
    pytest.importorskip("amqtt", reason="amqtt, a broker that speaks only 3.1.1, is not installed")
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", AMQTT, str(port)], stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: accepts(port), "amqtt accepts")
        yield f"mqtt://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def test_with_a_broker_of_the_old_protocol_everything_is_told_too(
    old_broker: str, prefix: str, new_daemon: New
) -> None:
    daemon = new_daemon(bus=old_broker, prefix=prefix).start().wait_bus()
    assert "MQTT 3.1.1" in daemon.output()
    with daemon.tap() as tap:
        daemon.api.create("x", type="generic")
        for _ in range(20):
            daemon.api.rotate("x")
        topics = tap.topics
        for topic in (
            topics.secret_event("x", "created"), topics.secret_state("x"), topics.checkpoint(NODE),
            topics.audit("secret", "created"),
        ):  # fmt: skip
            tap.wait_topic(topic)
        tap.wait(lambda heard: heard.event is not None and heard.event.data.get("version") == 21, "the last version")
        assert versions_on(tap, topics.secret_event("x", "rotated")) == list(range(2, 22))
        assert tap.refusals == []


# A broker that forgets, and one that is killed


@pytest.fixture
def forgetful() -> Iterator[Broker]:
    """A Mosquitto without persistence: after a kill it has no retained message left."""
    broker = Broker()
    configuration = broker.directory / "mosquitto.conf"
    text, count = re.subn(r"(?m)^persistence true$", "persistence false", configuration.read_text())
    assert count == 1
    configuration.write_text(text)
    yield broker.start()
    broker.close()


@pytest.mark.parametrize("times", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_a_broker_that_comes_back_empty_is_told_everything_that_stands(
    forgetful: Broker, prefix: str, new_daemon: New, times: int
) -> None:
    daemon = new_daemon(bus=forgetful.url, prefix=prefix).start().wait_bus()
    names = [f"x{number}" for number in range(30)]
    for name in names:
        daemon.api.create(name, "v")
    daemon.api.delete("/secret/x0").ok(204)
    for _ in range(times):
        session = daemon.api.changes()["session"]
        forgetful.kill()
        forgetful.start()
        eventually(lambda session=session: daemon.api.changes()["session"] > session, "another connection")
        daemon.wait_bus()
        with daemon.tap() as tap:
            topics = tap.topics
            for topic in (topics.status(NODE), topics.keys(NODE), topics.checkpoint(NODE)):
                tap.wait_topic(topic)
            for name in names:
                state = tap.wait_topic(topics.secret_state(name))
                assert state.event is not None
                assert state.event.data["status"] == ("deleted" if name == "x0" else "active")

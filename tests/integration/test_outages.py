"""The broker goes away, comes back, forgets; the daemon dies meanwhile: what is owed is told, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.broker import Broker
from tests.support.daemon import NODE, Daemon
from tests.support.gate import Gate
from tests.support.tap import Tap
from tests.support.waiting import eventually


@pytest.fixture
def gate(own: Broker) -> Iterator[Gate]:
    """What stands between the daemon and the broker, so that a listener can be there before the daemon is."""
    with Gate(own.port) as standing:
        yield standing


@pytest.fixture
def daemon(gate: Gate, prefix: str, new_daemon: Callable[..., Daemon]) -> Daemon:
    """A daemon that has reached the broker through the gate."""
    return connected(new_daemon, gate, prefix)


def connected(new_daemon: Callable[..., Daemon], gate: Gate, prefix: str, **bus: Any) -> Daemon:
    daemon = new_daemon(bus=gate.url, prefix=prefix, config={"bus": bus}).start().wait_bus()
    daemon.api.create("x", type="generic")
    with daemon.tap() as tap:
        tap.wait_topic(tap.topics.secret_state("x"))
    return daemon


def rotations_of_x(daemon: Daemon, tap: Tap) -> list[int]:
    """Wait for the newest version of x on the bus; return the versions announced, each at its first arrival."""
    version = daemon.api.secret("x")["version"]
    tap.wait_event(
        lambda event: event.subject == "x" and event.type == "secret.rotated" and event.data["version"] == version,
        f"version {version} of x",
    )
    topic = tap.topics.secret_event("x", "rotated")
    return list(dict.fromkeys(heard.event.data["version"] for heard in tap.on(topic) if heard.event is not None))


def test_what_changed_during_an_outage_is_told_in_order_after_it(own: Broker, gate: Gate, daemon: Daemon) -> None:
    gate.shut()
    daemon.wait_bus("disconnected")
    assert daemon.api.get("/healthz").status == 200
    for _ in range(5):
        daemon.api.rotate("x")
    with daemon.tap(own.url) as tap:
        gate.open()
        assert rotations_of_x(daemon, tap) == [2, 3, 4, 5, 6]


def test_what_changed_while_the_broker_was_dead_is_told_when_it_lives(own: Broker, gate: Gate, daemon: Daemon) -> None:
    own.kill()
    daemon.wait_bus("disconnected")
    for _ in range(3):
        daemon.api.rotate("x")
    gate.shut()
    own.start()
    with daemon.tap(own.url) as tap:
        gate.open()
        assert rotations_of_x(daemon, tap) == [2, 3, 4]


def test_what_is_owed_survives_a_kill_of_the_daemon(own: Broker, gate: Gate, daemon: Daemon) -> None:
    gate.shut()
    daemon.wait_bus("disconnected")
    daemon.api.rotate("x")
    read = daemon.api.get("/secret/x").headers["X-Request-Id"]
    daemon.api.rotate("x")
    daemon.sigkill()
    with daemon.tap(own.url) as tap:
        gate.open()
        daemon.start()
        assert rotations_of_x(daemon, tap) == [2, 3]
        tap.wait_request(read)


def test_a_change_is_told_before_the_audit_backlog(own: Broker, gate: Gate, daemon: Daemon) -> None:
    gate.shut()
    daemon.wait_bus("disconnected")
    reads = [daemon.api.get("/secrets").headers["X-Request-Id"] for _ in range(300)]
    daemon.api.rotate("x")
    with daemon.tap(own.url) as tap:
        gate.open()
        tap.wait_request(reads[-1])
        order = [heard.event.data.get("request_id") or heard.topic for heard in tap.heard if heard.event is not None]
    assert [identifier for identifier in order if identifier in reads] == reads
    backlog_ends = order.index(reads[-1])
    for topic in (tap.topics.secret_event("x", "rotated"), tap.topics.checkpoint(NODE)):
        assert topic in order[:backlog_ends]


def test_what_is_owed_too_long_is_named_in_a_gap_instead(
    own: Broker, gate: Gate, prefix: str, new_daemon: Callable[..., Daemon]
) -> None:
    daemon = connected(new_daemon, gate, prefix, replay_max="1s")
    gate.shut()
    daemon.wait_bus("disconnected")
    daemon.api.rotate("x")
    old = daemon.events("secret.rotated")[0]
    over = datetime.fromisoformat(old["time"]) + timedelta(seconds=2)
    eventually(lambda: datetime.now(UTC) > over, "the event is too old")
    with daemon.tap(own.url) as tap:
        gate.open()
        gap = tap.wait_event(lambda event: event.type == "audit.gap", "the gap")
        assert int(gap.data["first"]) <= int(old["sequence"]) <= int(gap.data["last"])
        tap.wait_event(
            lambda event: event.type == "secret.state" and event.data["version"] == 2, "the state as it is now"
        )
        assert tap.on(tap.topics.secret_event("x", "rotated")) == []


def test_a_daemon_starts_and_serves_without_a_broker(
    gate: Gate, prefix: str, new_daemon: Callable[..., Daemon]
) -> None:
    gate.shut()
    daemon = new_daemon(bus=gate.url, prefix=prefix).start()
    daemon.api.create("x", "v")
    assert daemon.api.health()["bus"] == "disconnected"
    gate.open()
    daemon.wait_bus()
    with daemon.tap() as tap:
        tap.wait_topic(tap.topics.secret_state("x"))


def test_a_broker_that_forgot_its_retained_messages_is_told_again(own: Broker, daemon: Daemon) -> None:
    own.kill()
    (own.directory / "mosquitto.db").unlink(missing_ok=True)
    own.start()
    with daemon.tap() as tap:
        topics = tap.topics
        for topic in (topics.secret_state("x"), topics.status(NODE), topics.keys(NODE), topics.checkpoint(NODE)):
            tap.wait_topic(topic)


def test_the_brokers_retained_states_survive_its_kill(own: Broker, daemon: Daemon) -> None:
    eventually(lambda: b"/secret/x/state" in (own.directory / "mosquitto.db").read_bytes(), "the broker saves")
    daemon.sigkill()
    own.kill()
    own.start()
    with daemon.tap(own.url) as tap:
        assert tap.wait_topic(tap.topics.secret_state("x")).retain


def test_the_very_first_connection_owes_nothing_older(
    own: Broker, gate: Gate, prefix: str, new_daemon: Callable[..., Daemon]
) -> None:
    gate.shut()
    daemon = new_daemon(bus=gate.url, prefix=prefix).start()
    daemon.api.create("x", type="generic")
    daemon.api.rotate("x")
    with daemon.tap(own.url) as tap:
        gate.open()
        state = tap.wait_topic(tap.topics.secret_state("x"))
        assert state.event is not None
        assert state.event.data["version"] == 2
        daemon.api.rotate("x")
        assert rotations_of_x(daemon, tap) == [3]

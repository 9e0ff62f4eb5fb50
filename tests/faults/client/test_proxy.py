"""The man in the middle itself: what it isn't told to do, it doesn't."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.support.broker import Broker
from tests.support.mqtt_proxy import MqttProxy, Publish, on
from tests.support.waiting import PATIENCE_SECS


def subscriber(proxy: MqttProxy, version: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            "mosquitto_sub",
            "-p",
            str(proxy.port),
            "-V",
            version,
            "-q",
            "1",
            "-t",
            "t/#",
            "-C",
            str(count),
            "-F",
            "%t %p",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )


def publish(broker: Broker, topic: str, payload: str) -> None:
    subprocess.run(
        ["mosquitto_pub", "-p", str(broker.port), "-q", "1", "-t", topic, "-m", payload, "-r"],
        check=True,
        timeout=PATIENCE_SECS,
    )


@pytest.fixture
def retained(broker: Broker) -> Iterator[None]:
    yield
    for topic in ("t/a", "t/b"):
        publish(broker, topic, "")


@pytest.mark.usefixtures("retained")
@pytest.mark.parametrize("version", ["mqttv311", "mqttv5"])
def test_messages_pass_as_they_are_and_injected_ones_join_them(broker: Broker, proxy: MqttProxy, version: str) -> None:
    large = "x" * 20_000  # its length takes three bytes
    publish(broker, "t/a", large)
    listening = subscriber(proxy, version, 3)
    proxy.wait_heard("t/a")
    publish(broker, "t/b", "ü")
    proxy.wait_heard("t/b")
    proxy.inject(Publish("t/c", b"made up"))
    assert listening.communicate(timeout=PATIENCE_SECS)[0].splitlines() == [f"t/a {large}", "t/b ü", "t/c made up"]


@pytest.mark.usefixtures("retained")
def test_dropped_messages_are_acknowledged_so_that_the_broker_goes_on(broker: Broker, proxy: MqttProxy) -> None:
    dropped = proxy.drop(on("t/a"))
    listening = subscriber(proxy, "mqttv5", 1)
    publish(broker, "t/b", "first")
    proxy.wait_heard("t/b")
    assert listening.communicate(timeout=PATIENCE_SECS)[0] == "t/b first\n"
    assert dropped.met == []
    listening = subscriber(proxy, "mqttv5", 2)
    proxy.wait_heard("t/b", count=2)  # what is retained comes to it too: it has subscribed
    for number in range(100):  # more than may be on their way at once
        publish(broker, "t/a", str(number))
    dropped.wait(100)
    dropped.stop()
    publish(broker, "t/a", "last")
    assert listening.communicate(timeout=PATIENCE_SECS)[0] == "t/b first\nt/a last\n"

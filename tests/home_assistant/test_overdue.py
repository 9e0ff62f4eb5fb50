"""A daemon that is connected and whose checkpoint doesn't come is told of, once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.home_assistant.home import PATIENCE_SECS, Home
from tests.home_assistant.runs import LONGER_SECS, OFFLINE_SECS, Runs, automation
from tests.support.broker import Broker
from tests.support.daemon import Daemon
from tests.support.mqtt_packets import PUBLISH, Publish, acknowledgement, read_packet
from tests.support.relay import Peer, Relay
from tests.support.waiting import always, eventually

NODE = "hushed"
CONNECTION, CHECKPOINT = (f"binary_sensor.secretsd_{NODE}_{what}" for what in ("connection", "checkpoint"))
MQTT_5 = 5


class Hushing(Relay):
    """Between the daemon and its broker: while told so it acknowledges checkpoints and passes none on."""

    hushes = False
    kept = 0

    async def up(self, near: Peer, far: Peer) -> None:
        """Pass on what the daemon says, packet by packet."""
        while True:
            packet = await read_packet(near.reader)
            if self.hushes and packet.kind == PUBLISH:
                message, number = Publish.parse(packet, MQTT_5)
                if "/checkpoint/" in message.topic:
                    self.kept += 1
                    near.send_now(acknowledgement(number))
                    continue
            await far.send(packet.encode())


@pytest.fixture
def hushing(broker: Broker) -> Iterator[Hushing]:
    with Hushing(broker.port) as relay:
        yield relay


@pytest.fixture
def hushed(hushing: Hushing, home: Home) -> Iterator[Daemon]:
    """A daemon behind the relay; Home Assistant forgets it afterwards."""
    bus = f"mqtt://127.0.0.1:{hushing.port}"
    with Daemon(bus=bus, prefix="hushed/secretsd", config={"bus": {"node": NODE}}) as daemon:
        yield daemon.wait_bus()
        hushing.hushes = False
        daemon.terminate()
        daemon.configure({"homeassistant": {"discovery": False}})
        daemon.start().wait_bus()
        eventually(lambda: home.state(CONNECTION) is None, "its device is gone", within=PATIENCE_SECS)


def test_a_checkpoint_that_is_suppressed_is_told_once(
    home: Home, hushing: Hushing, hushed: Daemon, broker: Broker, daemon: Daemon
) -> None:
    home.automations(
        [
            automation(
                "daemon_offline",
                "kind",
                connection=CONNECTION,
                checkpoint=CHECKPOINT,
                patience={"seconds": OFFLINE_SECS},
            )
        ]
    )
    home.wait_state(CONNECTION, "on")
    home.wait_state(CHECKPOINT, "on")
    with Runs(broker.url, daemon.keyring()) as runs:
        hushing.hushes = True
        home.wait_state(CHECKPOINT, "unavailable")
        assert home.state(CONNECTION)["state"] == "on"  # type: ignore[index]
        runs.wait("daemon_offline", ["overdue"])
        # What the time pattern does every five minutes.
        home.call("automation/trigger", entity_id="automation.daemon_offline", skip_condition=False)
        assert hushed.api.health()["bus"] == "connected"
        hushing.hushes = False
        home.wait_state(CHECKPOINT, "on")
        always(lambda: runs.of("daemon_offline") == ["overdue"], "it is told again", during=LONGER_SECS)
    assert hushing.kept > 0

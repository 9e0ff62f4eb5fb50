"""A broker that is killed again and again in a stream of rotations: all is acknowledged, in order."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable

import pytest

from tests.support.broker import Broker
from tests.support.daemon import Daemon
from tests.support.gate import Gate
from tests.support.mqtt_packets import CONNECT, Publish, read_packet
from tests.support.relay import Peer, Relay
from tests.support.repeating import Repeating
from tests.support.waiting import eventually
from tests.unit.bus.fakebroker import PUBLISH

New = Callable[..., Daemon]
Figure = Callable[[str, object], None]
PUBACK = 4


class Record(Relay):
    """Stands between the daemon and its broker and keeps what was published and then acknowledged, in order."""

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self.acknowledged: list[Publish] = []
        self.done: set[tuple[str, bytes]] = set()
        """Topics with the payloads that were acknowledged there."""
        self.levels: set[int] = set()
        """The versions of MQTT in which something was published."""
        self._sent: dict[Peer, dict[bytes, Publish]] = {}

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    async def up(self, near: Peer, far: Peer) -> None:
        """Pass on what the daemon sends, and note what it publishes."""
        sent = self._sent[near] = {}
        level = 0
        while True:
            packet = await read_packet(near.reader)
            if packet.kind == CONNECT:
                level = packet.level
            elif packet.kind == PUBLISH >> 4:
                self.levels.add(level)
                message, number = Publish.parse(packet, level)
                sent[number] = message
            await far.send(packet.encode())

    async def down(self, near: Peer, far: Peer) -> None:
        """Pass on what the broker answers, and note what it acknowledges."""
        while True:
            packet = await read_packet(far.reader)
            if packet.kind == PUBACK and (len(packet.body) < 3 or packet.body[2] < 0x80):
                message = self._sent[near].pop(packet.body[:2])
                self.acknowledged.append(message)
                self.done.add((message.topic, message.payload))
            await near.send(packet.encode())

    def versions(self, topic: str) -> list[int]:
        """The versions of which an announcement on `topic` was acknowledged, each at its first time."""
        payloads = [message.payload for message in list(self.acknowledged) if message.topic == topic]
        return list(dict.fromkeys(json.loads(payload)["data"]["version"] for payload in payloads))


@pytest.mark.parametrize(
    ("kills", "before", "meanwhile"),
    [(3, 40, 20), pytest.param(30, 8, 6, marks=[pytest.mark.slow, pytest.mark.timeout(600)])],
)
def test_every_event_is_acknowledged_though_the_broker_is_killed_in_a_stream_of_rotations(
    kills: int, before: int, meanwhile: int, own: Broker, prefix: str, new_daemon: New, figure: Figure
) -> None:
    rng = random.Random(3)
    names = [f"x{number}" for number in range(4)]
    with Gate(own.port) as gate, Record(gate.port) as record:
        daemon = new_daemon(bus=record.url, prefix=prefix).start().wait_bus()
        for name in names:
            daemon.api.create(name, type="generic")
        versions = dict.fromkeys(names, 1)
        turns = itertools.cycle(names)

        def rotate() -> None:
            name = next(turns)
            versions[name] = daemon.api.rotate(name, grace_period="1d")[0]["version"]

        with Repeating(rotate) as rotating:
            for _ in range(kills):
                rotating.wait(rng.randint(1, before), within=60)
                own.kill()
                gate.shut()
                rotating.wait(rng.randint(1, meanwhile), within=60)
                own.start()
                gate.open()
                daemon.wait_bus()
        wanted = {f"{prefix}/secret/{name}/rotated": list(range(2, version + 1)) for name, version in versions.items()}
        waiting: set[tuple[str, bytes]] = set()
        log = daemon.verified_log()
        for event in log[1:]:  # the first connection owes nothing older
            waiting.add((f"{prefix}/audit/{event.type.replace('.', '/')}", event.raw))
            if event.type == "secret.rotated":
                waiting.add((f"{prefix}/secret/{event.subject}/rotated", event.raw))

        def acknowledged() -> bool:
            # Cheap, since what is waited for goes through this process, whose time this takes.
            waiting.difference_update([one for one in waiting if one in record.done])
            return not waiting

        # The audit backlog comes behind, and all of it.
        eventually(acknowledged, "all is acknowledged, the whole log too", within=60)
        for topic, announced in wanted.items():
            assert record.versions(topic) == announced
        # Behind the relay, as behind a container's port, a killed broker takes connections and answers nothing.
        assert record.levels == {5}, "a broker that was away was taken for an old one"
    figure("rotations", sum(map(len, wanted.values())))
    figure("events", len(log))

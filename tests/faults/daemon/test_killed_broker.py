"""A broker that is killed again and again in a stream of rotations: all is acknowledged, and all arrives."""

from __future__ import annotations

import contextlib
import json
import random
import threading
from collections.abc import Callable
from typing import Self

import pytest

from tests.support.broker import Broker
from tests.support.daemon import Daemon
from tests.support.gate import Gate
from tests.support.mqtt_packets import Publish, read_packet
from tests.support.relay import Peer, Relay
from tests.support.tap import Heard
from tests.support.waiting import eventually
from tests.unit.bus.fakebroker import PUBLISH

New = Callable[..., Daemon]
Figure = Callable[[str, object], None]
PUBACK = 4


class Rotating:
    """Rotates names, one after the other, until the context ends; every answer must be a success."""

    def __init__(self, daemon: Daemon, names: list[str]) -> None:
        self.versions = dict.fromkeys(names, 1)
        self._daemon = daemon
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def wait(self, more: int) -> None:
        """Wait until so many more rotations are answered."""
        wanted = sum(self.versions.values()) + more
        eventually(
            lambda: sum(self.versions.values()) >= wanted or self._failure,
            f"the stream flows: {self.versions}",
            within=60,
        )

    def _run(self) -> None:
        try:
            while not self._ends.is_set():
                for name in self.versions:
                    self._ends.wait(0.02)
                    self.versions[name] = self._daemon.api.rotate(name, grace_period="1d")[0]["version"]
        except BaseException as failure:  # noqa: BLE001 — handed to the test's own thread
            self._failure = failure


class Record(Relay):
    """Stands between the daemon and its broker and keeps what was published and then acknowledged, in order."""

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self.acknowledged: list[Publish] = []
        self.done: set[tuple[str, bytes]] = set()
        """Topics with the payloads that were acknowledged there."""
        self._sent: dict[Peer, dict[bytes, Publish]] = {}

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    async def up(self, near: Peer, far: Peer) -> None:
        """Pass on what the daemon sends, and note what it publishes."""
        sent = self._sent[near] = {}
        while True:
            packet = await read_packet(near.reader)
            if packet.kind == PUBLISH >> 4:
                message, number = Publish.parse(packet, 5)
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


class Subscriber:
    """Listens through all lives of a broker; keeps what arrived, in order.

    What a broker has acknowledged and takes along when it is killed, before it is with its subscribers, is the broker's
    loss: no publisher can know of it. So much, and no more, may be missing.
    """

    def __init__(self, daemon: Daemon, broker: Broker, record: Record) -> None:
        self._daemon = daemon
        self._record = record
        self._taken_along: set[bytes] = set()
        self._broker = broker
        self._before: list[Heard] = []
        self._tap = daemon.tap(broker.url)
        self._tap.__enter__()
        self._begun = len(record.acknowledged)

    def outlive(self, broker_dies: Callable[[], None]) -> None:
        """Hear the last of this life out."""
        broker_dies()
        self._tap.wait_lost()

    def listen_again(self) -> None:
        """Subscribe anew, before the daemon can be back; its last acknowledgements have passed the record by now."""
        arrived = {one.payload for one in self._tap.heard}
        acknowledged = {one.payload for one in self._record.acknowledged[self._begun :]}
        self._taken_along |= acknowledged - arrived
        self._before += self._tap.heard
        self._tap.__exit__(None, None, None)
        self._tap = self._daemon.tap(self._broker.url)
        self._tap.__enter__()
        self._begun = len(self._record.acknowledged)

    def close(self) -> None:
        self._tap.__exit__(None, None, None)

    @property
    def heard(self) -> list[Heard]:
        return [*self._before, *self._tap.heard]

    def versions(self, topic: str) -> list[int]:
        """The versions announced on `topic`, each at its first arrival."""
        arrived = [one.event.data["version"] for one in self.heard if one.topic == topic and one.event is not None]
        return list(dict.fromkeys(arrived))

    def lost(self, lines: dict[str, list[bytes]]) -> list[str]:
        """Return the topics on which something is missing that the broker did not take along."""
        arrived: dict[str, set[bytes]] = {}
        for one in self.heard:
            arrived.setdefault(one.topic, set()).add(one.payload)
        return [topic for topic, owed in lines.items() if set(owed) - arrived.get(topic, set()) - self._taken_along]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kills", [3])
def test_every_event_is_acknowledged_and_arrives_though_the_broker_is_killed_in_a_stream_of_rotations(
    own: Broker, prefix: str, new_daemon: New, figure: Figure, kills: int
) -> None:
    rng = random.Random(3)
    names = [f"x{number}" for number in range(4)]
    with Gate(own.port) as gate, Record(gate.port) as record:
        daemon = new_daemon(bus=record.url, prefix=prefix).start().wait_bus()
        with contextlib.closing(Subscriber(daemon, own, record)) as subscriber:
            for name in names:
                daemon.api.create(name, type="generic")
            with Rotating(daemon, names) as rotating:
                for _ in range(kills):
                    rotating.wait(rng.randint(1, 40))
                    subscriber.outlive(own.kill)
                    gate.shut()
                    rotating.wait(rng.randint(1, 20))
                    own.start()
                    subscriber.listen_again()
                    gate.open()
                    daemon.wait_bus()
            wanted = {
                f"{prefix}/secret/{name}/rotated": list(range(2, version + 1))
                for name, version in rotating.versions.items()
            }
            log = daemon.verified_log()[1:]  # the first connection owes nothing older
            owed: dict[str, list[bytes]] = {topic: [] for topic in wanted}
            for event in log:
                owed.setdefault(f"{prefix}/audit/{event.type.replace('.', '/')}", []).append(event.raw)
                if event.type == "secret.rotated":
                    owed[f"{prefix}/secret/{event.subject}/rotated"].append(event.raw)

            waiting = {(topic, raw) for topic, raws in owed.items() for raw in raws}

            def acknowledged() -> bool:
                # Cheap, since what is waited for goes through this process, whose time this takes.
                waiting.difference_update([one for one in waiting if one in record.done])
                assert not waiting, f"{len(waiting)} of {sum(map(len, owed.values()))} wait"
                return True

            # The audit backlog comes behind, and all of it.
            eventually(acknowledged, "all is acknowledged, the whole log too", within=180)
            eventually(lambda: not subscriber.lost(owed), "all has arrived, the whole log too", within=60)
            for topic, versions in wanted.items():
                assert record.versions(topic) == versions
                arrived = subscriber.versions(topic)
                assert arrived == sorted(arrived)
    figure("rotations", sum(map(len, wanted.values())))

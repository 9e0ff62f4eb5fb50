"""A hostile broker: between real clients and a real Mosquitto, it does with messages whatever a test says.

    with MqttProxy(broker.port) as proxy:
        client = SecretsClient(Settings(mqtt_url=proxy.url, …))
        held = proxy.hold(on("*/secret/db/*"))
        …
        held.release()

It acknowledges what Mosquitto sends and passes it on at QoS 0: so it may lose, keep, repeat and make up messages and
neither side's packet numbers run out of step.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from tests.support.mqtt_packets import CONNECT, PUBLISH, Packet, Publish, acknowledgement, read_packet
from tests.support.relay import Peer, Relay
from tests.support.waiting import eventually

_VERSION_3_1_1 = 4
_UNACCEPTABLE_VERSION = b"\x20\x02\x00\x01"

Match = Callable[[Publish], bool]
Rule = Callable[[Publish], Iterable[Publish]]


def on(*topics: str) -> Match:
    """Match messages on these topics; `*` stands for anything, levels included."""
    return lambda message: any(fnmatchcase(message.topic, topic) for topic in topics)


def version_in(payload: bytes) -> int:
    """Return the version that a secret's event or state tells of."""
    version: int = json.loads(payload)["data"]["version"]
    return version


def everything(_: Publish) -> bool:
    """Match every message."""
    return True


@dataclass(frozen=True, eq=False)
class _Subscriber:
    """A client's connection through the proxy."""

    peer: Peer
    level: int


class Meddling:
    """One thing the proxy does with the messages that match, until `stop`."""

    def __init__(self, proxy: MqttProxy, match: Match, rule: Rule) -> None:
        self.met: list[Publish] = []
        """The messages that matched so far, as they came."""
        self._proxy = proxy
        self._match = match
        self._rule = rule

    def __call__(self, message: Publish) -> Iterable[Publish]:
        """Return what the next rule gets instead of `message`."""
        if not self._match(message):
            return [message]
        self.met.append(message)
        return self._rule(message)

    def wait(self, count: int = 1) -> list[Publish]:
        """Wait until so many messages have matched; return them all."""
        eventually(lambda: len(self.met) >= count, f"{count} message(s) come through the proxy")
        return list(self.met)

    def stop(self) -> None:
        """Let messages pass as they are from now on."""
        self._proxy.call(lambda: self._proxy.forget(self))

    def release(self, *, backwards: bool = False) -> None:
        """Stop, and pass on what was met: for `hold`."""

        def deliver() -> None:
            self._proxy.forget(self)
            self._proxy.deliver(reversed(self.met) if backwards else self.met)

        self._proxy.call(deliver)


class MqttProxy(Relay):
    """The proxy. What it does with one message, it does for every client through it."""

    def __init__(self, broker_port: int) -> None:
        super().__init__(broker_port)
        self.heard: list[Publish] = []
        """What the broker sent, in order, before any meddling; once for each client."""
        self._meddlings: list[Meddling] = []
        self._changes: dict[int, Callable[[Packet], Packet | None]] = {}
        self._subscribers: set[_Subscriber] = set()
        self._is_old = False

    @property
    def url(self) -> str:
        """What a client is given as the broker's URL."""
        return f"mqtt://127.0.0.1:{self.port}"

    # What a test tells it

    def drop(self, match: Match = everything) -> Meddling:
        """Lose the messages."""
        return self._meddle(match, lambda _: [])

    def hold(self, match: Match = everything) -> Meddling:
        """Keep the messages until `release`."""
        return self.drop(match)

    def repeat(self, match: Match = everything, times: int = 3) -> Meddling:
        """Pass the messages on so many times."""
        return self._meddle(match, lambda message: [message] * times)

    def move(self, match: Match, topic: str) -> Meddling:
        """Pass the messages on under another topic."""
        return self._meddle(match, lambda message: [replace(message, topic=topic)])

    def rewrite(self, match: Match, change: Callable[[bytes], bytes]) -> Meddling:
        """Pass the messages on with another payload."""
        return self._meddle(match, lambda message: [replace(message, payload=change(message.payload))])

    def change(self, kind: int, change: Callable[[Packet], Packet | None]) -> None:
        """Change the broker's packets of another kind than PUBLISH; None: lose them."""
        self.call(lambda: self._changes.update({kind: change}))

    def refuse_version_5(self) -> None:
        """Know no MQTT 5, and say so as a broker of that age does: in a CONNACK of 3.1.1, and no more."""
        self._is_old = True

    def inject(self, *messages: Publish) -> None:
        """Deliver messages to all clients, as the broker would."""
        self.call(lambda: self.deliver(messages))

    def heard_on(self, *topics: str) -> list[Publish]:
        """Return what the broker sent on these topics so far (see `on`)."""
        match = on(*topics)
        return [message for message in list(self.heard) if match(message)]

    def wait_heard(self, *topics: str, count: int = 1) -> list[Publish]:
        """Wait until the broker has sent so many messages on these topics; return them."""
        eventually(lambda: len(self.heard_on(*topics)) >= count, f"{count} message(s) on {topics} reach the proxy")
        return self.heard_on(*topics)

    def wait_state(self, name: str, version: int) -> Publish:
        """Wait until the broker has sent a version's state; return it. Of states close together only the last comes."""
        topic = f"*/secret/{name}/state"

        def sent() -> Publish | None:
            of_it = (message for message in self.heard_on(topic) if version_in(message.payload) == version)
            return next(of_it, None)

        return eventually(sent, f"the state of version {version} of {name} reaches the proxy")

    # On the relay's thread

    def forget(self, meddling: Meddling) -> None:
        """Take a rule out; one that is out already is no mistake."""
        with suppress(ValueError):
            self._meddlings.remove(meddling)

    def deliver(self, messages: Iterable[Publish]) -> None:
        """Write messages to all clients."""
        for message in messages:
            for subscriber in self._subscribers:
                subscriber.peer.send_now(message.encode(subscriber.level))

    async def up(self, near: Peer, far: Peer) -> None:
        """Pass on what a client sends."""
        while True:
            packet = await read_packet(near.reader)
            await self.passing("up")
            if packet.kind == CONNECT:
                if self._is_old and packet.level > _VERSION_3_1_1:
                    await near.send(_UNACCEPTABLE_VERSION)
                    return
                self._subscribers.add(_Subscriber(near, packet.level))
            await far.send(packet.encode())

    async def down(self, near: Peer, far: Peer) -> None:
        """Pass on what the broker sends, meddled with."""
        try:
            while True:
                packet: Packet | None = await read_packet(far.reader)
                await self.passing("down")
                assert packet is not None
                if packet.kind == PUBLISH:
                    await self._pass_message(packet, near, far)
                elif (packet := self._changed(packet)) is not None:
                    await near.send(packet.encode())
        finally:
            self._subscribers = {one for one in self._subscribers if one.peer is not near}

    async def _pass_message(self, packet: Packet, near: Peer, far: Peer) -> None:
        level = next(one.level for one in self._subscribers if one.peer is near)
        message, number = Publish.parse(packet, level)
        if number:
            far.send_now(acknowledgement(number))
        self.heard.append(message)
        messages: Iterable[Publish] = [message]
        for meddling in list(self._meddlings):
            messages = [result for each in messages for result in meddling(each)]
        for each in messages:
            await near.send(each.encode(level))

    def _changed(self, packet: Packet) -> Packet | None:
        change = self._changes.get(packet.kind)
        return packet if change is None else change(packet)

    def _meddle(self, match: Match, rule: Rule) -> Meddling:
        meddling = Meddling(self, match, rule)
        self.call(lambda: self._meddlings.append(meddling))
        return meddling


__all__ = ["Meddling", "MqttProxy", "Publish", "everything", "on"]

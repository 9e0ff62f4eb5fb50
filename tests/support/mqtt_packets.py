"""As much of MQTT's packets as a man in the middle has to know (MQTT 3.1.1 and 5)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final, Self

CONNECT: Final = 1
PUBLISH: Final = 3
PUBACK: Final = 4
SUBACK: Final = 9
_RETAIN: Final = 0x01
_PROPERTIES_SINCE: Final = 5


@dataclass(frozen=True, slots=True)
class Packet:
    """Any packet: its first byte (type and flags), and everything after the length."""

    first: int
    body: bytes

    @property
    def kind(self) -> int:
        """The packet's type, one of MQTT's numbers."""
        return self.first >> 4

    @property
    def level(self) -> int:
        """Of a CONNECT: the protocol's version, 4 for 3.1.1 and 5."""
        name_bytes = int.from_bytes(self.body[:2], "big")
        return self.body[2 + name_bytes]

    def encode(self) -> bytes:
        """Return it as it travels."""
        return bytes([self.first]) + _encode_length(len(self.body)) + self.body


@dataclass(frozen=True, slots=True)
class Publish:
    """A message on its way to a subscriber. `properties` are MQTT 5's, as they came."""

    topic: str
    payload: bytes
    retain: bool = False
    properties: bytes = b""

    @classmethod
    def parse(cls, packet: Packet, level: int) -> tuple[Self, bytes]:
        """Return the message, and the packet's number (none at QoS 0)."""
        body = packet.body
        at = 2 + int.from_bytes(body[:2], "big")
        topic = body[2:at].decode()
        number = b""
        if packet.first & 0x06:
            number, at = body[at : at + 2], at + 2
        properties = b""
        if level >= _PROPERTIES_SINCE:
            length, start = _decode_length(body, at)
            properties, at = body[start : start + length], start + length
        return cls(topic, body[at:], bool(packet.first & _RETAIN), properties), number

    def encode(self, level: int) -> bytes:
        """Return it as it travels at QoS 0, where it needs no number."""
        topic = self.topic.encode()
        body = len(topic).to_bytes(2, "big") + topic
        if level >= _PROPERTIES_SINCE:
            body += _encode_length(len(self.properties)) + self.properties
        return Packet(PUBLISH << 4 | (_RETAIN if self.retain else 0), body + self.payload).encode()


def acknowledgement(number: bytes) -> bytes:
    """Return the PUBACK of a packet's number."""
    return b"\x40\x02" + number


async def read_packet(reader: asyncio.StreamReader) -> Packet:
    """Return the next packet; IncompleteReadError (an EOFError) at the end of the connection."""
    first = (await reader.readexactly(1))[0]
    length, shift = 0, 0
    while True:
        digit = (await reader.readexactly(1))[0]
        length |= (digit & 0x7F) << shift
        if not digit & 0x80:
            return Packet(first, await reader.readexactly(length))
        shift += 7


def _encode_length(length: int) -> bytes:
    encoded = bytearray()
    while True:
        length, digit = length >> 7, length & 0x7F
        encoded.append(digit | (0x80 if length else 0))
        if not length:
            return bytes(encoded)


def _decode_length(data: bytes, at: int) -> tuple[int, int]:
    """Return the length that is encoded at `at`, and where what it measures begins."""
    length, shift = 0, 0
    while True:
        digit = data[at]
        length |= (digit & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not digit & 0x80:
            return length, at

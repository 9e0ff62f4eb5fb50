"""A broker that misbehaves as it is told: what no real one can be made to do."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

CONNECT, PUBLISH, SUBSCRIBE, PINGREQ, DISCONNECT = 0x10, 0x30, 0x80, 0xC0, 0xE0

Answer = Callable[[int, bytes], bytes | None]
"""From a packet's kind and body to the bytes that answer it; None ends the connection."""


@dataclass
class FakeBroker:
    """`seen` holds the packets that came, as kind and body; `levels` the protocol level of each CONNECT."""

    answer: Answer
    url: str = ""
    seen: list[tuple[int, bytes]] = field(default_factory=list)
    levels: list[int] = field(default_factory=list)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        try:
            while True:
                kind, body = await _packet(reader)
                if kind == CONNECT:
                    self.levels.append(body[6])
                async with self.news:
                    self.seen.append((kind, body))
                    self.news.notify_all()
                reply = self.answer(kind, body)
                if reply is None:
                    break
                writer.write(reply)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def count(self, kind: int) -> int:
        """How many packets of a kind have come."""
        return sum(seen == kind for seen, _ in self.seen)

    async def until(self, kind: int, count: int) -> None:
        """Wait until so many packets of a kind have come."""
        async with self.news:
            await self.news.wait_for(lambda: self.count(kind) >= count)


@asynccontextmanager
async def fake_broker(answer: Answer) -> AsyncIterator[FakeBroker]:
    """Listen on a free port."""
    broker = FakeBroker(answer)
    server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
    broker.url = f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield broker
    finally:
        server.close()
        for writer in broker.writers:
            writer.close()


def connack(code: int = 0, properties: bytes = b"") -> bytes:
    """A CONNACK of MQTT 5."""
    return bytes([0x20, 3 + len(properties), 0, code, len(properties)]) + properties


def packet_number(body: bytes) -> bytes:
    """The two bytes that number a PUBLISH or SUBSCRIBE."""
    return body[:2] if len(body) < 4 else body[2 + struct.unpack("!H", body[:2])[0] :][:2]


def puback(body: bytes) -> bytes:
    """The acknowledgement of a PUBLISH."""
    return b"\x40\x02" + packet_number(body)


def well_behaved(kind: int, body: bytes) -> bytes:
    """Accept and acknowledge everything, in MQTT 5."""
    return {
        CONNECT: connack,
        PUBLISH: lambda: puback(body),
        SUBSCRIBE: lambda: b"\x90\x04" + body[:2] + b"\x00\x01",
        PINGREQ: lambda: b"\xd0\x00",
    }.get(kind, lambda: b"")()


async def _packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    kind = (await reader.readexactly(1))[0] & 0xF0
    length = shift = 0
    while True:
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return kind, await reader.readexactly(length)

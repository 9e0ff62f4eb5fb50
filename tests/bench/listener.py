"""Who is told, in a process of its own. Times are of CLOCK_MONOTONIC, which all processes share.

`python -m tests.bench.listener client HTTP_PORT NAME…`: a client with these secrets cached; prints when one is
dropped.
`python -m tests.bench.listener bare MQTT_PORT CONNECTIONS DELIVERIES ENDING FILTER…`: bare subscribers; prints the
times at which messages came on topics with ENDING, a JSON list for every DELIVERIES of them.
"""

from __future__ import annotations

import asyncio
import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import uvloop
from secretsd_client import AsyncSecretsClient
from secretsd_client._settings import Settings
from secretsd_client._state import State

from tests.support.waiting import PATIENCE_SECS


class Listener:
    """The process, and what it prints. A context manager; entering waits until it is subscribed."""

    def __init__(self, *arguments: object, program: list[str] | None = None) -> None:
        """`program` is another one that says the same lines."""
        own = [sys.executable, "-m", "tests.bench.listener"]
        self._command = [*(program or own), *(str(argument) for argument in arguments)]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE)
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.line()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def line(self) -> Any:
        """Return the next line, parsed; waits for it, raises queue.Empty where none comes."""
        return json.loads(self._lines.get(timeout=PATIENCE_SECS))

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._lines.put(line)


class _Bare(asyncio.Protocol):
    """As little of MQTT 3.1.1 as subscribes at QoS 1 and acknowledges."""

    def __init__(self, number: int, filters: list[str], ending: bytes, heard: _Heard) -> None:
        self._number = number
        self._filters = filters
        self._ending = ending
        self._heard = heard
        self._buffer = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._transport.write(_packet(0x10, b"\x00\x04MQTT\x04\x02\x00\x3c" + _text(f"bench-{self._number}")))
        filters = b"".join(_text(one) + b"\x01" for one in self._filters)
        self._transport.write(_packet(0x82, b"\x00\x01" + filters))

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        self._buffer += data
        while (packet := self._next()) is not None:
            kind, body = packet
            if kind >> 4 == 9:
                self._heard.subscribed()
            elif kind >> 4 == 3:
                end = 2 + int.from_bytes(body[:2], "big")
                if kind & 6:
                    self._transport.write(b"\x40\x02" + body[end : end + 2])
                if body[2:end].endswith(self._ending):
                    self._heard.came(now)

    def _next(self) -> tuple[int, bytes] | None:
        length, at = 0, 1
        while True:
            if at >= len(self._buffer):
                return None
            length |= (self._buffer[at] & 0x7F) << (7 * (at - 1))
            at += 1
            if self._buffer[at - 1] < 0x80:
                break
        if len(self._buffer) < at + length:
            return None
        kind, body = self._buffer[0], self._buffer[at : at + length]
        self._buffer = self._buffer[at + length :]
        return kind, body


class _Heard:
    def __init__(self, connections: int, deliveries: int) -> None:
        self._missing = connections
        self._deliveries = deliveries
        self._times: list[float] = []

    def subscribed(self) -> None:
        self._missing -= 1
        if self._missing == 0:
            _say("ready")

    def came(self, now: float) -> None:
        self._times.append(now)
        if len(self._times) == self._deliveries:
            _say(self._times)
            self._times = []


def _packet(kind: int, body: bytes) -> bytes:
    length, left = bytearray(), len(body)
    while True:
        left, digit = left >> 7, left & 0x7F
        length.append(digit | (0x80 if left else 0))
        if not left:
            return bytes([kind]) + bytes(length) + body


def _text(text: str) -> bytes:
    return len(text).to_bytes(2, "big") + text.encode()


def _say(what: object) -> None:
    print(json.dumps(what), flush=True)  # noqa: T201 — this is how the parent hears it


async def _listen_bare(port: int, connections: int, deliveries: int, ending: str, *filters: str) -> None:
    heard = _Heard(connections, deliveries)
    loop = asyncio.get_running_loop()
    for number in range(connections):
        await loop.create_connection(
            lambda number=number: _Bare(number, list(filters), ending.encode(), heard),  # type: ignore[misc]  # a default
            "127.0.0.1",
            port,
        )
    await asyncio.Event().wait()


async def _listen_client(port: int, *names: str) -> None:
    settings = Settings(url=f"http://127.0.0.1:{port}", client_id="admin")
    async with AsyncSecretsClient(settings) as client:
        for name in names:
            await client.get(name)
        assert await client.wait_ready()
        state = client.state
        # Mostly the event drops a value; an answer of `/changes` that is under way already may come first.
        for method in ("announced", "changes_answered"):
            setattr(state, method, _noting(state, getattr(state, method)))
        _say("ready")
        await asyncio.Event().wait()


def _noting(state: State, method: Callable[..., None]) -> Callable[..., None]:
    """Return `method`, which then says when it has superseded a cached value."""

    def noted(*args: Any, **named: Any) -> None:
        before = state.counts["superseded"]
        method(*args, **named)
        now = time.monotonic()
        for _ in range(state.counts["superseded"] - before):
            _say(now)

    return noted


def _main() -> None:
    kind, port, *rest = sys.argv[1:]
    if kind == "client":
        uvloop.run(_listen_client(int(port), *rest))
    else:
        connections, deliveries, ending, *filters = rest
        uvloop.run(_listen_bare(int(port), int(connections), int(deliveries), ending, *filters))


if __name__ == "__main__":
    _main()

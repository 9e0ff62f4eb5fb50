"""HTTP load, in a process of its own: `python -m tests.bench.load PORT CONNECTIONS SECONDS [REQUESTS]`.

Every connection sends its next request when the answer to the one before is whole. Prints JSON: answers per second
and the percentiles of their times.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from typing import Any, Final

import uvloop

from tests.bench.report import percentile

PATH: Final = "/secret/postgres_password"
REQUEST: Final = f"GET {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Jarvis-Client: admin\r\n\r\n".encode()


def run(port: int, *, seconds: float, connections: int = 32, requests: int = 0) -> dict[str, float]:
    """Put load on a port of this machine for `seconds`, or until `requests` are answered; return what came of it."""
    arguments = [str(port), str(connections), str(seconds), str(requests)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.load", *arguments], check=True, stdout=subprocess.PIPE, timeout=seconds + 60
    )
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


class _Sender(asyncio.Protocol):
    def __init__(self, times: list[float], left: list[int], stopped: asyncio.Event) -> None:
        self._times = times
        self._left = left
        self._stopped = stopped
        self._buffer = b""
        self._sent_at = 0.0
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self._buffer.index(b"Content-Length: ") + 16
        if len(self._buffer) < head + 4 + int(self._buffer[at : self._buffer.index(b"\r", at)]):
            return
        if not self._buffer.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(self._buffer.decode())
        self._times.append(time.perf_counter() - self._sent_at)
        self._buffer = b""
        self._left[0] -= 1
        if self._left[0] == 0:
            self._stopped.set()
        if not self._stopped.is_set():
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._stopped.is_set():
            raise RuntimeError(f"the server closed a connection: {exc}")

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        self._transport.write(REQUEST)


async def _main(port: int, connections: int, seconds: float, requests: int) -> None:
    loop = asyncio.get_running_loop()
    times: list[float] = []
    left, stopped = [requests or -1], asyncio.Event()
    loop.set_exception_handler(lambda _, context: sys.exit(str(context)))
    started = time.perf_counter()
    senders = [
        await loop.create_connection(lambda: _Sender(times, left, stopped), "127.0.0.1", port)
        for _ in range(connections)
    ]
    try:
        async with asyncio.timeout(seconds):
            await stopped.wait()
    except TimeoutError:
        stopped.set()
    taken = time.perf_counter() - started
    for transport, _ in senders:
        transport.abort()
    json.dump({"rate": len(times) / taken, "p50": percentile(times, 0.5), "p99": percentile(times, 0.99)}, sys.stdout)


if __name__ == "__main__":
    uvloop.run(_main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])))

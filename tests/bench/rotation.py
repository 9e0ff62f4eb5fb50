"""From a rotation request to the dropped cache in another process, and to a thousand subscribers."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from secretsd_bus import BusSettings, Link

from tests.bench import load
from tests.bench.listener import Listener
from tests.bench.places import daemon
from tests.bench.report import Figure, milliseconds, percentile, synced_append
from tests.support.broker import Broker
from tests.support.daemon import NODE, Daemon
from tests.support.waiting import PATIENCE_SECS, eventually

SECRETS: Final = 100
ROUNDS: Final = 5
ROTATIONS_A_ROUND: Final = 20
OWED: Final = 100_000
SUBSCRIBERS: Final = 1000
WAVES: Final = 8
MESSAGE: Final = b"x" * 900
"""As long as an event."""


class Sender:
    """Publishes bare messages: one connection on a thread of its own. A context manager."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._link: Link | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._link = self._call(Link.connect(BusSettings(url=self._url), client_id="bench-sender"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._link is not None
        self._call(self._link.disconnect())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def send(self, topic: str) -> float:
        """Publish at QoS 1, wait for the acknowledgement; return when the publishing began (CLOCK_MONOTONIC)."""

        async def publish() -> float:
            assert self._link is not None
            started = time.monotonic()
            await self._link.publish(topic, MESSAGE)
            return started

        began: float = self._call(publish())
        return began

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_SECS)


class Rotator:
    """Rotates over one kept connection, as an operator's script would."""

    def __init__(self, served: Daemon) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=PATIENCE_SECS)
        self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def rotate(self, name: str) -> float:
        """Rotate a secret; return when the request was sent."""
        body = json.dumps({"names": [name]}).encode()
        headers = {"X-Jarvis-Client": "admin", "Content-Type": "application/json"}
        started = time.monotonic()
        self._connection.request("POST", "/rotate", body, headers)
        answer = self._connection.getresponse()
        said = answer.read()
        assert answer.status == 200, said
        return started

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def measure(broker: Broker) -> Iterator[Figure]:
    """Yield the rotation's time against a bare round trip and two fdatasyncs; then with an audit backlog."""
    with daemon(secrets=SECRETS, bus=broker.url, prefix="bench/rotation") as served:
        served.wait_bus()
        served.api.create("postgres_password", "hunter2hunter2")
        quiet, bare = _rounds(broker, served)
        middles = [percentile(taken, 0.5) for taken in bare]
        floor = percentile([one for taken in bare for one in taken], 0.5)
        yield Figure(
            "rotation to dropped cache, of bare parts",
            [percentile(taken, 0.5) / middle for taken, middle in zip(quiet, middles, strict=True)],
            f"{milliseconds(_all(quiet))}; round trip and two fdatasyncs {floor * 1000:.2f} ms",
            at_most=5.0,
        )
        broker.stop()
        served.wait_bus("disconnected")
        load.run(served.port, seconds=120, requests=OWED, connections=64)
        broker.start()
        served.wait_bus()
        before = _owed(served)
        busy, busy_bare = _rounds(broker, served)
        after = _owed(served)
        yield Figure(
            f"the same, {OWED:,} audit events owed: p99",
            [percentile(_all(busy), 0.99) / percentile(_all(quiet), 0.99)],
            f"{milliseconds(_all(busy))}; owed {before:,.0f} at first and {after:,.0f} at the end; "
            f"the bare parts: {milliseconds(_all(bare))} without and {milliseconds(_all(busy_bare))} with the backlog",
            at_most=2.0,
        )
        eventually(lambda: _owed(served) == 0, "the backlog is published", within=120)


def measure_fanout(broker: Broker) -> Iterator[Figure]:
    """Yield the time until the last of a thousand subscribers is told, against a bare message to them."""
    prefix = "bench/fanout"
    with daemon(secrets=SECRETS, bus=broker.url, prefix=prefix) as served:
        served.wait_bus()
        rotator = Rotator(served)
        filters = [f"{prefix}/checkpoint/{NODE}", f"{prefix}/status/{NODE}", f"{prefix}/secret/n1/+", "bare/#"]
        with (
            Listener("bare", broker.port, SUBSCRIBERS, SUBSCRIBERS, "/rotated", *filters) as told,
            Sender(broker.url) as sender,
        ):
            rounds = []
            for _ in range(WAVES):
                began = sender.send("bare/x/rotated")
                bare = max(told.line()) - began
                began = rotator.rotate("n1")
                ours = max(told.line()) - began
                rounds.append((bare, ours))
                time.sleep(0.3)  # states and checkpoint reach the thousand too; the next wave waits for none of them
        rotator.close()
    yield Figure(
        f"{SUBSCRIBERS:,} subscribers told, of bare Mosquitto's",
        [ours / bare for bare, ours in rounds[1:]],
        "ms to the last: " + ", ".join(f"{ours * 1000:.0f}/{bare * 1000:.0f}" for bare, ours in rounds[1:]),
        at_most=1.2,
    )


def _rounds(broker: Broker, served: Daemon) -> tuple[list[list[float]], list[list[float]]]:
    """Return the seconds of rotations, and those of a bare round trip and two fdatasyncs, in turns."""
    names = [f"n{number}" for number in range(SECRETS)]
    rotator = Rotator(served)
    ours: list[list[float]] = []
    bare: list[list[float]] = []
    with (
        Listener("client", served.port, *names) as client,
        Listener("bare", broker.port, 1, 1, "/bare", "bench/bare") as subscriber,
        Sender(broker.url) as sender,
    ):
        for number in range(ROUNDS):
            ours.append([])
            bare.append([])
            for name in names[number * ROTATIONS_A_ROUND :][:ROTATIONS_A_ROUND]:
                began = rotator.rotate(name)
                ours[-1].append(client.line() - began)
                began = sender.send("bench/bare")
                trip = subscriber.line()[0] - began
                bare[-1].append(trip + sum(synced_append(_beside(served), MESSAGE) for _ in range(2)))
    rotator.close()
    return ours, bare


def _beside(served: Daemon) -> Path:
    return served.audit_path.with_name("bench")


def _all(rounds: list[list[float]]) -> list[float]:
    return [one for taken in rounds for one in taken]


def _owed(served: Daemon) -> float:
    for line in served.api.get("/metrics").body.decode().splitlines():
        if line.startswith('secretsd_owed_events{lane="audit"}'):
            return float(line.split()[1])
    raise AssertionError("no metric of what is owed")

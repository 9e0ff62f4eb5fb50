"""Cached reads of the sync client, against a dict look-up with a clock. Runs in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from secretsd_client import SecretsClient
from secretsd_client._settings import Settings

from tests.bench.places import daemon
from tests.bench.report import Figure
from tests.support.broker import Broker
from tests.support.daemon import Daemon

ROUNDS = 7
READS = 400_000


def measure(broker: Broker) -> Iterator[Figure]:
    """Yield reads a second, and how much of a dict look-up's they are."""
    with daemon(bus=broker.url, prefix="bench/cached") as served:
        served.api.create("postgres_password", "hunter2hunter2")
        served.wait_bus()
        kept = {"postgres_password": ("hunter2hunter2", time.monotonic() + 3600)}

        def look_up(name: str) -> str:
            value, until = kept[name]
            if time.monotonic() > until:
                raise KeyError(name)
            return value

        with _client(served) as client:
            pairs = [(_rate(look_up), _rate(client.get_secret)) for _ in range(ROUNDS)]
        yield Figure("cached sync reads a second", [ours for _, ours in pairs], "", at_least=2_000_000, unit="/s")
        yield Figure(
            "cached sync reads, of a dict and a clock's",
            [ours / bare for bare, ours in pairs],
            f"the look-up: {max(bare for bare, _ in pairs):,.0f}/s",
        )


def rates(served: Daemon) -> list[float]:
    """Return the cached reads a second of each round."""
    with _client(served) as client:
        return [_rate(client.get_secret) for _ in range(ROUNDS)]


def _client(served: Daemon) -> SecretsClient:
    """Return a client that has read the secret; a context manager."""
    client = SecretsClient(Settings(url=f"http://127.0.0.1:{served.port}", client_id="admin"))
    client.get_secret("postgres_password")
    return client


def _rate(read: Callable[[str], str]) -> float:
    started = time.perf_counter()
    for _ in range(READS):
        read("postgres_password")
    return READS / (time.perf_counter() - started)

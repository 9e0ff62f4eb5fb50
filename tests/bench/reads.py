"""`GET /secret/{name}` with durable audit and the bus, against a bare aiohttp handler of the same answer."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

from tests.bench import load
from tests.bench.places import daemon
from tests.bench.report import Figure
from tests.support.broker import Broker
from tests.support.http import tcp
from tests.support.waiting import eventually, free_port

ROUNDS = 6
SECONDS = 2.0
_KEPT = ("Content-Type", "ETag", "Vault-Generation", "Cache-Control", "X-Content-Type-Options", "X-Request-Id")


def measure(broker: Broker) -> Iterator[Figure]:
    """Yield throughput and p99 at 32 connections, in turns with the bare handler."""
    with daemon(bus=broker.url, prefix="bench/reads") as served:
        served.api.create("postgres_password", "hunter2hunter2")
        served.wait_bus()
        answer = served.api.get(load.PATH)
        given = {"body": answer.body.decode(), "headers": {name: answer.headers[name] for name in _KEPT}}
        port = free_port()
        bare = subprocess.Popen([sys.executable, "-m", "tests.bench.bare", str(port)], stdin=subprocess.PIPE)
        assert bare.stdin is not None
        try:
            bare.stdin.write(json.dumps(given).encode())
            bare.stdin.close()
            eventually(lambda: tcp(port).get(load.PATH).status == 200, "the bare handler answers")
            load.run(port, seconds=0.5)
            load.run(served.port, seconds=0.5)
            pairs = [(load.run(port, seconds=SECONDS), load.run(served.port, seconds=SECONDS)) for _ in range(ROUNDS)]
        finally:
            bare.kill()
            bare.wait()
        rates = ", ".join(f"{ours['rate']:,.0f}/{bare['rate']:,.0f}" for bare, ours in pairs)
        tails = ", ".join(f"{ours['p99'] * 1000:.1f}/{bare['p99'] * 1000:.1f}" for bare, ours in pairs)
        yield Figure(
            "reads, throughput of a bare handler's",
            [ours["rate"] / bare["rate"] for bare, ours in pairs],
            f"requests/s: {rates}",
            at_least=0.5,
        )
        yield Figure(
            "reads, p99 against the bare handler's",
            [ours["p99"] / bare["p99"] for bare, ours in pairs],
            f"ms: {tails}",
            at_most=3.0,
        )

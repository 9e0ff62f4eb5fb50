"""From the process's start to a healthy daemon, and its memory then."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing

from tests.bench.places import daemon, resident_mb
from tests.bench.report import Figure, timed
from tests.support.broker import Broker, saving_by_the_second
from tests.support.daemon import Daemon

ROUNDS = {0: 7, 10_000: 5}
GOALS = {0: (0.5, 70.0), 10_000: (1.5, 130.0)}
NAMES_READ = 50


def measure(_broker: Broker) -> Iterator[Figure]:
    """Yield seconds and MB, with and without secrets; a bare interpreter's start beside them."""
    with closing(saving_by_the_second().start()) as broker:
        yield from _measure(broker)


def _measure(broker: Broker) -> Iterator[Figure]:
    for secrets, (most_secs, most_mb) in GOALS.items():
        served = daemon(secrets=secrets, bus=broker.url, prefix=f"bench/start{secrets}")
        try:
            served.start().wait_bus()
            served.terminate()
            taken, resident, bare = [], [], []
            for _ in range(ROUNDS[secrets]):
                bare += timed(lambda: subprocess.run([sys.executable, "-c", "import asyncio"], check=True), 1)
                taken.append(_until_healthy(served))
                served.wait_bus()
                for number in range(min(secrets, NAMES_READ)):
                    served.api.secret(f"n{number}")
                resident.append(resident_mb(served))
                served.terminate()
        finally:
            served.close()
        yield Figure(
            f"start to healthy, {secrets:,} secrets",
            taken,
            f"{min(taken) / min(bare):.1f} times an interpreter that imports asyncio ({min(bare):.3f} s)",
            at_most=most_secs,
            unit="s",
        )
        yield Figure(f"resident memory, {secrets:,} secrets", resident, "", at_most=most_mb, unit="MB")


def _until_healthy(served: Daemon) -> float:
    started = time.perf_counter()
    served.spawn()
    while True:
        try:
            if served.api.get("/healthz").status == 200:
                return time.perf_counter() - started
        except OSError:
            time.sleep(0.002)

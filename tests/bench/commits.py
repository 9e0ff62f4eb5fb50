"""Commits of vaults of several sizes, and ten thousand rotations that are due at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from secretsd import files
from tests.bench.listener import Listener
from tests.bench.places import daemon
from tests.bench.report import Figure, milliseconds, percentile, synced_append, timed
from tests.support.broker import Broker, saving_by_the_second
from tests.support.daemon import Daemon

SIZES: Final = (10, 1_000, 10_000)
ROUNDS: Final = 5
COMMITS_A_ROUND: Final = 6
DUE: Final = 10_000
DUE_IN_MS: Final = 6_000
LINE: Final = b"x" * 900


def measure(_broker: Broker) -> Iterator[Figure]:
    """Yield the time of a commit, against replacing a file of the vault's size and appending a line durably."""
    for size in SIZES:
        with daemon(secrets=size) as served:
            served.api.update("n1", "a first one")
            ours: list[list[float]] = []
            bare: list[list[float]] = []
            for number in range(ROUNDS):
                ours.append([])
                bare.append([])
                for _ in range(COMMITS_A_ROUND):
                    ours[-1] += timed(partial(served.api.update, "n1", f"value {number}"), 1)
                    bare[-1].append(_bare(served))
            yield Figure(
                f"commit, {size:,} secrets, of bare writes",
                [percentile(taken, 0.5) / percentile(floor, 0.5) for taken, floor in zip(ours, bare, strict=True)],
                f"{milliseconds([one for taken in ours for one in taken])}; "
                f"{served.vault_path.stat().st_size / 1e6:.2f} MB in {percentile(bare[-1], 0.5) * 1000:.2f} ms bare",
            )


def measure_due(_broker: Broker) -> Iterator[Figure]:
    """Yield the time of ten thousand rotations due at one instant, against signing as many lines."""
    with closing(saving_by_the_second().start()) as broker:
        yield _due(broker)


def _due(broker: Broker) -> Figure:
    key = Ed25519PrivateKey.generate()
    prefix = "bench/due"
    due_at_ms = time.time_ns() // 1_000_000 + DUE_IN_MS
    with daemon(secrets=DUE, bus=broker.url, prefix=prefix, due_at_ms=due_at_ms) as served:
        served.wait_bus()
        offset = time.time() - time.monotonic()
        with Listener("bare", broker.port, 1, DUE, "/rotated", f"{prefix}/secret/+/rotated") as told:
            _, before = served.api.get("/bus").position
            assert time.time() * 1000 < due_at_ms, "the daemon took too long to start for this measurement"
            waits: list[float] = []
            position, wanted = before, before + 1
            while position < wanted:
                started = time.monotonic()
                position = served.api.get("/bus").position[1]
                if time.time() * 1000 > due_at_ms - 50:
                    waits.append(time.monotonic() - started)
                time.sleep(0.01)
            in_force = time.time() - due_at_ms / 1000
            published = max(told.line()) + offset - due_at_ms / 1000
    signing = min(timed(lambda: [key.sign(LINE) for _ in range(DUE)], 2))
    return Figure(
        f"{DUE:,} rotations due at once, of bare signing",
        [in_force / signing],
        f"in force after {in_force:.2f} s, the last event told after {published:.2f} s; signing alone {signing:.2f} s; "
        f"the longest that another request waited: {max(waits) * 1000:.0f} ms",
    )


def _bare(served: Daemon) -> float:
    data = served.vault_path.read_bytes()
    started = time.perf_counter()
    files.replace(served.directory / "bare", data)
    synced_append(served.directory / "lines", LINE)
    return time.perf_counter() - started

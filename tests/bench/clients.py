"""Both clients side by side: cached reads, and from a rotation request to the dropped cache in another process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.bench import cached
from tests.bench.listener import Listener
from tests.bench.places import daemon
from tests.bench.report import Figure, milliseconds, percentile
from tests.bench.rotation import Rotator
from tests.support.broker import Broker

ROOT: Final = Path(__file__).resolve().parents[2]
ROUNDS: Final = 10
ROTATIONS_A_ROUND: Final = 20
READ_ROUNDS: Final = 7
READS: Final = 400_000
NAME: Final = "postgres_password"


def measure(broker: Broker) -> Iterator[Figure]:
    """Yield the figures; says why, and yields none of Rust's, where that client can't be built here."""
    program = _rust()
    if program is None:
        return
    with daemon(secrets=2 * ROTATIONS_A_ROUND, bus=broker.url, prefix="bench/clients") as served:
        served.wait_bus()
        served.api.create(NAME, "hunter2hunter2")
        python, rust = cached.rates(served), _rust_rates(program, served.port)
        ratio = percentile(rust, 0.5) / percentile(python, 0.5)
        yield Figure("cached reads a second: Python", python, "`get_secret` of the sync client", unit="/s")
        yield Figure("cached reads a second: Rust", rust, f"`get`, awaited; {ratio:.1f} of Python's", unit="/s")

        names = [f"n{number}" for number in range(2 * ROTATIONS_A_ROUND)]
        ours, theirs = names[::2], names[1::2]
        took: dict[str, list[list[float]]] = {"Python": [], "Rust": []}
        rotator = Rotator(served)
        # Both listen all the time, each to secrets of its own, and rotations go to them in turns.
        with (
            Listener("client", served.port, *ours) as first,
            Listener("follow", served.port, *theirs, program=[str(program)]) as second,
        ):
            for _ in range(ROUNDS):
                took["Python"].append([])
                took["Rust"].append([])
                for one, other in zip(ours, theirs, strict=True):
                    began = rotator.rotate(one)
                    took["Python"][-1].append(first.line() - began)
                    began = rotator.rotate(other)
                    took["Rust"][-1].append(second.line() - began)
        rotator.close()
    for client, rounds in took.items():
        every = [one for taken in rounds for one in taken]
        middles = [percentile(taken, 0.5) * 1000 for taken in rounds]
        yield Figure(f"rotation to dropped cache: {client}", middles, milliseconds(every), unit="ms")


def _rust_rates(program: Path, port: int) -> list[float]:
    command = [str(program), "cached", str(port), NAME, str(READ_ROUNDS), str(READS)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return [float(line) for line in done.stdout.split()]


def _rust() -> Path | None:
    """Build the Rust client's half; return where it is, None where cargo or its crates can't be had (which is said)."""
    done = subprocess.run([ROOT / "tools/rust-client", "listener"], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == 0:
        return Path(done.stdout.strip())
    sys.stderr.write("the clients are not compared: the Rust one can't be built here (see above)\n")
    return None

"""A figure: rounds of measurements, their median and spread, and whether the goal is met."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


@dataclass(frozen=True)
class Figure:
    """One line of the report. `rounds` are the ratios (or plain values), one a round; `detail` says of what."""

    name: str
    rounds: Sequence[float]
    detail: str
    at_least: float | None = None
    at_most: float | None = None
    unit: str = "×"

    @property
    def median(self) -> float:
        """The middle round."""
        return statistics.median(self.rounds)

    @property
    def met(self) -> bool | None:
        """Whether the middle round reaches the goal; None without one."""
        if self.at_least is not None:
            return self.median >= self.at_least
        return None if self.at_most is None else self.median <= self.at_most

    def line(self) -> str:
        """Return the figure as the report prints it."""
        goal = "no goal"
        if self.at_least is not None:
            goal = f"goal ≥ {number(self.at_least)}"
        elif self.at_most is not None:
            goal = f"goal ≤ {number(self.at_most)}"
        verdict = {None: "", True: "met", False: "NOT MET"}[self.met]
        spread = f"({number(min(self.rounds))}..{number(max(self.rounds))}, {len(self.rounds)} rounds)"
        value = f"{number(self.median):>9} {self.unit:<4} {spread:<32}"
        return f"{self.name:<44} {value} {goal:<16} {verdict:<8} {self.detail}"


def number(value: float) -> str:
    """Return a number with three digits that count."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` of `values` lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def milliseconds(values: Sequence[float]) -> str:
    """Return the median and the 99th percentile of seconds, in ms."""
    return f"p50 {percentile(values, 0.5) * 1000:.2f} ms, p99 {percentile(values, 0.99) * 1000:.2f} ms"


def synced_append(path: Path, data: bytes) -> float:
    """Return the seconds that an append with fdatasync takes."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        started = time.perf_counter()
        os.write(descriptor, data)
        os.fdatasync(descriptor)
        return time.perf_counter() - started
    finally:
        os.close(descriptor)


def machine() -> str:
    """Return how steady the machine is right now: the same work again and again."""
    key = Ed25519PrivateKey.generate()

    def sign() -> None:
        for _ in range(200):
            key.sign(b"x" * 600)

    signs = [seconds / 200 for seconds in timed(sign, 25)]
    with tempfile.TemporaryDirectory() as folder:
        syncs = [synced_append(Path(folder) / "file", b"x" * 600) for _ in range(100)]
    return (
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; "
        f"an Ed25519 signature {min(signs) * 1e6:.0f}..{max(signs) * 1e6:.0f} µs (median "
        f"{statistics.median(signs) * 1e6:.0f}); append and fdatasync {milliseconds(syncs)}"
    )


def timed(work: Callable[[], object], rounds: int) -> list[float]:
    """Return the seconds that `work` takes, each time."""
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return taken

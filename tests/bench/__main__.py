"""Measures and prints: `python -m tests.bench [FIGURE…]`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator

from tests.bench import cached, clients, commits, reads, rotation, starting
from tests.bench.report import Figure, machine
from tests.support.broker import Broker

FIGURES: dict[str, Callable[[Broker], Iterator[Figure]]] = {
    "reads": reads.measure,
    "rotation": rotation.measure,
    "fanout": rotation.measure_fanout,
    "cached": cached.measure,
    "clients": clients.measure,
    "start": starting.measure,
    "commits": commits.measure,
    "due": commits.measure_due,
}


def main(names: list[str]) -> int:
    """Measure `names`, all without any; return 0, or 2 for a name that isn't one."""
    unknown = [name for name in names if name not in FIGURES]
    if unknown:
        _say(f"there is no {', '.join(unknown)}; measured can be {', '.join(FIGURES)}")
        return 2
    started = time.monotonic()
    _say(f"the machine: {machine()}")
    missed = 0
    for name in names or FIGURES:
        broker = Broker().start()
        try:
            for figure in FIGURES[name](broker):
                _say(figure.line())
                missed += figure.met is False
        finally:
            broker.close()
    _say(f"the machine afterwards: {machine()}")
    _say(f"{missed} goals not met; {time.monotonic() - started:.0f} s; docs/performance.md says what limits each")
    return 0


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 — the report


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Lines of a log, and files of them."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

from secretsd_bus import Chain, Event, SigningKey, rfc3339

from tests.unit.support.clock import START_MS
from tests.vectors.event_vectors import key

KEY = key(1)
LOG_ID = "log"


def chain(key: SigningKey = KEY, *, log_id: str = LOG_ID) -> Chain:
    return Chain(log_id=log_id, node="pi", key=key)


def lines(count: int, log: Chain | None = None, *, size: int = 0) -> list[Event]:
    """Return events a second apart, from START_MS on, each with `size` bytes of filling."""
    log = log or chain()
    return [
        log.append("secret.read", "name", {"filling": "x" * size}, rfc3339(START_MS + (log.sequence + 1) * 1000))
        for _ in range(count)
    ]


def joined(part: Sequence[Event | bytes]) -> bytes:
    return b"".join((line.raw if isinstance(line, Event) else line) + b"\n" for line in part)


def write(path: Path, part: Sequence[Event | bytes]) -> Path:
    """Write the lines into the file, packed where its name ends in .gz."""
    data = joined(part)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path

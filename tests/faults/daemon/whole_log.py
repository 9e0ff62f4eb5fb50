"""The log with all its rotated files, read as an outsider does: ordered, repeats taken as one, verified."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path

from secretsd_bus import Event, KeyRing, verify_line

from tests.support.log import ZERO_HASH, hash_of


def events_of(files: Iterable[Path], keys: KeyRing) -> list[Event]:
    """Return every event of the log in `files`, plain or .gz, in order.

    Fails where a line is torn, is signed wrongly, contradicts another of its sequence, or where the chain has a hole.
    It must begin with the log's first line.
    """
    lines: dict[int, bytes] = {}
    for file in files:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        assert not content or content.endswith(b"\n"), f"{file} ends in a torn line"
        for line in content.splitlines():
            sequence = int(json.loads(line)["sequence"])
            assert lines.setdefault(sequence, line) == line, f"two lines say that they are {sequence}"
    events: list[Event] = []
    previous = ZERO_HASH
    for number, sequence in enumerate(sorted(lines), start=1):
        assert sequence == number, f"line {number} is missing, the next one there is {sequence}"
        event = verify_line(lines[sequence], keys)
        assert event.prev == previous, f"the chain breaks at {sequence}"
        previous = hash_of(lines[sequence])
        events.append(event)
    return events


def in_folder(folder: Path, name: str = "audit.jsonl") -> list[Path]:
    """Return the log's files in `folder`."""
    return sorted(path for path in folder.glob(f"{name}*") if path.is_file())

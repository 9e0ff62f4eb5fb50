"""Reading an audit log as an outsider does: every signature, the whole chain, repeats taken as one."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from secretsd_bus import Event, KeyRing, VerifyKey, verify_line

ZERO_HASH = "A" * 43


def keyring(*public_keys: Path) -> KeyRing:
    """Return the keys of PEM files."""
    return KeyRing([VerifyKey.from_pem(path.read_bytes()) for path in public_keys])


def hash_of(line: bytes) -> str:
    """Return the base64url SHA-256 of a line, worked out without the code under test."""
    return base64.urlsafe_b64encode(hashlib.sha256(line).digest()).rstrip(b"=").decode()


def files_of(audit: Path) -> list[Path]:
    """Return a log's file and those that it was rotated into, beside it."""
    return sorted(path for path in audit.parent.glob(f"{audit.name}*") if path.is_file())


def verify_log(files: Iterable[Path], keys: KeyRing) -> list[Event]:
    """Return the events of a log, from files in any order, plain or .gz, after checking each signature and the chain.

    Fails where a line is torn, stands before an older one, is signed wrongly or contradicts another of its sequence,
    and where the chain has a hole. It must begin with the log's first line (43 A's); identical repeats count once.
    """
    lines: dict[int, bytes] = {}
    for file in files:
        _add(lines, file)
    events: list[Event] = []
    previous = ZERO_HASH
    for number, sequence in enumerate(sorted(lines), start=1):
        assert sequence == number, f"line {number} is missing, the next one there is {sequence}"
        event = verify_line(lines[sequence], keys)
        assert event.prev == previous, f"the chain breaks at {sequence}"
        assert event.raw == lines[sequence]
        previous = hash_of(lines[sequence])
        events.append(event)
    return events


def _add(lines: dict[int, bytes], file: Path) -> None:
    content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    assert not content or content.endswith(b"\n"), f"{file} ends in a torn line"
    newest = 0
    for line in content.splitlines():
        sequence = int(json.loads(line)["sequence"])
        assert sequence > newest or sequence in lines, f"{file}: line {sequence} stands behind line {newest}"
        assert lines.setdefault(sequence, line) == line, f"two lines say that they are {sequence}"
        newest = max(newest, sequence)

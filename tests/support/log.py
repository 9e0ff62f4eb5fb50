"""Reading an audit log as an outsider does: every signature, the whole chain, repeats taken as one."""

from __future__ import annotations

import base64
import hashlib
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


def verify_log(files: Iterable[Path], keys: KeyRing) -> list[Event]:
    """Return the events of a log, oldest file first, after checking each signature and the chain.

    The first line must be the log's first (43 A's); a line that repeats the one before it is skipped.
    """
    events: list[Event] = []
    previous = ZERO_HASH
    last = b""
    for file in files:
        content = file.read_bytes()
        assert not content or content.endswith(b"\n"), f"{file} ends in a torn line"
        for line in content.splitlines():
            if line == last:
                continue
            event = verify_line(line, keys)
            assert event.prev == previous, f"{file}: the chain breaks at sequence {event.sequence}"
            assert not events or event.sequence == (events[-1].sequence or 0) + 1, event.sequence
            assert event.raw == line
            events.append(event)
            previous = hash_of(line)
            last = line
    return events

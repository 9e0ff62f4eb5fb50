"""audit.pruned.json: what was removed from the front of the log on purpose, so that the rest stays proven.

Signed by the log's key (docs/audit.md). No record makes a log whole that lacks lines which it doesn't tell of.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct
from secretsd_bus import KeyRing, Refused, SigningKey, verify_line

from secretsd import files
from secretsd.audit import signed
from secretsd.audit.signed import NotSigned, Signed

PRUNED_NAME: Final = "audit.pruned.json"
KIND: Final = "audit-pruned"


class Pruning(Struct, frozen=True, forbid_unknown_fields=True):
    """One removal: when, older than what, and which lines (all inclusive)."""

    at: str
    before: str
    first: int
    last: int


class Pruned(Struct, frozen=True, forbid_unknown_fields=True):
    """All that was ever removed: the lines up to `last`, whose hash is `head`.

    `key_rotations` are those of the removed lines that introduced a signing key, as they stood, oldest first.
    """

    log_id: str
    last: Annotated[int, Meta(ge=1)]
    head: str
    key_rotations: tuple[str, ...]
    prunings: tuple[Pruning, ...]
    format: Literal[1] = 1


@dataclass(frozen=True, slots=True)
class Found:
    """A record that was read, its signature not yet checked."""

    path: Path
    record: Pruned
    document: Signed

    def introduce(self, ring: KeyRing) -> None:
        """Let `ring` follow the keys that the removed lines introduced, from the first that it knows on."""
        for line in self.record.key_rotations:
            try:
                ring.follow(verify_line(line.encode(), ring))
            except Refused:
                continue


def beside(audit_path: Path) -> Found | None:
    """Return the record beside a log; None where nothing was pruned. Raises NotSigned, OSError."""
    path = audit_path.with_name(PRUNED_NAME)
    try:
        data = files.read_regular(path)
    except FileNotFoundError:
        return None
    document = signed.decode(KIND, data)
    try:
        record = msgspec.convert(dict(document.members), Pruned)
    except msgspec.ValidationError as error:
        raise NotSigned("it is no record of a pruning of this format") from error
    return Found(path, record, document)


def save(audit_path: Path, record: Pruned, key: SigningKey) -> Path:
    """Replace the record beside the log, durably; return its path. Raises OSError."""
    path = audit_path.with_name(PRUNED_NAME)
    files.replace(path, signed.encode(KIND, record, key))
    return path

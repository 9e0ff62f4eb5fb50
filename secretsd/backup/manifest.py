"""manifest.json: what a backup holds, and how far vault and log were; signed by the log's key (docs/backup.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct
from secretsd_bus import KeyRing, SigningKey

from secretsd.audit import signed
from secretsd.audit.signed import NotSigned, Signed
from secretsd.errors import BackupError

KIND: Final = "backup"
FORMAT: Final = 1

MANIFEST: Final = "manifest.json"
VAULT: Final = "vault.json"
CURSOR: Final = "vault.json.bus"
SIGN_KEY: Final = "audit.sign.key"
SIGN_PUB: Final = "audit.sign.pub"
PAST_KEYS: Final = "audit.keys.json"
PRUNED: Final = "audit.pruned.json"
CONFIG: Final = "config.toml"
POLICY: Final = "policy.yaml"
LOG: Final = "audit.jsonl"

ORDER: Final = (MANIFEST, VAULT, CURSOR, SIGN_KEY, SIGN_PUB, PAST_KEYS, PRUNED, CONFIG, POLICY, LOG)
"""The members of an archive, in the order in which they stand."""

REQUIRED: Final = frozenset({VAULT, SIGN_KEY, SIGN_PUB, LOG})

_Count = Annotated[int, Meta(ge=0)]


class Part(Struct, frozen=True, forbid_unknown_fields=True):
    """A member: `size` in bytes, `sha256` in hex."""

    size: _Count
    sha256: str


class Checkpoint(Struct, frozen=True, forbid_unknown_fields=True):
    """How far vault and log were. `first` is the log's first sequence in this backup; 0 with no line at all."""

    epoch: str
    generation: _Count
    log_id: str
    first: _Count
    sequence: _Count
    head: str


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """What a backup says of itself."""

    format: Literal[1]
    created_at: str
    version: str
    node: str
    vault_id: str
    checkpoint: Checkpoint
    files: dict[str, Part]


@dataclass(frozen=True, slots=True)
class Read:
    """A manifest that was read, its signature not yet checked."""

    manifest: Manifest
    _document: Signed

    def check(self, ring: KeyRing) -> None:
        """Return when a key of `ring` signed it. Raises BackupError."""
        try:
            self._document.check(ring)
        except NotSigned as error:
            raise BackupError(f"{MANIFEST}: {error}") from error


def encode(manifest: Manifest, key: SigningKey) -> bytes:
    """Return the bytes of manifest.json."""
    return signed.encode(KIND, manifest, key)


def decode(data: bytes) -> Read:
    """Return the manifest in `data`. Raises BackupError when it isn't one of this format."""
    try:
        document = signed.decode(KIND, data)
        if document.members.get("format") != FORMAT:
            raise BackupError(
                f"{MANIFEST} has format {document.members.get('format')} and this secretsctl knows {FORMAT}: take the "
                "version that made the backup"
            )
        manifest = msgspec.convert(dict(document.members), Manifest)
    except NotSigned as error:
        raise BackupError(f"{MANIFEST}: {error}") from error
    except msgspec.ValidationError as error:
        raise BackupError(f"{MANIFEST} is no manifest of a backup: a member is missing, or of another type") from error
    unknown, missing = manifest.files.keys() - set(ORDER[1:]), REQUIRED - manifest.files.keys()
    if unknown or missing:
        raise BackupError(f"{MANIFEST} names other files than a backup has")
    return Read(manifest, document)

"""The keys of one vault, and how a document moves from one set of them to the next (docs/vault.md)."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from msgspec.structs import replace
from secretsd_bus import b64url_encode, canonical

from secretsd.crypto.derive import derive
from secretsd.crypto.sealing import ValueSealer, associated_data
from secretsd.crypto.sensitive import Sensitive
from secretsd.model import Encoding
from secretsd.vault.document import (
    FORMAT,
    FORMAT_ROTATED,
    Codec,
    Document,
    SealedKey,
    SecretRecord,
    VersionRecord,
)

KID_BYTES: Final = 16


def new_id() -> str:
    """Return 128 random bits as 22 characters of base64url: a kid, an epoch, the id of a vault, a log or a data key."""
    return b64url_encode(secrets.token_bytes(KID_BYTES))


@dataclass(frozen=True, slots=True, eq=False)
class VaultKeys:
    """What opens and seals one vault: derived from a master key and the id of a data key.

    `fingerprint` is the key of the receipts; a rotation takes it along, since a request that was answered before must
    be known again after it.
    """

    master: Sensitive
    vault_id: str
    data_key: str | None
    codec: Codec
    sealer: ValueSealer
    fingerprint: Sensitive

    @classmethod
    def opening(cls, data: bytes, path: Path, master: Sensitive) -> tuple[VaultKeys, Document]:
        """Return the keys and the document in the bytes of a vault. Raises VaultError when it isn't this key's."""
        preamble = Codec.preamble(data, path)
        codec = Codec(derive(master, "vault-mac", preamble.vault_id, preamble.data_key))
        document = codec.decode(data, path)
        return cls.of(master, document, codec), document

    @classmethod
    def of(cls, master: Sensitive, document: Document, codec: Codec | None = None) -> VaultKeys:
        """Return the keys of `document`; take `codec` where it has encoded this document: it remembers the pieces.

        Raises SealError when the key of the receipts was sealed under another key.
        """
        vault_id, data_key = document.vault_id, document.data_key
        sealer = ValueSealer(derive(master, "value", vault_id, data_key))
        kept = document.fingerprint_key
        fingerprint = (
            derive(master, "request-fingerprint", vault_id)
            if kept is None
            else sealer.open(kept.nonce, kept.ciphertext, _fingerprint_context(vault_id))
        )
        codec = codec or Codec(derive(master, "vault-mac", vault_id, data_key))
        return cls(master, vault_id, data_key, codec, sealer, fingerprint)

    def successor(self, master: Sensitive | None = None) -> VaultKeys:
        """Return the next keys: under a new data key, and another master key where one is given."""
        master, data_key = master or self.master, new_id()
        return VaultKeys(
            master,
            self.vault_id,
            data_key,
            Codec(derive(master, "vault-mac", self.vault_id, data_key)),
            ValueSealer(derive(master, "value", self.vault_id, data_key)),
            self.fingerprint,
        )

    def seal(self, name: str, version: int, value: Sensitive, encoding: Encoding, now_ms: int) -> VersionRecord:
        """Return a new version of the secret `name`, under a new kid."""
        kid = new_id()
        nonce, ciphertext = self.sealer.seal(value, self._context(name, version, kid))
        return VersionRecord(version, kid, now_ms, encoding, nonce, ciphertext)

    def open(self, name: str, version: VersionRecord) -> Sensitive:
        """Return a version's value. Raises SealError when it was altered or moved, or is under other keys."""
        return self.sealer.open(version.nonce, version.ciphertext, self._context(name, version.version, version.kid))

    def taken_over(self, document: Document, old: VaultKeys) -> Document:
        """Return `document` with every value opened by `old` and sealed by these keys; a few µs each.

        Kids, versions and times stay: nothing has changed for who reads. Raises SealError when a value doesn't open.
        """
        records = {name: self._record_taken_over(name, record, old) for name, record in document.secrets.items()}
        sealed = self.sealer.seal(self.fingerprint, _fingerprint_context(self.vault_id))
        return replace(document, secrets=records, data_key=self.data_key, fingerprint_key=SealedKey(*sealed))

    def _record_taken_over(self, name: str, record: SecretRecord, old: VaultKeys) -> SecretRecord:
        taken_over = replace(record, versions=tuple(self._taken_over(name, one, old) for one in record.versions))
        pending, upcoming = record.under_way, record.published_ahead
        if upcoming is not None:
            taken_over = replace(taken_over, upcoming=self._taken_over(name, upcoming, old))
        if pending is None:
            return taken_over
        return replace(taken_over, pending=replace(pending, version=self._taken_over(name, pending.version, old)))

    def _taken_over(self, name: str, version: VersionRecord, old: VaultKeys) -> VersionRecord:
        context = self._context(name, version.version, version.kid)
        nonce, ciphertext = self.sealer.seal(old.open(name, version), context)
        return replace(version, nonce=nonce, ciphertext=ciphertext)

    def _context(self, name: str, version: int, kid: str) -> bytes:
        return associated_data(
            document_format=FORMAT if self.data_key is None else FORMAT_ROTATED,
            vault_id=self.vault_id,
            name=name,
            version=version,
            kid=kid,
        )


def _fingerprint_context(vault_id: str) -> bytes:
    """Return the associated data of the receipts' key: three members, where those of a value have five."""
    return canonical.encode([FORMAT_ROTATED, vault_id, "request-fingerprint"])

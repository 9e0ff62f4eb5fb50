"""The vault: the document that is in force, and the values in it."""

from __future__ import annotations

import secrets
from pathlib import Path

from secretsd_bus import b64url_encode

from secretsd.crypto.derive import derive
from secretsd.crypto.sealing import ValueSealer, associated_data
from secretsd.crypto.sensitive import Sensitive
from secretsd.model import Encoding
from secretsd.vault import store
from secretsd.vault.document import FORMAT, AuditMark, Codec, Document, PolicyMark, VersionRecord

KID_BYTES = 16


def new_id() -> str:
    """Return 128 random bits as 22 characters of base64url: a kid, an epoch, the id of a vault or a log."""
    return b64url_encode(secrets.token_bytes(KID_BYTES))


def empty_document(*, log_id: str, head: str, policy_sha256: str) -> Document:
    """Return the first document of a new vault: generation 0 of a new epoch, an audit log without a line."""
    return Document(
        vault_id=new_id(),
        epoch=new_id(),
        generation=0,
        audit=AuditMark(log_id, 0, head),
        policy=PolicyMark(policy_sha256, 0),
        secrets={},
    )


class Vault:
    """Holds the document in force and the keys to it.

    `document` is what readers see. A commit writes the next document first (`write`, in a thread) and makes it
    the one in force (`show`) when its audit lines are durable.
    """

    def __init__(self, path: Path, master: Sensitive, document: Document, codec: Codec | None = None) -> None:
        """Take `codec` where it has encoded this document already: it remembers the pieces."""
        self.path = path
        self.document = document
        self._codec = codec or Codec(derive(master, "vault-mac", document.vault_id))
        self._sealer = ValueSealer(derive(master, "value", document.vault_id))
        self.fingerprint_key = derive(master, "request-fingerprint", document.vault_id)

    @classmethod
    def load(cls, path: Path, master: Sensitive) -> Vault:
        """Return the vault in `path`. Raises VaultError when it isn't whole, or not this master key's."""
        data = store.read(path)
        vault_id = Codec.vault_id(data, path)
        codec = Codec(derive(master, "vault-mac", vault_id))
        return cls(path, master, codec.decode(data, path), codec)

    def encode(self, document: Document) -> bytes:
        """Return the bytes of vault.json for `document`; slow for a large one, and for one thread at a time."""
        return self._codec.encode(document)

    def write(self, data: bytes) -> None:
        """Put an encoded document on disk; blocks. Raises VaultWriteError or CommitUncertain."""
        store.write(self.path, data)

    def show(self, document: Document) -> None:
        """Make `document` the one that readers see."""
        self.document = document

    def seal(self, name: str, version: int, value: Sensitive, encoding: Encoding, now_ms: int) -> VersionRecord:
        """Return a new version of the secret `name`, under a new kid."""
        kid = new_id()
        nonce, ciphertext = self._sealer.seal(value, self._context(name, version, kid))
        return VersionRecord(version, kid, now_ms, encoding, nonce, ciphertext)

    def open(self, name: str, version: VersionRecord) -> Sensitive:
        """Return a version's value. Raises SealError when it was altered or moved."""
        return self._sealer.open(version.nonce, version.ciphertext, self._context(name, version.version, version.kid))

    def _context(self, name: str, version: int, kid: str) -> bytes:
        return associated_data(
            document_format=FORMAT, vault_id=self.document.vault_id, name=name, version=version, kid=kid
        )

"""The vault: the document that is in force, and the values in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from secretsd.crypto.sensitive import Sensitive
from secretsd.errors import VaultError
from secretsd.model import Encoding
from secretsd.vault import store
from secretsd.vault.document import AuditMark, Document, PolicyMark, VersionRecord
from secretsd.vault.keys import VaultKeys, new_id


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

    def __init__(self, path: Path, master: Sensitive, document: Document, keys: VaultKeys | None = None) -> None:
        """Take `keys` where the document was opened with them already."""
        self.path = path
        self.document = document
        self.keys = keys or VaultKeys.of(master, document)

    @classmethod
    def load(cls, path: Path, master: Sensitive | Sequence[Sensitive]) -> Vault:
        """Return the vault in `path`; of several master keys the first that it is under opens it.

        Raises VaultError when it isn't whole, or under none of them.
        """
        data = store.read(path)
        masters = [master] if isinstance(master, Sensitive) else master
        trouble: VaultError | None = None
        for one in masters:
            try:
                keys, document = VaultKeys.opening(data, path, one)
            except VaultError as error:
                trouble = trouble or error
            else:
                return cls(path, one, document, keys)
        raise trouble or VaultError(f"there is no master key to open {path} with")

    @property
    def fingerprint_key(self) -> Sensitive:
        """The key of the digests in `receipts`."""
        return self.keys.fingerprint

    def encode(self, document: Document, keys: VaultKeys | None = None) -> bytes:
        """Return the bytes of vault.json for `document`; slow for a large one, and for one thread at a time.

        `keys` are those that it is sealed with, where they aren't the ones in force.
        """
        return (keys or self.keys).codec.encode(document)

    def write(self, data: bytes) -> None:
        """Put an encoded document on disk; blocks. Raises VaultWriteError or CommitUncertain."""
        store.write(self.path, data)

    def show(self, document: Document, keys: VaultKeys | None = None) -> None:
        """Make `document` the one that readers see, and `keys` those that open it."""
        self.document = document
        self.keys = keys or self.keys

    def seal(self, name: str, version: int, value: Sensitive, encoding: Encoding, now_ms: int) -> VersionRecord:
        """Return a new version of the secret `name`, under a new kid."""
        return self.keys.seal(name, version, value, encoding, now_ms)

    def open(self, name: str, version: VersionRecord) -> Sensitive:
        """Return a version's value. Raises SealError when it was altered or moved."""
        return self.keys.open(name, version)

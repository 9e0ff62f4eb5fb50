"""One value, sealed alone: AES-256-GCM with its place in the vault as associated data (docs/vault.md)."""

from __future__ import annotations

import secrets
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from secretsd_bus import b64url_decode, b64url_encode, canonical

from secretsd.crypto.sensitive import Sensitive
from secretsd.errors import SealError

NONCE_BYTES: Final = 12


@lru_cache(maxsize=1024)
def associated_data(*, document_format: int, vault_id: str, name: str, version: int, kid: str) -> bytes:
    """Return the canonical JSON array that binds a ciphertext to its place: moved elsewhere it doesn't open."""
    return canonical.encode([document_format, vault_id, name, version, kid])


class ValueSealer:
    """Seals and opens values under one vault's value key."""

    def __init__(self, key: Sensitive) -> None:
        self._aead = AESGCM(key.reveal())

    def seal(self, value: Sensitive, context: bytes) -> tuple[str, str]:
        """Return nonce and ciphertext with tag, both base64url, for `value` under the associated data `context`.

        The nonce is unique because it is 96 fresh random bits and the key seals fewer than 2**32 values
        in its life (NIST SP 800-38D, 8.3): a hundred rotations a second would take over a year.
        """
        nonce = secrets.token_bytes(NONCE_BYTES)
        return b64url_encode(nonce), b64url_encode(self._aead.encrypt(nonce, value.reveal(), context))

    def open(self, nonce: str, ciphertext: str, context: bytes) -> Sensitive:
        """Return the value. Raises SealError when key, ciphertext or `context` isn't what it was sealed with."""
        try:
            return Sensitive(self._aead.decrypt(b64url_decode(nonce), b64url_decode(ciphertext), context))
        except (InvalidTag, ValueError) as error:
            raise SealError("a sealed value doesn't open: it was altered, moved or sealed under another key") from error

"""Ed25519 keys of events: signing, verifying, and the ring of keys that a reader trusts."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

import rfc8785
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

if TYPE_CHECKING:
    from secretsd_bus.events import Event


def b64url_encode(data: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def b64url_decode(text: str) -> bytes:
    """Return the bytes of unpadded base64url.

    Raises ValueError for padding, foreign characters and unused bits that aren't zero: one value, one text.
    """
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise ValueError("not unpadded base64url") from None
    # Python's decoder passes over what it doesn't know; then the way back gives another text.
    if b64url_encode(data) != text:
        raise ValueError("not unpadded base64url")
    return data


class VerifyKey:
    """A public key. Two are equal when their 32 bytes are."""

    __slots__ = ("_key", "_raw", "keyid")

    def __init__(self, raw: bytes) -> None:
        """Take the 32 raw bytes; raise ValueError for another length."""
        self._key = Ed25519PublicKey.from_public_bytes(raw)
        self._raw = raw
        self.keyid = hashlib.sha256(raw).hexdigest()[:16]
        """The first 16 hex digits of the SHA-256 of the raw key (docs/events.md)."""

    @classmethod
    def from_pem(cls, pem: bytes) -> Self:
        """Read a PEM `PUBLIC KEY`; raise ValueError for anything but Ed25519."""
        try:
            key = serialization.load_pem_public_key(pem)
        except (ValueError, UnsupportedAlgorithm):
            raise ValueError("not a PEM public key") from None
        if not isinstance(key, Ed25519PublicKey):
            raise ValueError("not an Ed25519 key")  # noqa: TRY004 — the input is bytes
        return cls(key.public_bytes_raw())

    @classmethod
    def from_jwk(cls, jwk: Mapping[str, Any]) -> Self:
        """Read a JWK (RFC 8037); raise ValueError for another kind of key or a `kid` that isn't the key's."""
        x = jwk.get("x")
        if jwk.get("kty") != "OKP" or jwk.get("crv") != "Ed25519" or not isinstance(x, str):
            raise ValueError("not the JWK of an Ed25519 key")
        key = cls(b64url_decode(x))
        if jwk.get("kid", key.keyid) != key.keyid:
            raise ValueError("the JWK's kid is not that of its key")
        return key

    def to_pem(self) -> bytes:
        """Return the key as PEM `PUBLIC KEY`, as openssl reads it."""
        return self._key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    def to_jwk(self) -> dict[str, str]:
        """Return the key as a JWK."""
        return {
            "kty": "OKP",
            "crv": "Ed25519",
            "x": b64url_encode(self._raw),
            "kid": self.keyid,
            "use": "sig",
            "alg": "EdDSA",
        }

    def verify(self, signature: bytes, data: bytes) -> bool:
        """Tell whether `signature` is this key's over `data`."""
        try:
            self._key.verify(signature, data)
        except InvalidSignature:
            return False
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VerifyKey) and self._raw == other._raw

    def __hash__(self) -> int:
        return hash(self._raw)

    def __repr__(self) -> str:
        return f"VerifyKey({self.keyid})"


class SigningKey:
    """A private key. Its representation shows the public half's id only."""

    __slots__ = ("_key", "public")

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = VerifyKey(key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls) -> Self:
        """Make a new key from the system's randomness."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, pem: bytes) -> Self:
        """Read a PEM `PRIVATE KEY` (PKCS#8, not encrypted); raise ValueError for anything but Ed25519."""
        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            # Not chained: nothing of a private key's text belongs into a traceback.
            raise ValueError("not an unencrypted PEM private key") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError("not an Ed25519 key")  # noqa: TRY004 — the input is bytes
        return cls(key)

    def to_pem(self) -> bytes:
        """Return the key as unencrypted PKCS#8 PEM: for a file of mode 0600."""
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    @property
    def keyid(self) -> str:
        """The id of the public half."""
        return self.public.keyid

    def sign(self, data: bytes) -> bytes:
        """Return the 64 bytes of the signature over `data` (deterministic: Ed25519 takes no randomness)."""
        return self._key.sign(data)

    def __repr__(self) -> str:
        return f"SigningKey({self.keyid})"


class KeyRing:
    """The keys that a reader trusts, by id."""

    def __init__(self, keys: Iterable[VerifyKey] = ()) -> None:
        self._keys = {key.keyid: key for key in keys}

    def get(self, keyid: str) -> VerifyKey | None:
        """Return the trusted key of this id, None when there is none."""
        return self._keys.get(keyid)

    def add(self, key: VerifyKey) -> None:
        """Trust `key` from now on."""
        self._keys[key.keyid] = key

    def follow(self, event: Event) -> VerifyKey | None:
        """Trust and return the new key of a verified `audit.key_rotated`; None when there is none to follow.

        The event must be signed by a key of this ring (a Verifier on this ring has checked that), and its
        `proof` by the new key over the canonical bytes of `jwk`: nobody introduces a key they don't hold.
        """
        if event.type != "audit.key_rotated" or event.keyid not in self._keys:
            return None
        jwk, proof = event.data.get("jwk"), event.data.get("proof")
        if not isinstance(jwk, dict) or not isinstance(proof, str):
            return None
        try:
            key = VerifyKey.from_jwk(jwk)
            signature = b64url_decode(proof)
        except ValueError:
            return None
        if not key.verify(signature, rfc8785.dumps(jwk)):
            return None
        self.add(key)
        return key

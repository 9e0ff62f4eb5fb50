"""New values by type, and the forms in which an Ed25519 signing key may come (docs/http.md)."""

from __future__ import annotations

import base64
import binascii
import json
import secrets
import string
from typing import Final, Literal

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from secretsd_bus import b64url_decode, b64url_encode

from secretsd.crypto.sensitive import Sensitive
from secretsd.model import SecretType

# Letters and digits only: they survive shells, URLs, .env files and connection strings unquoted. 64 of them hold
# 381 bits, 32 hold 190.
ALPHABET: Final = string.ascii_letters + string.digits
PASSWORD_LENGTH: Final = 64
API_KEY_LENGTH: Final = 32
KEY_BYTES: Final = 32

KeyForm = Literal["pem", "base64", "jwk"]
_JWK_KEPT: Final = ("alg", "use", "key_ops", "ext")
"""What says how a key is used. Other members name the key itself (kid, x5t …): they don't fit the next one."""


class _Jwk(msgspec.Struct, frozen=True):
    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    d: str
    x: str


def generate(kind: SecretType, like: Sensitive | None = None) -> Sensitive:
    """Return a new value for a secret of type `kind`; a signing key in the form of `like`, else PKCS#8 PEM.

    Raises ValueError for `external`, which is issued elsewhere.
    """
    match kind:
        case "password":
            return Sensitive(_text(PASSWORD_LENGTH))
        case "api_key":
            return Sensitive(_text(API_KEY_LENGTH))
        case "encryption_key":
            return Sensitive(base64.b64encode(secrets.token_bytes(KEY_BYTES)))
        case "generic":
            return Sensitive(b64url_encode(secrets.token_bytes(KEY_BYTES)).encode("ascii"))
        case "jwt_signing_key":
            if like is None:
                return Sensitive(_write_key(Ed25519PrivateKey.generate(), "pem", b""))
            return Sensitive(_key_like(like))
        case "external":
            raise ValueError("an external secret is issued elsewhere: its value must be given")


def check_supplied(kind: SecretType, value: Sensitive) -> None:
    """Raise ValueError, with what is allowed, when `value` can't be a secret of type `kind`.

    Only a signing key has a form to keep; lengths are for generation, never for judging a supplied value.
    """
    if kind == "jwt_signing_key":
        _read_key(value)
        _check_alone(value.reveal().strip())


def _check_alone(data: bytes) -> None:
    """Refuse what readers may take for different keys: the first or the last of several. What is kept isn't judged."""
    if data.count(b"-----BEGIN") > 1:
        raise ValueError("a jwt_signing_key is one key, and this is several PEM blocks; give the private key's alone")
    if data.startswith(b"{") and _has_doubled_members(data):
        raise ValueError("a JWK has each member once, and in this one a member is there twice")


def _has_doubled_members(data: bytes) -> bool:
    doubled = False

    def look(members: list[tuple[str, object]]) -> None:
        nonlocal doubled
        doubled = doubled or len(dict(members)) < len(members)

    try:
        json.loads(data, object_pairs_hook=look, parse_int=str)
    except (ValueError, RecursionError):
        raise ValueError(_KEY_FORMS) from None  # their messages can quote what they found
    return doubled


def public_jwk(value: Sensitive, kid: str) -> dict[str, str]:
    """Return the public half of a signing key as a JWK (RFC 8037), named by the version's `kid`."""
    public = _read_key(value)[0].public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return {
        "kty": "OKP",
        "crv": "Ed25519",
        "use": "sig",
        "alg": "EdDSA",
        "kid": kid,
        "x": b64url_encode(public),
    }


def _text(length: int) -> bytes:
    """Return random characters of the alphabet, each as likely: random bytes that would favour some are left out.

    The kernel is asked for all at once; asking for each character takes as long as writing the vault.
    """
    letters = ALPHABET.encode("ascii")
    fair = 256 - 256 % len(letters)
    text = bytearray()
    while len(text) < length:
        text += bytes(letters[byte % len(letters)] for byte in secrets.token_bytes(length) if byte < fair)
    return bytes(text[:length])


def _read_key(value: Sensitive) -> tuple[Ed25519PrivateKey, KeyForm]:
    data = value.reveal().strip()
    try:
        if data.startswith(b"-----BEGIN"):
            key = load_pem_private_key(data, password=None)
            if isinstance(key, Ed25519PrivateKey):
                return key, "pem"
        elif data.startswith(b"{"):
            jwk = msgspec.json.decode(data, type=_Jwk)
            key = Ed25519PrivateKey.from_private_bytes(b64url_decode(jwk.d))
            if b64url_encode(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)) == jwk.x:
                return key, "jwk"
        else:
            padded = data.translate(bytes.maketrans(b"-_", b"+/")) + b"=" * (-len(data) % 4)
            seed = base64.b64decode(padded, validate=True)
            if len(seed) == KEY_BYTES:
                return Ed25519PrivateKey.from_private_bytes(seed), "base64"
    except (
        ValueError,
        TypeError,
        binascii.Error,
        UnsupportedAlgorithm,
        msgspec.MsgspecError,
        RecursionError,
    ) as error:
        raise ValueError(_KEY_FORMS) from error
    raise ValueError(_KEY_FORMS)


_KEY_FORMS: Final = (
    "a jwt_signing_key is an Ed25519 private key: PKCS#8 PEM without a passphrase, base64 of 32 bytes, or a JWK of kty "
    "OKP and crv Ed25519; for another kind of key choose another name or type"
)


def _key_like(like: Sensitive) -> bytes:
    """Return a new key that whoever reads `like` can read.

    A base64 text without any of `+/-_` doesn't say which alphabet its reader knows, so it is followed by one without
    them, every fourth key or so; two bits of 256 are nothing to whoever guesses.
    """
    before = like.reveal().strip()
    form = _read_key(like)[1]
    while True:
        text = _write_key(Ed25519PrivateKey.generate(), form, before)
        if form != "base64" or _has(before, b"+/-_") or not _has(text, b"+/-_"):
            return text


def _write_key(key: Ed25519PrivateKey, form: KeyForm, before: bytes) -> bytes:
    """Return `key` in `form`, with the alphabet and padding, or the members, that the key `before` has."""
    if form == "pem":
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    seed = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    if form == "base64":
        text = base64.urlsafe_b64encode(seed) if _has(before, b"-_") else base64.b64encode(seed)
        return text if before.endswith(b"=") else text.rstrip(b"=")
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    given = msgspec.json.decode(before)
    kept = {member: given[member] for member in _JWK_KEPT if member in given}
    return msgspec.json.encode(
        {"kty": "OKP", "crv": "Ed25519", **kept, "d": b64url_encode(seed), "x": b64url_encode(public)}
    )


def _has(text: bytes, characters: bytes) -> bool:
    return any(character in text for character in characters)

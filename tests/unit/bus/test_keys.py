from __future__ import annotations

import hashlib
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from secretsd_bus import (
    Chain,
    KeyRing,
    SigningKey,
    VerifyKey,
    b64url_decode,
    b64url_encode,
    canonical,
    key_rotated,
    verify_line,
)

TIME = "2026-11-23T17:00:00.123Z"


@given(st.binary())
def test_base64url_comes_back_as_it_went(data: bytes) -> None:
    text = b64url_encode(data)
    assert b64url_decode(text) == data
    assert "=" not in text


@pytest.mark.parametrize("text", ["=", "YQ==", "YR", "a", "a+b/", "Y Q", "YQ\n", "é", "YWJ\x00"])
def test_base64url_has_one_spelling(text: str) -> None:
    with pytest.raises(ValueError, match="base64url"):
        b64url_decode(text)


def test_a_key_comes_back_from_each_of_its_forms() -> None:
    key = SigningKey.generate()
    again = SigningKey.from_pem(key.to_pem())
    assert again.public == key.public
    assert VerifyKey.from_pem(key.public.to_pem()) == key.public
    assert VerifyKey.from_jwk(key.public.to_jwk()) == key.public
    assert len({again.public, key.public}) == 1
    assert key.to_pem().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert key.public.to_pem().startswith(b"-----BEGIN PUBLIC KEY-----")


def test_a_key_is_named_by_the_hash_of_its_raw_bytes() -> None:
    key = SigningKey.generate()
    raw = b64url_decode(key.public.to_jwk()["x"])
    assert key.keyid == key.public.keyid == hashlib.sha256(raw).hexdigest()[:16]


def test_a_signature_holds_for_its_bytes_and_its_key_alone() -> None:
    key = SigningKey.generate()
    signature = key.sign(b"data")
    assert key.public.verify(signature, b"data")
    assert not key.public.verify(signature, b"date")
    assert not key.public.verify(signature[:-1], b"data")
    assert not SigningKey.generate().public.verify(signature, b"data")


def test_no_representation_shows_a_private_key() -> None:
    key = SigningKey.generate()
    body = key.to_pem().splitlines()[1].decode()
    assert body not in repr(key)
    assert repr(key) == f"SigningKey({key.keyid})"


def test_a_key_of_another_kind_is_a_value_error() -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    exchange = x25519.X25519PrivateKey.generate()
    for public in (other.public_key(), exchange.public_key()):
        with pytest.raises(ValueError, match="Ed25519"):
            VerifyKey.from_pem(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(ValueError, match="Ed25519"):
        SigningKey.from_pem(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    locked = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    for pem in (b"", b"not a key", locked, b"-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n"):
        with pytest.raises(ValueError, match="PEM"):
            SigningKey.from_pem(pem)
        with pytest.raises(ValueError, match="PEM"):
            VerifyKey.from_pem(pem)


@pytest.mark.parametrize(
    "change",
    [{"kty": "EC"}, {"crv": "X25519"}, {"x": None}, {"x": 5}, {"x": "AAAA"}, {"x": "="}, {"kid": "0" * 16}],
    ids=str,
)
def test_a_jwk_that_is_not_one_of_ours_is_a_value_error(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        VerifyKey.from_jwk(SigningKey.generate().public.to_jwk() | change)


def rotation(old: SigningKey, data: dict[str, Any]) -> Any:
    return Chain(log_id="log", node="n", key=old).append("audit.key_rotated", None, data, TIME)


def test_a_rotated_key_is_followed_once_old_and_new_have_signed() -> None:
    old, new = SigningKey.generate(), SigningKey.generate()
    ring = KeyRing([old.public])
    event = verify_line(rotation(old, key_rotated(new)).raw, ring)
    assert ring.follow(event) == new.public
    assert ring.get(new.keyid) == new.public
    assert ring.get(old.keyid) == old.public


def test_nothing_else_makes_a_ring_trust_a_key() -> None:
    old, new, thief = SigningKey.generate(), SigningKey.generate(), SigningKey.generate()
    ring = KeyRing([old.public])
    good = key_rotated(new)
    jwk = thief.public.to_jwk()
    forged: list[dict[str, Any]] = [
        {},
        {"jwk": good["jwk"]},
        {"jwk": jwk, "proof": good["proof"]},
        {"jwk": jwk, "proof": b64url_encode(new.sign(canonical.encode(jwk)))},
        {"jwk": good["jwk"], "proof": "="},
        {"jwk": "text", "proof": good["proof"]},
        {"jwk": {}, "proof": good["proof"]},
    ]
    for data in forged:
        assert ring.follow(rotation(old, data)) is None
    assert ring.follow(rotation(thief, key_rotated(thief))) is None
    assert ring.follow(replace(rotation(old, good), type="secret.rotated")) is None
    assert ring.get(new.keyid) is None
    assert ring.get(thief.keyid) is None

from __future__ import annotations

import base64
import re

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from secretsd_bus import b64url_decode, b64url_encode

from secretsd.crypto.sensitive import Sensitive
from secretsd.model import SecretType
from secretsd.rotation.generate import check_supplied, generate, public_jwk

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SEED = KEY.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
PUBLIC = KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
JWK = msgspec.json.encode({"kty": "OKP", "crv": "Ed25519", "d": b64url_encode(SEED), "x": b64url_encode(PUBLIC)})


def text(kind: SecretType, like: bytes | None = None) -> str:
    return generate(kind, None if like is None else Sensitive(like)).reveal().decode()


@pytest.mark.parametrize(
    ("kind", "pattern"),
    [
        ("password", r"[A-Za-z0-9]{64}"),
        ("api_key", r"[A-Za-z0-9]{32}"),
        ("encryption_key", r"[A-Za-z0-9+/]{43}="),
        ("generic", r"[A-Za-z0-9_-]{43}"),
    ],
)
def test_a_generated_value_has_its_types_form_and_none_comes_twice(kind: SecretType, pattern: str) -> None:
    values = {text(kind) for _ in range(200)}
    assert len(values) == 200
    assert all(re.fullmatch(pattern, value) for value in values)


def test_keys_hold_32_bytes() -> None:
    assert len(base64.b64decode(text("encryption_key"))) == 32
    assert len(b64url_decode(text("generic"))) == 32


def test_passwords_use_the_whole_alphabet() -> None:
    assert len(set("".join(text("password") for _ in range(50)))) == 62


def test_a_new_signing_key_is_pkcs8_pem() -> None:
    assert isinstance(load_pem_private_key(generate("jwt_signing_key").reveal(), None), Ed25519PrivateKey)


@pytest.mark.parametrize("like", [PEM, b"\n" + PEM + b"\n", base64.b64encode(SEED), b64url_encode(SEED).encode(), JWK])
def test_a_rotation_keeps_the_form_of_a_signing_key_and_makes_another_key(like: bytes) -> None:
    new = generate("jwt_signing_key", Sensitive(like)).reveal()
    check_supplied("jwt_signing_key", Sensitive(new))
    assert public_jwk(Sensitive(new), "kid")["x"] != b64url_encode(PUBLIC)
    if like.strip().startswith(b"-----"):
        assert new.startswith(b"-----BEGIN PRIVATE KEY-----\n")
    elif like.startswith(b"{"):
        assert msgspec.json.decode(new).keys() == {"kty", "crv", "d", "x"}
    else:
        assert len(base64.b64decode(new + b"=" * (-len(new) % 4), altchars=b"-_")) == 32


URL_SEED = b"\xff\xfe\xfd" * 10 + b"\xfb\xff"


@pytest.mark.parametrize(
    ("like", "pattern"),
    [
        (base64.b64encode(URL_SEED), rb"[A-Za-z0-9+/]{43}="),
        (base64.b64encode(URL_SEED).rstrip(b"="), rb"[A-Za-z0-9+/]{43}"),
        (base64.urlsafe_b64encode(URL_SEED), rb"[A-Za-z0-9_-]{43}="),
        (b64url_encode(URL_SEED).encode(), rb"[A-Za-z0-9_-]{43}"),
        # It doesn't say which of the two its reader knows, so the next one doesn't either.
        (base64.b64encode(bytes(32)), rb"[A-Za-z0-9]{43}="),
        (b64url_encode(bytes(32)).encode(), rb"[A-Za-z0-9]{43}"),
    ],
)
def test_who_reads_one_base64_signing_key_reads_the_next(like: bytes, pattern: bytes) -> None:
    for _ in range(20):
        assert re.fullmatch(pattern, generate("jwt_signing_key", Sensitive(like + b"\n")).reveal())


def test_a_rotated_jwk_is_used_as_the_one_before_and_has_not_its_name() -> None:
    use = {"alg": "EdDSA", "use": "sig", "key_ops": ["sign"], "ext": True}
    before = {**msgspec.json.decode(JWK), **use, "kid": "mine", "x5t": "of-the-old-one"}
    after = msgspec.json.decode(generate("jwt_signing_key", Sensitive(msgspec.json.encode(before))).reveal())
    assert {member: after[member] for member in use} == use
    assert after.keys() == {"kty", "crv", "d", "x", *use}


@pytest.mark.parametrize("form", [PEM, base64.b64encode(SEED), JWK])
def test_the_public_half_is_a_jwk_of_the_versions_kid_without_the_private_one(form: bytes) -> None:
    jwk = public_jwk(Sensitive(form), "the-kid")
    assert jwk == {
        "kty": "OKP",
        "crv": "Ed25519",
        "use": "sig",
        "alg": "EdDSA",
        "kid": "the-kid",
        "x": b64url_encode(PUBLIC),
    }


def test_an_external_secret_is_never_generated() -> None:
    with pytest.raises(ValueError, match="issued elsewhere"):
        generate("external")


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"planted",
        b"{}",
        b"{" * 100_000,
        b'{"kty":"\xff"}',
        JWK.replace(b"Ed25519", b"Ed448"),
        JWK.replace(b64url_encode(PUBLIC).encode(), b64url_encode(bytes(32)).encode()),
        PEM[:60],
        PEM.replace(b"PRIVATE", b"PUBLIC"),
        base64.b64encode(SEED[:31]),
        base64.b64encode(SEED + b"x"),
        KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"planted")),
        generate_ec_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        b"-----BEGIN OPENSSH PRIVATE KEY-----\nplanted\n-----END OPENSSH PRIVATE KEY-----\n",
    ],
    ids=range(14),
)
def test_what_is_no_ed25519_key_is_refused_with_what_is_allowed_and_not_shown(value: bytes) -> None:
    with pytest.raises(ValueError, match="PKCS#8 PEM without a passphrase, base64 of 32 bytes, or a JWK") as refusal:
        check_supplied("jwt_signing_key", Sensitive(value))
    assert "planted" not in str(refusal.value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (PEM + PEM, "several PEM blocks"),
        (PEM + KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), "several PEM blocks"),
        (JWK.replace(b"{", b'{"d":"planted",', 1), "a member is there twice"),
        (JWK.replace(b"{", b'{"x5c":{"a":1,"a":2},', 1), "a member is there twice"),
    ],
)
def test_what_readers_may_take_for_different_keys_is_refused_with_what_is_wrong(value: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said) as refusal:
        check_supplied("jwt_signing_key", Sensitive(value))
    assert "planted" not in str(refusal.value)


@pytest.mark.parametrize("more", [b'{"n":1' + b"0" * 5000 + b",", b'{"n":[' + b"[" * 2000 + b"]" * 2000 + b"],"])
def test_other_members_of_a_key_are_never_quoted(more: bytes) -> None:
    try:
        check_supplied("jwt_signing_key", Sensitive(JWK.replace(b"{", more, 1)))
    except ValueError as refusal:
        assert str(refusal).startswith("a jwt_signing_key is an Ed25519 private key")  # noqa: PT017 — either is right


@pytest.mark.parametrize("kind", ["password", "api_key", "encryption_key", "generic", "external"])
def test_supplied_values_of_other_types_are_never_judged(kind: SecretType) -> None:
    for value in (b"x", b"\x00\xff", b"y" * 65_536):
        check_supplied(kind, Sensitive(value))

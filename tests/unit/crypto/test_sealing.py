from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from secretsd_bus import b64url_decode, b64url_encode

from secretsd.crypto.sealing import ValueSealer, associated_data
from secretsd.crypto.sensitive import Sensitive
from secretsd.errors import SealError
from tests.vectors import generate

VECTORS: dict[str, Any] = json.loads((generate.FOLDER / "sealing" / "values.json").read_text())
SEALER = ValueSealer(Sensitive(b"\x01" * 32))
PLACE: dict[str, Any] = {
    "document_format": 1,
    "vault_id": "vault",
    "name": "db_password",
    "version": 2,
    "kid": "k" * 22,
}
VALUE = Sensitive("geheim é".encode())


def test_a_value_opens_in_its_place() -> None:
    context = associated_data(**PLACE)
    assert SEALER.open(*SEALER.seal(VALUE, context), context) == VALUE


@pytest.mark.parametrize(
    "moved",
    [
        {"document_format": 2},
        {"vault_id": "vaulu"},
        {"name": "db_passworc"},
        {"version": 3},
        {"kid": "k" * 21 + "j"},
        {"name": "db_password2", "version": 0},
    ],
    ids="-".join,
)
def test_a_value_moved_elsewhere_does_not_open(moved: dict[str, Any]) -> None:
    sealed = SEALER.seal(VALUE, associated_data(**PLACE))
    with pytest.raises(SealError, match="moved"):
        SEALER.open(*sealed, associated_data(**PLACE | moved))


def test_a_value_sealed_under_another_key_does_not_open() -> None:
    context = associated_data(**PLACE)
    with pytest.raises(SealError):
        ValueSealer(Sensitive(b"\x02" * 32)).open(*SEALER.seal(VALUE, context), context)


@given(data=st.data())
def test_a_changed_bit_anywhere_is_noticed(data: st.DataObject) -> None:
    context = associated_data(**PLACE)
    parts = [b64url_decode(part) for part in SEALER.seal(VALUE, context)]
    which = data.draw(st.integers(0, 1))
    at = data.draw(st.integers(0, len(parts[which]) * 8 - 1))
    changed = bytearray(parts[which])
    changed[at // 8] ^= 1 << at % 8
    parts[which] = bytes(changed)
    with pytest.raises(SealError):
        SEALER.open(b64url_encode(parts[0]), b64url_encode(parts[1]), context)


@pytest.mark.parametrize("nonce", ["", "A", "AAAA", "A" * 15, "not base64url!"])
def test_a_nonce_of_another_form_is_a_seal_error_like_any_other(nonce: str) -> None:
    context = associated_data(**PLACE)
    with pytest.raises(SealError):
        SEALER.open(nonce, SEALER.seal(VALUE, context)[1], context)


def test_no_nonce_comes_twice_in_ten_thousand() -> None:
    context = associated_data(**PLACE)
    nonces = {SEALER.seal(VALUE, context)[0] for _ in range(10_000)}
    assert len(nonces) == 10_000
    assert {len(b64url_decode(nonce)) for nonce in nonces} == {12}


def test_one_value_sealed_twice_looks_different() -> None:
    context = associated_data(**PLACE)
    assert SEALER.seal(VALUE, context)[1] != SEALER.seal(VALUE, context)[1]


def test_the_associated_data_is_the_canonical_array() -> None:
    assert associated_data(**PLACE) == b'[1,"vault","db_password",2,"kkkkkkkkkkkkkkkkkkkkkk"]'


@pytest.mark.parametrize("vector", VECTORS["opens"], ids=lambda vector: vector["name"])
def test_a_vector_opens(vector: dict[str, Any]) -> None:
    context = associated_data(**vector["place"])
    assert context == vector["associated_data"].encode()
    sealer = ValueSealer(Sensitive(bytes.fromhex(vector["key"])))
    assert sealer.open(vector["nonce"], vector["ciphertext"], context).reveal().hex() == vector["value"]


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda vector: vector["name"])
def test_a_vector_with_one_thing_changed_does_not_open(vector: dict[str, Any]) -> None:
    sealer = ValueSealer(Sensitive(bytes.fromhex(vector["key"])))
    with pytest.raises(SealError):
        sealer.open(vector["nonce"], vector["ciphertext"], associated_data(**vector["place"]))

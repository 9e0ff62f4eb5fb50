from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from secretsd_bus import b64url_encode

from secretsd.crypto.derive import derive
from secretsd.crypto.sensitive import Sensitive
from secretsd.errors import VaultError
from secretsd.vault.document import Codec, Document, SecretRecord
from secretsd.vault.keys import VaultKeys
from secretsd.vault.vault import Vault
from tests.unit.vault.documents import DOCUMENTS, MASTER, RECORDS, codec, document
from tests.vectors import generate

PATH = Path("/state/vault.json")
FILES = {
    path: path.read_text() for family in ("vault", "sealing", "log") for path in (generate.FOLDER / family).glob("*")
}
VECTORS: dict[str, Any] = {path.stem: json.loads(text) for path, text in FILES.items() if path.parent.name == "vault"}
SAYS = {
    "not-a-vault": "is not a vault: it is truncated or was edited. Restore",
    "other-format": "was written by another version of secretsd",
    "mac": "fails its MAC: it was edited, or /state/master.key is another vault's",
}
WHOLE = codec().encode(document())


def reference(value: Document) -> bytes:
    """The file as the reference implementation of RFC 8785 and the standard library's HMAC make it."""
    under_way = any(record.under_way is not None for record in value.secrets.values())
    plain = {
        name: member
        for name, member in msgspec.to_builtins(value).items()
        if name not in {"data_key", "fingerprint_key"}
    } | {"format": 3 if under_way else 1}
    key = derive(MASTER, "vault-mac", value.vault_id).reveal()
    mac = b64url_encode(hmac.new(key, rfc8785.dumps(plain), hashlib.sha256).digest())
    return rfc8785.dumps(plain | {"mac": mac}) + b"\n"


@given(DOCUMENTS)
def test_the_bytes_are_those_of_rfc_8785_and_come_back_as_the_same_document(value: Document) -> None:
    data = codec().encode(value)
    assert data == reference(value)
    assert codec().decode(data, PATH) == value


@given(st.lists(st.dictionaries(st.sampled_from("abcd"), RECORDS, max_size=4), min_size=1, max_size=4))
def test_one_codec_over_many_commits_writes_what_a_fresh_one_would(steps: list[dict[str, SecretRecord]]) -> None:
    used = codec()
    value = document()
    for secrets in steps:
        # Unchanged records stay the same objects, as a commit keeps them.
        kept = {name: value.secrets[name] for name in value.secrets.keys() - secrets.keys()}
        value = replace(value, secrets=kept | secrets, generation=value.generation + 1)
        assert used.encode(value) == codec().encode(value)


@given(at=st.integers(0, len(WHOLE) - 1), byte=st.integers(0, 255))
def test_no_byte_can_be_another_one(at: int, byte: int) -> None:
    changed = WHOLE[:at] + bytes([byte]) + WHOLE[at + 1 :]
    if changed == WHOLE:
        assert codec().decode(changed, PATH) == document()
    else:
        with pytest.raises(VaultError):
            codec().decode(changed, PATH)


@given(at=st.integers(0, len(WHOLE)), inserted=st.binary(min_size=1, max_size=3))
def test_nothing_can_be_put_in(at: int, inserted: bytes) -> None:
    with pytest.raises(VaultError):
        codec().decode(WHOLE[:at] + inserted + WHOLE[at:], PATH)


def test_it_is_refused_wherever_it_is_cut_off() -> None:
    for end in range(len(WHOLE)):
        with pytest.raises(VaultError):
            codec().decode(WHOLE[:end], PATH)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"db_password":{', '"db_päßword":{'.encode()),
        (b'"db_password":{', b'"db\\u0000password":{'),
        (b'"generation":4,"mac"', b'"generation":99999999999999999999999999,"mac"'),
        (b'"generation":4,"mac"', b'"generation":-99999999999999999999999999,"mac"'),
        (b'"generation":4,"mac"', b'"generation":1e400,"mac"'),
        (b'"generation":4,"mac"', b'"generation":4.0,"mac"'),
        (b'"version":2', b'"version":true'),
        (b'"urgent":false', b'"urgent":1e999'),
        (b'"urgent":false', b'"urgent":' + b"[" * 100_000),
        (b'"previous":null', b'"previous":"\\ud800"'),
    ],
    ids=range(10),
)
def test_an_edit_that_could_not_even_be_written_again_is_a_refusal(old: bytes, new: bytes) -> None:
    assert old in WHOLE
    with pytest.raises(VaultError):
        codec().decode(WHOLE.replace(old, new), PATH)


def test_another_master_key_is_refused_and_named_as_the_likely_reason() -> None:
    with pytest.raises(VaultError, match=r"/state/master\.key is another vault's"):
        codec(Sensitive(bytes(32))).decode(WHOLE, PATH)


def test_a_newer_format_says_so_before_anything_else_is_looked_at() -> None:
    with pytest.raises(VaultError, match=r"format 4 and this secretsd knows 1 to 3.*install that one"):
        Codec.preamble(b'{"format":4,"vault_id":"x","everything":"else"}', PATH)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"format":1}',
        b'{"format":1,"vault_id":"\xc3\xa9"}',
        b'{"format":1,"vault_id":"\xff"}',
        b'{"format":"1","vault_id":"x"}',
        b'{"format":1,"vault_id":' + b"[" * 100_000,
    ],
)
def test_what_is_no_vault_says_what_to_do(data: bytes) -> None:
    with pytest.raises(VaultError, match="accept-rollback"):
        Codec.preamble(data, PATH)


def test_the_generator_reproduces_the_files_byte_for_byte() -> None:
    assert {path: text for path, text in generate.rendered().items() if path in FILES} == FILES


@pytest.mark.parametrize("vector", VECTORS["accepted"], ids=lambda vector: vector["name"])
def test_a_vector_is_read_its_values_open_and_it_is_written_the_same(tmp_path: Path, vector: dict[str, Any]) -> None:
    path = tmp_path / "vault.json"
    path.write_text(vector["file"])
    path.chmod(0o600)
    vault = Vault.load(path, Sensitive(bytes.fromhex(VECTORS["keys"]["master"])))
    assert vault.document.format == vector["format"]
    assert vault.document.position == vector["position"]
    values = {
        name: {str(version.version): vault.open(name, version).reveal().hex() for version in record.sealed}
        for name, record in vault.document.secrets.items()
    }
    assert values == vector["values"]
    assert vault.encode(vault.document) == vector["file"].encode()


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda vector: vector["name"])
def test_a_vector_is_refused_for_its_reason(vector: dict[str, Any]) -> None:
    data = vector["file"].encode()
    master = Sensitive(bytes.fromhex(VECTORS["keys"]["master"]))
    with pytest.raises(VaultError) as refusal:
        VaultKeys.opening(data, PATH, master)
    assert SAYS[vector["reason"]] in str(refusal.value)

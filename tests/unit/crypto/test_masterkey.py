from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta
from secretsd_bus import b64url_encode

from secretsd.crypto import masterkey
from secretsd.crypto.masterkey import Argon2Parameters
from secretsd.crypto.sensitive import Sensitive
from secretsd.errors import KeyFileError
from tests.vectors import generate

PATH = Path("/state/master.key")
PASSPHRASE = Sensitive(b"correct horse")
MASTER = masterkey.generate()


class Cheap(Argon2Parameters, frozen=True):
    memory_kib: Annotated[int, Meta(ge=32, le=4 * 1024 * 1024)] = 64
    iterations: Annotated[int, Meta(ge=1, le=64)] = 1


@pytest.fixture(scope="module", autouse=True)
def _cheap() -> Any:
    """Stretch with little memory: what is tested here does not depend on how much."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masterkey, "Argon2Parameters", Cheap)
        yield


@pytest.fixture(scope="module")
def wrapped() -> bytes:
    return masterkey.encode(MASTER, PASSPHRASE)


def members(data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(data)
    return found


def test_the_parameters_are_those_of_the_rfc() -> None:
    assert msgspec.structs.asdict(Argon2Parameters(salt="")) == {
        "salt": "",
        "memory_kib": 65_536,
        "iterations": 3,
        "lanes": 4,
    }


def test_the_files_of_the_vectors_open() -> None:
    vector = json.loads((generate.FOLDER / "sealing" / "master_keys.json").read_text())
    passphrase = Sensitive(vector["passphrase"].encode())
    for file in (vector["plain"], vector["wrapped"]):
        assert masterkey.decode(file.encode(), PATH, passphrase).reveal().hex() == vector["key"]


def test_a_plain_key_comes_back() -> None:
    data = masterkey.encode(MASTER, None)
    assert members(data) == {"format": 1, "protection": "none", "key": b64url_encode(MASTER.reveal())}
    assert not masterkey.is_wrapped(data, PATH)
    assert masterkey.decode(data, PATH, None) == MASTER


def test_a_wrapped_key_comes_back_under_its_passphrase_alone(wrapped: bytes) -> None:
    assert masterkey.is_wrapped(wrapped, PATH)
    assert masterkey.decode(wrapped, PATH, PASSPHRASE) == MASTER
    with pytest.raises(KeyFileError, match="doesn't open under this passphrase"):
        masterkey.decode(wrapped, PATH, Sensitive(b"correct horse "))


def test_a_wrapped_key_without_a_passphrase_says_where_to_give_one(wrapped: bytes) -> None:
    with pytest.raises(KeyFileError, match=r"SECRETSD_PASSPHRASE_FILE.*systemd credential secretsd-passphrase"):
        masterkey.decode(wrapped, PATH, None)


def test_the_wrapped_file_does_not_hold_the_key(wrapped: bytes) -> None:
    assert b64url_encode(MASTER.reveal()).encode()[:-1] not in wrapped
    assert MASTER.reveal() not in wrapped


def test_two_wrappings_share_neither_salt_nor_nonce() -> None:
    first, second = (members(masterkey.encode(MASTER, PASSPHRASE)) for _ in range(2))
    assert first["argon2id"]["salt"] != second["argon2id"]["salt"]
    assert first["nonce"] != second["nonce"]


@pytest.mark.parametrize(
    "alter",
    [
        lambda m: m["argon2id"].update(iterations=2),
        lambda m: m["argon2id"].update(memory_kib=128),
        lambda m: m["argon2id"].update(lanes=2),
        lambda m: m["argon2id"].update(salt=b64url_encode(bytes(16))),
        lambda m: m.update(nonce=b64url_encode(bytes(12))),
        lambda m: m.update(key=b64url_encode(bytes(48))),
    ],
    ids=["iterations", "memory", "lanes", "salt", "nonce", "key"],
)
def test_a_tampered_parameter_is_refused(wrapped: bytes, alter: Callable[[dict[str, Any]], None]) -> None:
    document = members(wrapped)
    alter(document)
    with pytest.raises(KeyFileError, match="another one, or the file was altered"):
        masterkey.decode(msgspec.json.encode(document), PATH, PASSPHRASE)


@pytest.mark.parametrize(
    "alter",
    [
        lambda m: m.update(format=2),
        lambda m: m.update(protection="rot13"),
        lambda m: m.update(extra=1),
        lambda m: m.update(key="not base64url!"),
        lambda m: m.update(key="AAAA"),
        lambda m: m.update(nonce=None),
        lambda m: m.update(argon2id=None),
        lambda m: m.update(nonce="AAAA"),
        lambda m: m["argon2id"].update(extra=1),
        lambda m: m["argon2id"].update(salt=""),
        lambda m: m["argon2id"].update(memory_kib=2**40),
        lambda m: m["argon2id"].update(iterations=1000),
        lambda m: m["argon2id"].update(lanes=64, memory_kib=32),
        lambda m: m.update(protection="none"),
    ],
)
def test_a_file_of_another_form_is_refused_and_named(wrapped: bytes, alter: Callable[[dict[str, Any]], None]) -> None:
    document = members(wrapped)
    alter(document)
    with pytest.raises(KeyFileError, match=r"/state/master\.key"):
        masterkey.decode(msgspec.json.encode(document), PATH, PASSPHRASE)


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE], ids=["plain", "wrapped"])
def test_a_truncated_file_is_refused_wherever_it_ends(passphrase: Sensitive | None) -> None:
    data = masterkey.encode(MASTER, passphrase).rstrip(b"\n")
    for end in range(len(data)):
        with pytest.raises(KeyFileError, match="truncated or altered"):
            masterkey.decode(data[:end], PATH, passphrase)


@given(st.binary(max_size=200))
def test_no_bytes_get_past_as_anything_else_than_a_key_file_error(data: bytes) -> None:
    with pytest.raises(KeyFileError):
        masterkey.decode(data, PATH, PASSPHRASE)


@given(at=st.integers(0, 60), byte=st.integers(128, 255))
def test_a_byte_that_is_no_utf_8_is_damage_wherever_it_stands(at: int, byte: int) -> None:
    data = masterkey.encode(MASTER, None)
    with pytest.raises(KeyFileError, match="truncated or altered"):
        masterkey.decode(data[:at] + bytes([byte]) + data[at + 1 :], PATH, None)


def test_deep_nesting_is_refused_like_any_damage() -> None:
    with pytest.raises(KeyFileError):
        masterkey.decode(b'{"format":' + b"[" * 100_000, PATH, None)


def test_no_message_shows_the_key_or_the_passphrase(wrapped: bytes) -> None:
    with pytest.raises(KeyFileError) as failure:
        masterkey.decode(wrapped, PATH, Sensitive(b"planted-passphrase"))
    assert "planted" not in repr(failure.value)


def test_a_file_of_two_keys_opens_to_those_of_the_passphrase_in_its_order() -> None:
    first, second = masterkey.wrap(MASTER, PASSPHRASE), masterkey.wrap(MASTER, Sensitive(b"another"))
    both = masterkey.encode_all([first.wrapping, second.wrapping])
    assert [key is not None for key in masterkey.open_all(both, PATH, PASSPHRASE)] == [True, False]
    assert masterkey.decode(both, PATH, Sensitive(b"another")) == MASTER
    with pytest.raises(KeyFileError, match="doesn't open under this passphrase"):
        masterkey.decode(both, PATH, Sensitive(b"a third"))


def test_another_key_is_wrapped_alike_without_the_passphrase_under_a_fresh_nonce() -> None:
    first, other = masterkey.wrap(MASTER, PASSPHRASE), masterkey.generate()
    alike = first.alike(other)
    assert alike.wrapping.argon2id == first.wrapping.argon2id
    assert alike.wrapping.nonce != first.wrapping.nonce
    assert masterkey.decode(masterkey.encode_all([alike.wrapping]), PATH, PASSPHRASE) == other


@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_file_of_format_2_holds_two_to_four_keys(count: int) -> None:
    plain = msgspec.to_builtins(masterkey.wrap(MASTER, None).wrapping)
    data = msgspec.json.encode({"format": 2, "keys": [plain] * count})
    with pytest.raises(KeyFileError, match="isn't a master key of this format"):
        masterkey.decode(data, PATH, None)


def test_the_file_of_the_vectors_that_is_being_changed_opens_with_and_without_the_passphrase() -> None:
    vector = json.loads((generate.FOLDER / "sealing" / "master_keys.json").read_text())
    data = vector["changing"].encode()
    for passphrase in (None, Sensitive(vector["passphrase"].encode())):
        assert masterkey.decode(data, PATH, passphrase).reveal().hex() == vector["key"]
    assert masterkey.open_all(data, PATH, None)[1] is None

from __future__ import annotations

import hashlib
import hmac
from typing import get_args

from secretsd.crypto.derive import KEY_BYTES, Purpose, derive
from secretsd.crypto.sensitive import Sensitive

MASTER = Sensitive(bytes(range(32)))
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)


def hkdf(master: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869 for one block of SHA-256."""
    extracted = hmac.new(salt, master, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


def test_each_purpose_and_each_vault_has_a_key_of_its_own() -> None:
    keys = {derive(MASTER, purpose, vault).reveal() for purpose in PURPOSES for vault in ("vault-1", "vault-2")}
    assert len(keys) == 2 * len(PURPOSES)
    assert {len(key) for key in keys} == {KEY_BYTES}


def test_another_master_key_gives_other_keys() -> None:
    assert derive(MASTER, "value", "v") != derive(Sensitive(bytes(32)), "value", "v")


def test_the_labels_are_those_of_the_format() -> None:
    for purpose in PURPOSES:
        expected = hkdf(MASTER.reveal(), b"vault-1", f"jarvis-secretsd/1/{purpose}".encode())
        assert derive(MASTER, purpose, "vault-1").reveal() == expected

"""docs/vault.md names what the code reads and writes."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from msgspec import Struct

from secretsd.crypto.derive import Purpose
from secretsd.crypto.masterkey import Argon2Parameters, Wrapping
from secretsd.crypto.sealing import associated_data
from secretsd.daemon.firststart import StateFiles
from secretsd.reserve import FILE_NAME
from secretsd.service.receipts import KIDS_MOST, RECEIPTS_MOST
from secretsd.vault import document
from tests.unit.support.core import configured
from tests.vectors import vault_vectors

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "vault.md").read_text()
STRUCTS = [
    document.Document,
    document.SecretRecord,
    document.VersionRecord,
    document.Wishes,
    document.Pending,
    document.Tombstone,
    document.AuditMark,
    document.PolicyMark,
    document.OwedLine,
    document.PastEpoch,
    document.Receipt,
    Wrapping,
    document.SealedKey,
    Argon2Parameters,
]


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: struct.__name__)
def test_every_member_of_a_file_is_described(struct: type[Struct]) -> None:
    assert [name for name in struct.__struct_fields__ if f"`{name}`" not in PAGE] == []


def test_every_label_of_a_key_is_described() -> None:
    assert [label for label in get_args(Purpose) if f"| `{label}` |" not in PAGE] == []


def test_every_file_of_the_state_is_described(tmp_path: Path) -> None:
    state = StateFiles(configured(tmp_path))
    paths = [state.vault, state.master_key, state.sign_key, state.sign_pub, state.mark, state.cursor, state.lock]
    assert [path.name for path in paths if f"`{path.name}`" not in PAGE] == []
    assert f"`{FILE_NAME}`" in PAGE


def test_the_example_of_associated_data_is_one() -> None:
    where = vault_vectors.place("db_password", 2, "Zk3rS8b1QmWv7nTyUe5xGo")
    assert associated_data(**where).decode() in PAGE


def test_the_numbers_are_those_of_the_code() -> None:
    assert f"at most {RECEIPTS_MOST}:" in PAGE
    assert f"{KIDS_MOST:,} kids" in PAGE
    defaults = Argon2Parameters(salt="")
    assert f"{defaults.memory_kib} KiB, {defaults.iterations} passes, {defaults.lanes} lanes" in PAGE

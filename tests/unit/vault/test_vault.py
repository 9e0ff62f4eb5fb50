from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from secretsd.crypto.sensitive import Sensitive
from secretsd.errors import SealError, VaultError
from secretsd.vault.vault import Vault, empty_document, new_id
from tests.unit.support.core import MASTER
from tests.vectors import generate

VALUE = Sensitive(b"planted-value")


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    document = empty_document(log_id="log", head="A" * 43, policy_sha256="00")
    made = Vault(tmp_path / "vault.json", MASTER, document)
    made.write(made.encode(document))
    return made


def test_a_new_vault_is_generation_zero_of_an_epoch_of_its_own() -> None:
    first, second = (empty_document(log_id="log", head="A" * 43, policy_sha256="00") for _ in range(2))
    assert first.position == f"{first.epoch}:0"
    assert len({first.epoch, first.vault_id, second.epoch, second.vault_id}) == 4


def test_ids_are_random_and_of_the_form_that_a_kid_has() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert {len(one) for one in ids} == {22}


def test_a_sealed_value_opens_after_a_restart(vault: Vault) -> None:
    version = vault.seal("name", 1, VALUE, "utf-8", 5)
    assert (version.version, version.created_at, version.grace_until) == (1, 5, None)
    assert Vault.load(vault.path, MASTER).open("name", version) == VALUE


def test_a_version_moved_to_another_name_number_kid_or_vault_does_not_open(vault: Vault) -> None:
    version = vault.seal("name", 1, VALUE, "utf-8", 5)
    other = Vault(vault.path, MASTER, empty_document(log_id="log", head="A" * 43, policy_sha256="00"))
    for where, name, moved in (
        (vault, "other", version),
        (vault, "name", replace(version, version=2)),
        (vault, "name", replace(version, kid=new_id())),
        (other, "name", version),
    ):
        with pytest.raises(SealError):
            where.open(name, moved)


def test_the_file_holds_neither_the_value_nor_the_master_key(vault: Vault) -> None:
    version = vault.seal("name", 1, VALUE, "utf-8", 5)
    data = vault.encode(vault.document) + repr(version).encode()
    assert VALUE.reveal() not in data
    assert MASTER.reveal() not in data


def test_a_vault_under_another_master_key_is_refused(vault: Vault) -> None:
    with pytest.raises(VaultError, match="fails its MAC"):
        Vault.load(vault.path, Sensitive(bytes(32)))


def test_a_file_that_others_can_read_is_refused_with_what_to_do(vault: Vault) -> None:
    vault.path.chmod(0o640)
    with pytest.raises(VaultError, match="chmod 600"):
        Vault.load(vault.path, MASTER)


def test_a_missing_file_is_named(vault: Vault) -> None:
    vault.path.unlink()
    with pytest.raises(VaultError, match=r"can't read .*vault\.json: No such file"):
        Vault.load(vault.path, MASTER)


def test_a_written_document_is_not_in_force_until_it_is_shown(vault: Vault) -> None:
    following = replace(vault.document, generation=1)
    vault.write(vault.encode(following))
    assert vault.document.generation == 0
    vault.show(following)
    assert vault.document.generation == 1


def test_a_rotation_under_way_is_sealed_anew_with_the_keys(tmp_path: Path) -> None:
    path = tmp_path / "vault.json"
    accepted = json.loads((generate.FOLDER / "vault" / "accepted.json").read_text())
    path.write_text(next(vector["file"] for vector in accepted if vector["name"] == "pending"))
    path.chmod(0o600)
    vault = Vault.load(path, Sensitive(bytes(range(32))))
    keys = vault.keys.successor()
    before = vault.document.secrets["db_password"].sealed[0]
    document = keys.taken_over(vault.document, vault.keys)
    vault.write(vault.encode(document, keys))
    again = Vault.load(path, Sensitive(bytes(range(32))))
    record = again.document.secrets["db_password"]
    assert (again.document.format, again.document.data_key) == (3, keys.data_key)
    assert again.open("db_password", record.sealed[0]).reveal() == b"coming"
    assert record.sealed[0].kid == before.kid
    assert record.sealed[0].ciphertext != before.ciphertext

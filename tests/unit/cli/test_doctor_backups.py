from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from msgspec.structs import replace

from secretsd import config
from secretsd.backup import record
from secretsd.backup.create import to_file
from secretsd.backup.record import LastBackup
from secretsd.crypto import masterkey
from secretsd.crypto.sensitive import Sensitive
from tests.unit.backup.places import SEALS
from tests.unit.cli.installation import Installation


@pytest.fixture
def place(tmp_path: Path) -> Installation:
    return Installation(tmp_path).start_first()


def back_up(place: Installation) -> LastBackup:
    folder = place.folder / "backups"
    folder.mkdir()
    to_file(config.load(place.config_path), folder, SEALS)
    return change(place)


def change(place: Installation, **members: object) -> LastBackup:
    last = record.load(place.state)
    assert last is not None
    record.save(place.state, replace(last, **members))
    return last


def test_without_any_backup_one_is_asked_for(place: Installation) -> None:
    finding = place.look("backup")
    assert finding.status == "warning"
    assert "no backup was ever made" in finding.found


def test_an_unproven_backup_on_the_vaults_file_system_is_warned_about(place: Installation) -> None:
    back_up(place)
    finding = place.look("backup")
    assert finding.status == "warning"
    assert "was never proven" in finding.found
    assert "is on the file system of the vault" in finding.found


def test_a_proven_backup_elsewhere_is_well(place: Installation) -> None:
    back_up(place)
    change(place, verified_at="2026-11-24T17:00:00.000Z", file=None)
    assert place.look("backup").status == "ok"


def test_an_old_backup_is_stale_once_the_vault_has_changed_and_not_before(place: Installation) -> None:
    back_up(place)
    change(place, created_at="2020-01-01T00:00:00.000Z", verified_at="2020-01-01T00:00:00.000Z", file=None)
    assert place.look("backup").status == "ok"
    change(place, epoch="another")
    assert "old, and the vault is of another epoch since" in place.look("backup").found


@pytest.mark.parametrize(("passphrase", "status"), [(None, "failure"), (Sensitive(b"word"), "warning")])
def test_a_master_key_beside_the_backups_is_found_by_its_content(
    place: Installation, passphrase: Sensitive | None, status: str
) -> None:
    back_up(place)
    assert place.look("backup-key").status == "ok"
    (place.folder / "backups" / "notes").write_bytes(masterkey.encode(masterkey.generate(), passphrase))
    finding = place.look("backup-key")
    assert finding.status == status
    assert "notes is a master key beside the backups" in finding.found


def test_an_archive_that_holds_key_and_vault_is_found_and_one_with_the_vault_alone_is_not(place: Installation) -> None:
    back_up(place)
    archive = place.folder / "backups" / "old.tar.gz"
    for names, status in (["vault.json"], "ok"), (["vault.json", "master.key"], "failure"):
        with tarfile.open(archive, "w:gz") as out:
            for name in names:
                out.add(place.state.vault.with_name(name))
        assert place.look("backup-key").status == status


def test_where_no_backup_is_known_the_key_is_not_looked_for(place: Installation) -> None:
    assert place.look("backup-key").status == "skipped"


def test_an_interrupted_restore_is_named(place: Installation) -> None:
    place.state.restoring.write_bytes(b"{}")
    finding = place.look("state")
    assert finding.status == "failure"
    assert "a restore was interrupted" in finding.found

from __future__ import annotations

import errno
import gzip
import json
from pathlib import Path

import pytest

from secretsd.backup import snapshot
from secretsd.backup.create import to_file
from secretsd.backup.manifest import LOG
from secretsd.backup.proving import prove
from secretsd.backup.snapshot import Changed
from secretsd.errors import BackupError, KeyFileError
from tests.support import tmpfs
from tests.unit.backup.places import SEALS, Place, unpacked
from tests.unit.support.disk import spy


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path / "home")
    place.commit("x", "one")
    place.read(3)
    return place


def lines_of(sealed: Path, folder: Path) -> list[int]:
    log = unpacked(sealed, folder).folder / LOG
    return [int(json.loads(line)["sequence"]) for line in log.read_bytes().splitlines()]


def test_a_backup_holds_the_vault_and_every_line_of_its_log_once(place: Place, tmp_path: Path) -> None:
    rotated = place.rotate_log("audit.jsonl.1")
    place.commit("y", "two")
    packed = rotated.with_name("audit.jsonl.1.gz")
    packed.write_bytes(gzip.compress(rotated.read_bytes()))
    # A batch that was repeated in the new file, as where it was moved away under the writer.
    place.state.audit.write_bytes(rotated.read_bytes().splitlines(keepends=True)[-1] + place.state.audit.read_bytes())
    rotated.unlink()
    assert lines_of(place.back_up(), tmp_path / "out") == [1, 2, 3, 4, 5]


def test_the_log_ends_before_a_commit_that_the_vault_does_not_hold(place: Place, tmp_path: Path) -> None:
    """As when the daemon commits between the reading of the vault and that of the log."""
    earlier = place.state.vault.read_bytes()
    place.commit("x", "two")
    place.state.vault.write_bytes(earlier)
    sealed = place.back_up()
    assert lines_of(sealed, tmp_path / "out") == [1, 2, 3, 4]
    assert prove(unpacked(sealed, tmp_path / "again"), place.masters).position.generation == 1


def test_a_commit_whose_lines_are_not_written_yet_is_in_the_backup_with_what_it_owes(
    place: Place, tmp_path: Path
) -> None:
    place.commit("x", "two", lines=False)
    proof = prove(unpacked(place.back_up(), tmp_path / "out"), place.masters)
    assert proof.vault is not None
    assert [line.subject for line in proof.vault.document.outbox] == ["x"]
    assert proof.lines == 4


def test_a_gap_before_the_vaults_mark_is_told_and_the_rest_is_backed_up(place: Place, tmp_path: Path) -> None:
    lines = place.state.audit.read_bytes().splitlines(keepends=True)
    place.commit("x", "two")
    place.state.audit.write_bytes(b"".join(place.state.audit.read_bytes().splitlines(keepends=True)[2:]))
    place.state.audit.with_name("audit.jsonl.1").write_bytes(lines[0])
    made = place.make()
    assert made.gap_before
    assert made.manifest.checkpoint.first == 3
    assert prove(unpacked(made.path or Path(), tmp_path / "out"), place.masters).lines == 3


def test_a_log_that_lacks_the_vaults_mark_is_refused(place: Place) -> None:
    place.commit("x", "two")
    place.state.audit.write_bytes(b"".join(place.state.audit.read_bytes().splitlines(keepends=True)[:2]))
    with pytest.raises(Changed, match="ends at line 2 and the vault knows 4"):
        place.back_up()


def test_a_log_of_another_time_is_refused(place: Place) -> None:
    place.commit("x", "two")
    vault = place.state.vault.read_bytes()
    head = json.loads(vault)["audit"]["head"].encode()
    place.state.vault.write_bytes(vault.replace(head, b"B" * 43))
    with pytest.raises(BackupError, match=r"line 4 of .* is not the one that the vault knows"):
        place.back_up()


def test_a_signing_key_that_did_not_sign_the_log_is_refused(place: Place) -> None:
    other = Place(place.folder.with_name("other"))
    place.state.sign_key.write_bytes(other.state.sign_key.read_bytes())
    with pytest.raises(Changed, match="is not the key that signed the log's last line"):
        place.back_up()


def test_lines_that_change_between_the_two_readings_are_noticed(place: Place) -> None:
    taken = snapshot.take(place.config)
    place.state.audit.write_bytes(place.state.audit.read_bytes().replace(b'"admin"', b'"nobod"', 1))
    with pytest.raises(Changed, match="changed while it was read"):
        list(snapshot.log_lines(place.state, taken.cut))


def test_a_backup_that_exists_is_not_replaced_unasked(place: Place) -> None:
    before = place.back_up().read_bytes()
    with pytest.raises(BackupError, match="exists: name another file"):
        to_file(place.config, place.folder / "backup.age", SEALS)
    assert (place.folder / "backup.age").read_bytes() == before


def test_a_backup_that_fails_leaves_nothing_behind(place: Place) -> None:
    place.state.sign_key.unlink()
    with pytest.raises(KeyFileError, match="No such file"):
        place.back_up()
    assert not list(place.folder.glob("*.age*"))


def test_a_whole_backup_whose_folder_could_not_be_synced_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        spy(patch, "fsync").fail(errno.EIO, after=1)
        with pytest.raises(BackupError, match=r"backup\.age is a whole backup, but its folder could not be synced"):
            place.back_up()
    assert prove(unpacked(place.folder / "backup.age", place.folder / "out"), place.masters).values == 1


def test_a_backup_into_a_folder_that_is_not_there_names_it(place: Place) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        to_file(place.config, place.folder / "missing" / "backup.age", SEALS)
    assert missing.value.filename == str(place.folder / "missing")


def test_the_signing_key_is_not_shown_by_accident(place: Place) -> None:
    taken = snapshot.take(place.config)
    assert "PRIVATE" not in repr(taken) + str(taken)


@pytest.mark.skipif(tmpfs.why_not() is not None, reason=str(tmpfs.why_not()))
def test_a_disk_that_is_full_is_named_and_no_half_backup_stays(place: Place, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    with tmpfs.SmallDisk(tmp_path / "small", size_kib=8) as disk:
        disk.fill()
        with pytest.raises(OSError, match="No space left") as full:
            to_file(place.config, disk.folder / "backup.age", SEALS)
        assert str(full.value.filename).startswith(str(disk.folder / "backup.age"))
        assert [path.name for path in disk.folder.iterdir()] == ["ballast"]

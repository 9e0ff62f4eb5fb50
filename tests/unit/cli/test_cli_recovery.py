"""recovery and doctor's look at it: files on disk, no daemon."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from click.testing import Result
from pyrage import x25519

from secretsd.cli.checks.keys import judge_recovery
from secretsd.crypto import masterkey
from secretsd.crypto.sensitive import Sensitive
from secretsd.daemon import passphrase
from secretsd.daemon.opening import open_vault
from secretsd.daemon.recoveryfile import Record, load_record, record_path
from secretsd.model import DAY_MS
from secretsd.vault.store import Lock
from tests.support import tmpfs
from tests.unit.cli.conftest import Ctl
from tests.unit.cli.installation import Installation

PASSPHRASE = b"pl4nted-passphrase"


@pytest.fixture(autouse=True)
def _no_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(passphrase.FILE_VARIABLE, raising=False)


@pytest.fixture
def place(tmp_path: Path) -> Installation:
    return Installation(tmp_path).start_first()


@pytest.fixture
def person() -> x25519.Identity:
    return x25519.Identity.generate()


@pytest.fixture
def identity(tmp_path: Path, person: x25519.Identity) -> Path:
    path = tmp_path / "person.key"
    path.write_text(f"{person}\n")
    return path


def exported(ctl: Ctl, place: Installation, person: x25519.Identity, name: str = "recovery.age") -> Path:
    out = place.folder / name
    others = ["-r", str(x25519.Identity.generate().to_public()), "-r", str(person.to_public())]
    result = ctl("recovery", "export", "-o", str(out), *others, "--config", str(place.config_path))
    assert result.exit_code == 0, result.output
    return out


def with_file(ctl: Ctl, command: str, place: Installation, file: Path, identity: Path, *more: str) -> Result:
    return ctl("recovery", command, str(file), "--identity", str(identity), "--config", str(place.config_path), *more)


def key_of(place: Installation) -> Sensitive:
    path = place.state.master_key
    return masterkey.decode(path.read_bytes(), path, None)


def test_any_one_of_several_people_proves_a_recovery_file_without_touching_the_key(
    ctl: Ctl, place: Installation, person: x25519.Identity, identity: Path
) -> None:
    file = exported(ctl, place, person)
    assert file.stat().st_mode & 0o777 == 0o600
    before = place.state.master_key.read_bytes()
    result = with_file(ctl, "drill", place, file, identity)
    assert result.exit_code == 0, result.output
    assert result.output.startswith("ok: ")
    assert place.state.master_key.read_bytes() == before


def test_a_lost_master_key_comes_back(ctl: Ctl, place: Installation, person: x25519.Identity, identity: Path) -> None:
    file, before = exported(ctl, place, person), key_of(place)
    place.state.master_key.unlink()
    assert with_file(ctl, "import", place, file, identity).exit_code == 0
    assert key_of(place) == before
    open_vault(place.state, None)


def test_after_a_lost_host_the_key_comes_back_before_there_is_a_vault(
    ctl: Ctl, place: Installation, person: x25519.Identity, identity: Path
) -> None:
    file, before = exported(ctl, place, person), key_of(place)
    shutil.rmtree(place.state.vault.parent)
    shutil.rmtree(place.state.audit.parent)
    result = with_file(ctl, "import", place, file, identity)
    assert result.exit_code == 0, result.output
    assert "no vault here to try it on" in result.output
    assert "secretsctl backup restore" in result.output
    assert key_of(place) == before
    again = with_file(ctl, "import", place, file, identity)
    assert again.exit_code == 1
    assert "may open the vault" in again.output


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_brings_back_belongs_to_the_daemons_user(
    ctl: Ctl, place: Installation, person: x25519.Identity, identity: Path
) -> None:
    os.chown(place.state.vault, 4711, 4711)
    file = exported(ctl, place, person)
    place.state.master_key.unlink()
    place.state.lock.unlink(missing_ok=True)
    assert with_file(ctl, "import", place, file, identity).exit_code == 0
    assert with_file(ctl, "drill", place, file, identity).exit_code == 0
    for path in (place.state.master_key, place.state.lock, record_path(place.state)):
        assert path.stat().st_uid == 4711, path


def test_a_working_master_key_is_replaced_only_when_told(
    ctl: Ctl, place: Installation, person: x25519.Identity, identity: Path
) -> None:
    file = exported(ctl, place, person)
    before = place.state.master_key.read_bytes()
    refused = with_file(ctl, "import", place, file, identity)
    assert refused.exit_code == 1
    assert "opens the vault: nothing was changed" in refused.output
    assert place.state.master_key.read_bytes() == before
    assert with_file(ctl, "import", place, file, identity, "--replace").exit_code == 0


def test_one_whose_passphrase_is_lost_may_work_and_is_kept_aside_when_replaced(
    ctl: Ctl, place: Installation, person: x25519.Identity, identity: Path
) -> None:
    file, key = exported(ctl, place, person), key_of(place)
    wrapped = masterkey.encode(key, Sensitive(PASSPHRASE))
    place.state.master_key.write_bytes(wrapped)
    assert "may open the vault" in with_file(ctl, "import", place, file, identity).output
    assert with_file(ctl, "import", place, file, identity, "--replace").exit_code == 0
    assert key_of(place) == key
    assert place.state.master_key.with_name("master.key.replaced-1").read_bytes() == wrapped


def test_a_damaged_master_key_is_replaced_and_kept_aside(
    ctl: Ctl, place: Installation, person: x25519.Identity, identity: Path
) -> None:
    file, key = exported(ctl, place, person), key_of(place)
    place.state.master_key.write_bytes(b"damaged")
    assert with_file(ctl, "import", place, file, identity).exit_code == 0
    assert key_of(place) == key
    assert place.state.master_key.with_name("master.key.replaced-1").read_bytes() == b"damaged"


@pytest.mark.parametrize("command", ["drill", "import"])
def test_the_key_of_another_vault_is_refused(
    ctl: Ctl, place: Installation, person: x25519.Identity, identity: Path, tmp_path: Path, command: str
) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    file = exported(ctl, Installation(folder).start_first(), person)
    result = with_file(ctl, command, place, file, identity, *(["--replace"] if command == "import" else []))
    assert result.exit_code == 1
    assert "is of another vault" in result.output


def test_an_import_while_the_daemon_runs_is_refused(
    ctl: Ctl, place: Installation, person: x25519.Identity, identity: Path
) -> None:
    file = exported(ctl, place, person)
    lock = Lock(place.state.lock)
    result = with_file(ctl, "import", place, file, identity, "--replace")
    lock.release()
    assert result.exit_code == 1
    assert "another secretsd works on this vault" in result.output


def test_a_file_that_does_not_open_says_so_and_shows_nothing(
    ctl: Ctl, place: Installation, person: x25519.Identity, identity: Path, tmp_path: Path
) -> None:
    file = exported(ctl, place, person)
    stranger = tmp_path / "stranger.key"
    stranger.write_text(f"{x25519.Identity.generate()}\n")
    assert "doesn't open" in with_file(ctl, "drill", place, file, stranger).output
    file.write_bytes(file.read_bytes()[:-20])
    assert "doesn't open" in with_file(ctl, "drill", place, file, identity).output
    file.write_bytes(b"something else")
    assert "no age file" in with_file(ctl, "drill", place, file, identity).output
    assert with_file(ctl, "drill", place, file, identity, "--passphrase-file", str(stranger)).exit_code == 2


def test_nothing_that_exists_is_overwritten_by_an_export(
    ctl: Ctl, place: Installation, person: x25519.Identity
) -> None:
    out = exported(ctl, place, person)
    again = ctl("recovery", "export", "-o", str(out), "-r", str(person.to_public()), "--config", str(place.config_path))
    assert again.exit_code == 1
    assert "nothing was written" in again.output


def test_doctor_asks_for_a_recovery_file_then_for_its_proof_then_is_content(
    ctl: Ctl, place: Installation, person: x25519.Identity, identity: Path
) -> None:
    assert "ever made" in place.look("recovery").found
    file = exported(ctl, place, person)
    assert place.look("recovery").found == "the recovery file was never proven"
    with_file(ctl, "drill", place, file, identity)
    assert place.look("recovery").status == "ok"
    record = load_record(record_path(place.state))
    assert record.drilled_of is not None
    late = judge_recovery(record, record.drilled_of, 10**13 + 365 * DAY_MS)
    assert late.status == "warning"
    assert "rotated since" in judge_recovery(record, "another", 0).found
    assert judge_recovery(Record(drilled_at="?", drilled_of="a"), "a", 0).status == "warning"


def test_doctor_warns_of_a_plain_master_key_and_of_an_unfinished_change(place: Installation) -> None:
    assert "not under a passphrase" in place.look("keys").found
    path, key = place.state.master_key, key_of(place)
    wrapped = masterkey.wrap(key, Sensitive(PASSPHRASE))
    path.write_bytes(masterkey.encode_all([wrapped.wrapping]))
    assert place.look("keys").status == "ok"
    path.write_bytes(masterkey.encode_all([wrapped.wrapping, wrapped.alike(masterkey.generate()).wrapping]))
    assert "holds 2 keys" in place.look("keys").found


def test_a_passphrase_comes_on_standard_input_where_there_is_no_terminal(ctl: Ctl, place: Installation) -> None:
    out, config = str(place.folder / "recovery.age"), ("--config", str(place.config_path))
    assert ctl("recovery", "export", "-o", out, *config, stdin=PASSPHRASE + b"\n").exit_code == 0
    drilled = ctl("recovery", "drill", out, *config, stdin=PASSPHRASE + b"\n")
    assert (drilled.exit_code, drilled.stderr) == (0, "")
    for command in (("drill", out), ("import", out), ("export", "-o", f"{out}.2")):
        refused = ctl("recovery", *command, *config, stdin=b"")
        assert refused.exit_code == 2
        assert "the passphrase is empty" in refused.stderr
    assert not Path(f"{out}.2").exists()


@pytest.mark.skipif(tmpfs.why_not() is not None, reason=str(tmpfs.why_not()))
def test_no_half_recovery_file_stays_on_a_full_disk(ctl: Ctl, place: Installation, person: x25519.Identity) -> None:
    with tmpfs.SmallDisk(place.folder / "safe", size_kib=8) as disk:
        disk.fill()
        out = disk.folder / "recovery.age"
        command = (
            "recovery",
            "export",
            "-o",
            str(out),
            "-r",
            str(person.to_public()),
            "--config",
            str(place.config_path),
        )
        refused = ctl(*command)
        assert refused.exit_code == 1
        assert f"{out} can't be written: No space left on device" in refused.stderr
        assert not out.exists()
        disk.free()
        assert ctl(*command).exit_code == 0

"""doctor: the files of the state, as they should be and not."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from secretsd.cli.checks.state import MIB, Room, judge_owners, judge_room
from tests.unit.cli.installation import Installation


@pytest.fixture
def place(tmp_path: Path) -> Installation:
    return Installation(tmp_path).start_first()


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the vault's lock, as a running daemon does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


def test_a_new_installation_is_in_order(place: Installation) -> None:
    for name in ("state", "modes", "owners", "disk"):
        assert place.look(name).status == "ok", place.look(name)


def test_without_any_state_the_first_start_is_still_to_come(tmp_path: Path) -> None:
    place = Installation(tmp_path)
    assert place.look("state").status == "warning"
    assert place.look("chain").status == place.look("owners").status == "skipped"


def test_a_missing_vault_beside_its_key_fails(place: Installation) -> None:
    place.state.vault.unlink()
    finding = place.look("state")
    assert finding.status == "failure"
    assert str(place.state.vault) in finding.found
    assert "secretsctl backup restore" in finding.fixes[-1]


def test_a_missing_master_key_comes_from_its_recovery_file_and_no_backup(place: Installation) -> None:
    place.state.master_key.unlink()
    *_, fix = place.look("state").fixes
    assert fix.startswith("secretsctl recovery import RECOVERY-FILE")
    assert str(place.config_path) in fix


def test_an_interrupted_first_start_shows(place: Installation) -> None:
    place.state.mark.touch()
    assert "interrupted" in place.look("state").found


def test_a_leftover_file_of_an_interrupted_write_is_named_with_its_removal(place: Installation) -> None:
    left = place.state.vault.with_name("vault.json.new")
    left.touch(0o600)
    finding = place.look("state")
    assert (finding.status, finding.fixes) == ("warning", (f"rm {left}",))


def test_a_file_that_a_running_daemon_may_be_writing_is_no_leftover(place: Installation) -> None:
    place.state.vault.with_name("vault.json.new").touch(0o600)
    with held(place.state.lock):
        assert place.look("state").status == "ok"


def test_a_torn_line_that_was_set_aside_shows(place: Installation) -> None:
    place.state.audit.with_name("audit.jsonl.torn-120").touch(0o600)
    assert "torn" in place.look("state").found


@pytest.mark.parametrize(
    ("which", "mode", "status", "fix"),
    [
        ("master_key", 0o640, "failure", "chmod 600"),
        ("vault", 0o604, "failure", "chmod 600"),
        ("sign_key", 0o644, "failure", "chmod 600"),
        ("sign_pub", 0o664, "failure", "chmod 644"),
        ("past_keys", 0o664, "failure", "chmod 644"),
        ("audit", 0o640, "ok", ""),
        ("audit", 0o644, "warning", "chmod go-wx,o-r"),
        ("audit", 0o620, "failure", "chmod go-wx,o-r"),
    ],
)
def test_permissions_are_judged_by_what_the_file_is(
    place: Installation, which: str, mode: int, status: str, fix: str
) -> None:
    path: Path = getattr(place.state, which)
    path.touch()
    path.chmod(mode)
    finding = place.look("modes")
    assert finding.status == status
    assert finding.fixes == ((f"{fix} {path}",) if fix else ())


def test_a_master_key_that_was_set_aside_is_private_too(place: Installation) -> None:
    aside = place.state.master_key.with_name("master.key.replaced-1")
    aside.touch(0o644)
    assert place.look("modes").fixes == (f"chmod 600 {aside}",)


def test_folders_and_settings_open_to_others_show(place: Installation) -> None:
    place.state.vault.parent.chmod(0o755)
    assert place.look("modes").status == "warning"
    place.policy_path.chmod(0o666)
    finding = place.look("modes")
    assert finding.status == "failure"
    assert f"chmod go-w {place.policy_path}" in finding.fixes


def test_a_password_file_that_others_can_read_fails(place: Installation, tmp_path: Path) -> None:
    password = tmp_path / "mqtt.password"
    password.write_text("planted-value\n")
    password.chmod(0o640)
    place.configure({"bus": {"enabled": True, "username": "secretsd", "password_file": str(password)}})
    assert place.look("modes").status == "ok"
    password.chmod(0o644)
    finding = place.look("modes")
    assert finding.status == "failure"
    assert "planted-value" not in str(finding)


def test_whose_the_files_are_is_judged() -> None:
    vault, key, policy = Path("/s/vault.json"), Path("/s/master.key"), Path("/e/policy.yaml")
    assert judge_owners(65_501, {vault: 65_501, key: 65_501}, {policy: 0}).status == "ok"
    mixed = judge_owners(65_501, {vault: 65_501, key: 0}, {policy: 65_501})
    assert (mixed.status, mixed.fixes) == ("failure", (f"chown 65501: {key}",))
    assert judge_owners(65_501, {vault: 65_501}, {policy: 65_502}).status == "failure"


def test_the_holder_of_the_lock_tells_whose_the_state_should_be(place: Installation, tmp_path: Path) -> None:
    with held(place.state.lock):
        assert place.look("owners").status == "ok"
        proc = tmp_path / "proc"
        (proc / str(os.getpid())).mkdir(parents=True)
        (proc / "locks").write_text(Path("/proc/locks").read_text())
        (proc / str(os.getpid()) / "status").write_text("Uid:\t65501\t65501\t65501\t65501\n")
        finding = place.look("owners", proc=proc)
    assert finding.status == "failure"
    assert f"chown 65501: {place.state.vault}" in finding.fixes


@pytest.mark.parametrize(
    ("free", "inodes", "status"),
    [
        (4096 * MIB, 100_000, "ok"),
        (4096 * MIB, None, "ok"),
        (100 * MIB, 100_000, "warning"),
        (8 * MIB, 100_000, "failure"),
        (4096 * MIB, 500, "warning"),
        (4096 * MIB, 3, "failure"),
    ],
)
def test_room_on_the_disk_is_judged_by_bytes_and_inodes(free: int, inodes: int | None, status: str) -> None:
    finding = judge_room([Room((Path("/a"),), 4096 * MIB, None), Room((Path("/b"),), free, inodes)])
    assert finding.status == status
    assert ("/b" in finding.found) is (status != "ok")


def test_what_this_user_may_not_look_at_is_skipped_with_a_way(
    place: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: Path) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", denied)
    finding = place.look("state")
    assert finding.status == "skipped"
    assert "root" in finding.fixes[0]

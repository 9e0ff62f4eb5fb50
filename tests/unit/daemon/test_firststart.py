from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from secretsd import files
from secretsd.config import Config
from secretsd.crypto.sensitive import Sensitive
from secretsd.daemon.firststart import StateFiles, create_state, is_first_start
from secretsd.daemon.opening import open_state
from secretsd.errors import KeyFileError, StartupError, VaultError
from tests.unit.support.core import configured
from tests.unit.support.disk import PowerCut, spy

STATE = {"master.key", "vault.json", "vault.json.bus", "audit.jsonl", "audit.sign.key", "audit.sign.pub"}
REMADE = {"audit.sign.pub", "vault.json.bus"}
"""What a vault can do without for a start."""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configured(tmp_path)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name in STATE}


def test_keys_vault_and_log_are_made_with_their_modes(config: Config, tmp_path: Path) -> None:
    state = StateFiles(config)
    assert is_first_start(state)
    create_state(config, None)
    assert {path.name for path in tmp_path.iterdir()} == STATE | {"config.toml", "policy.yaml"}
    modes = {name: (tmp_path / name).stat().st_mode & 0o777 for name in STATE}
    assert modes == dict.fromkeys(STATE, 0o600) | {"audit.sign.pub": 0o644}
    assert not is_first_start(state)
    opened = open_state(config)
    assert (opened.sequence, opened.owed, opened.vault.document.generation) == (0, None, 0)


def test_what_exists_is_never_made_again(config: Config, tmp_path: Path) -> None:
    create_state(config, None)
    before = content(tmp_path)
    with pytest.raises(VaultError, match="exists already: nothing was made"):
        create_state(config, None)
    assert content(tmp_path) == before


def test_two_first_starts_share_nothing(tmp_path: Path) -> None:
    made = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        create_state(configured(tmp_path / name), None)
        made.append(content(tmp_path / name))
    assert all(made[0][name] != made[1][name] for name in STATE - {"audit.jsonl"})


STEPS = 8
"""The files that a first start puts in place one after the other, the mark first, and its removal."""


@pytest.mark.parametrize("passphrase", [None, Sensitive(b"correct horse")], ids=["plain", "wrapped"])
@pytest.mark.parametrize("step", range(STEPS))
@pytest.mark.parametrize("before_the_rename", [True, False])
def test_a_first_start_cut_short_anywhere_is_completed_and_overwrites_nothing(
    config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: int,
    passphrase: Sensitive | None,
    before_the_rename: bool,
) -> None:
    with monkeypatch.context() as patch:
        if step == STEPS - 1:
            spy(patch, "unlink").cut_power()
        elif before_the_rename:
            spy(patch, "replace").cut_power(after=step)
        else:
            spy(patch, "fsync").cut_power(after=2 * step + 1)
        with pytest.raises(PowerCut):
            create_state(config, passphrase)
    before = content(tmp_path)
    if step > 0 or not before_the_rename:
        assert is_first_start(StateFiles(config))
    create_state(config, passphrase)
    after = content(tmp_path)
    assert after.keys() == STATE
    assert {name: after[name] for name in before.keys() - REMADE} == {
        name: before[name] for name in before.keys() - REMADE
    }
    assert not is_first_start(StateFiles(config))
    monkeypatch.setattr("secretsd.daemon.passphrase.provided", lambda: passphrase)
    assert open_state(config).vault.document.generation == 0


def test_a_first_start_without_room_says_so_and_can_be_repeated(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        spy(patch, "fsync").fail(errno.ENOSPC, after=5)
        with pytest.raises(StartupError, match=r"first state: /.*: No space left on device; make room on its disk"):
            create_state(config, None)
    create_state(config, None)
    assert content(tmp_path).keys() == STATE


@pytest.mark.parametrize("missing", sorted(STATE - REMADE))
def test_a_single_missing_file_is_a_refusal_that_names_it(config: Config, tmp_path: Path, missing: str) -> None:
    create_state(config, None)
    (tmp_path / missing).unlink()
    before = content(tmp_path)
    for start in (lambda: open_state(config), lambda: create_state(config, None)):
        with pytest.raises(VaultError) as refusal:
            start()
        assert str(refusal.value).startswith(f"{tmp_path / missing} missing, but ")
        assert "volume not mounted" in str(refusal.value)
        way_back = "secretsctl recovery import" if missing.endswith("master.key") else "secretsctl backup restore"
        assert way_back in str(refusal.value)
    assert content(tmp_path) == before


@pytest.mark.parametrize("there", sorted(STATE - REMADE))
def test_a_single_file_that_is_there_is_no_first_start(config: Config, tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_bytes(b"x")
    with pytest.raises(VaultError, match=f"but {tmp_path / there} exists"):
        open_state(config)
    assert content(tmp_path) == {there: b"x"}


def test_a_folder_that_can_not_be_looked_into_is_a_refusal(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    create_state(config, None)
    exists = Path.exists

    def denied(path: Path) -> bool:
        if path.name == "audit.sign.key":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return exists(path)

    monkeypatch.setattr(Path, "exists", denied)
    with pytest.raises(VaultError, match=r"audit\.sign\.key is there: Permission denied"):
        open_state(config)


def test_rotated_files_of_a_log_count_as_the_log(config: Config, tmp_path: Path) -> None:
    create_state(config, None)
    (tmp_path / "audit.jsonl").rename(tmp_path / "audit.jsonl.1.gz")
    assert not is_first_start(StateFiles(config))


def test_the_public_key_is_made_anew_from_the_private_one(config: Config, tmp_path: Path) -> None:
    create_state(config, None)
    public = (tmp_path / "audit.sign.pub").read_bytes()
    for damaged in (None, b"another key"):
        (tmp_path / "audit.sign.pub").unlink()
        if damaged is not None:
            (tmp_path / "audit.sign.pub").write_bytes(damaged)
        open_state(config)
        assert (tmp_path / "audit.sign.pub").read_bytes() == public


@pytest.mark.parametrize("name", ["master.key", "audit.sign.key", "vault.json"])
def test_a_file_that_others_can_use_is_refused_with_what_to_do(config: Config, tmp_path: Path, name: str) -> None:
    create_state(config, None)
    (tmp_path / name).chmod(0o644)
    with pytest.raises((KeyFileError, VaultError), match=f"chmod 600 {tmp_path / name}"):
        open_state(config)


def test_folders_are_made_private(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "state"
    before = os.umask(0)
    try:
        files.make_folder(folder)
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert folder.parent.stat().st_mode & 0o777 == 0o755

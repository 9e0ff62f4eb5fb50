from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from secretsd.errors import VaultLocked, VaultWriteError
from secretsd.vault import store
from secretsd.vault.store import CommitUncertain, Lock
from tests.unit.support.disk import PowerCut, spy


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "vault.json"
    store.write(path, b"old")
    return path


@pytest.mark.parametrize("step", ["open", "write", "fsync", "replace"])
def test_a_power_cut_before_the_rename_leaves_the_old_document(
    path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    spy(monkeypatch, step).cut_power()
    with pytest.raises(PowerCut):
        store.write(path, b"new")
    monkeypatch.undo()
    assert store.read(path) == b"old"
    store.write(path, b"newer")
    assert store.read(path) == b"newer"
    assert [file.name for file in path.parent.iterdir()] == ["vault.json"]


def test_half_a_write_leaves_the_old_document(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:1]))
    fsync = spy(monkeypatch, "fsync")
    fsync.cut_power()
    with pytest.raises(PowerCut):
        store.write(path, b"new document")
    assert store.read(path) == b"old"


def test_a_write_that_the_kernel_cuts_up_is_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:3]))
    store.write(path, b"a document of some length")
    assert store.read(path) == b"a document of some length"


@pytest.mark.parametrize("step", ["open", "write", "fsync", "replace"])
def test_a_failure_before_the_rename_changes_nothing_and_leaves_nothing_behind(
    path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    spy(monkeypatch, step).fail(errno.ENOSPC)
    with pytest.raises(VaultWriteError, match="No space left on device") as failure:
        store.write(path, b"new")
    assert not isinstance(failure.value, CommitUncertain)
    assert store.read(path) == b"old"
    assert [file.name for file in path.parent.iterdir()] == ["vault.json"]


def test_a_folder_that_does_not_sync_leaves_the_outcome_open(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spy(monkeypatch, "fsync").fail(after=1)
    with pytest.raises(CommitUncertain, match="can't sync the folder"):
        store.write(path, b"new")
    assert store.read(path) == b"new"


def test_the_document_is_synced_before_the_rename_and_the_folder_after(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    real_fsync, real_replace = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        order.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")  # noqa: PTH112
        real_fsync(descriptor)

    def replace(self: Path, target: Path) -> Path:
        order.append("rename")
        return real_replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    store.write(path, b"new")
    assert order == ["file", "rename", "folder"]


def test_the_file_is_its_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store.write(tmp_path / "vault.json", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "vault.json").stat().st_mode & 0o777 == 0o600


def test_a_temporary_file_of_an_earlier_crash_is_not_followed_elsewhere(path: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched")
    path.with_name("vault.json.new").symlink_to(victim)
    store.write(path, b"new")
    assert (victim.read_bytes(), store.read(path)) == (b"untouched", b"new")


def test_a_second_lock_is_refused_and_the_first_one_named(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "lock")
    with pytest.raises(VaultLocked, match="another secretsd works on this vault") as refusal:
        Lock(tmp_path / "lock")
    assert refusal.value.exit_status == 75
    lock.release()
    Lock(tmp_path / "lock").release()


def test_the_lock_ends_with_the_process_that_has_it(tmp_path: Path) -> None:
    program = "import pathlib, sys; from secretsd.vault.store import Lock; lock = Lock(pathlib.Path(sys.argv[1])); "
    program += "print('held', flush=True); input()"
    command = [sys.executable, "-c", program, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(VaultLocked):
            Lock(tmp_path / "lock")
        holder.kill()
        holder.wait()
    Lock(tmp_path / "lock").release()

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from secretsd import reserve as reserves
from secretsd.reserve import FILE_NAME, FREE_AGAIN_BYTES, FREE_BEFORE_BYTES, RESERVED_BYTES, Reserve

KILLED_IN_TAKE = """
import os, sys
from pathlib import Path
from secretsd.reserve import Reserve

def fallocate(descriptor, offset, size, real=os.posix_fallocate):
    real(descriptor, offset, int(sys.argv[2])) if int(sys.argv[2]) else None
    os.kill(os.getpid(), 9)

os.posix_fallocate = fallocate
Reserve([Path(sys.argv[1])]).take()
"""


@pytest.fixture
def reserve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reserve:
    monkeypatch.setattr(reserves, "RESERVED_BYTES", 8192)
    return Reserve([tmp_path, tmp_path])


def free(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=count, f_frsize=1))


def be_killed_in_take(folder: Path, after: int) -> None:
    """Let a process be killed while it takes its reserve in the folder, after so many bytes of it."""
    done = subprocess.run([sys.executable, "-c", KILLED_IN_TAKE, str(folder), str(after)], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL


def test_the_space_is_really_taken_once_on_each_file_system(reserve: Reserve, tmp_path: Path) -> None:
    assert reserve.take()
    assert reserve.take()
    (file,) = tmp_path.iterdir()
    assert file.name == FILE_NAME
    assert file.stat().st_blocks * 512 >= 8192
    assert file.stat().st_mode & 0o777 == 0o600


def test_it_is_given_up_once_and_then_only_changes_may_be_written_until_it_is_taken_back(
    reserve: Reserve, tmp_path: Path
) -> None:
    assert not reserve.give_up()
    assert not reserve.spent
    reserve.take()
    assert reserve.give_up()
    assert (tmp_path / FILE_NAME).stat().st_blocks == 0
    assert reserve.spent
    assert not reserve.give_up()
    assert reserve.spent
    assert reserve.take()
    assert not reserve.spent


def test_a_reserve_is_never_what_fills_the_disk(
    reserve: Reserve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert FREE_BEFORE_BYTES > RESERVED_BYTES
    free(monkeypatch, FREE_BEFORE_BYTES - 1)
    assert not reserve.take()
    assert list(tmp_path.iterdir()) == []
    free(monkeypatch, FREE_BEFORE_BYTES)
    assert reserve.take()


def test_the_next_start_knows_that_it_was_given_up_and_when_there_is_room_again(
    reserve: Reserve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve.take()
    reserve.give_up()
    free(monkeypatch, FREE_AGAIN_BYTES - 1)
    next_one = Reserve([tmp_path, tmp_path])
    assert not next_one.take()
    assert next_one.spent
    assert not next_one.give_up()
    free(monkeypatch, FREE_AGAIN_BYTES)
    assert next_one.take()
    assert not next_one.spent


def test_it_takes_less_room_to_come_back_than_to_begin(reserve: Reserve, monkeypatch: pytest.MonkeyPatch) -> None:
    assert RESERVED_BYTES < FREE_AGAIN_BYTES < FREE_BEFORE_BYTES - RESERVED_BYTES
    free(monkeypatch, FREE_AGAIN_BYTES)
    assert not reserve.take()
    assert not reserve.spent


@pytest.mark.parametrize("after", [0, 4096])
def test_a_kill_while_it_is_first_taken_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    be_killed_in_take(tmp_path, after)
    next_one = Reserve([tmp_path])
    free(monkeypatch, FREE_BEFORE_BYTES - 1)
    assert not next_one.take()
    assert not next_one.spent
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("after", [0, 4096])
def test_a_kill_while_it_is_taken_back_leaves_it_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    (tmp_path / FILE_NAME).touch(mode=0o600)
    be_killed_in_take(tmp_path, after)
    next_one = Reserve([tmp_path])
    free(monkeypatch, FREE_AGAIN_BYTES - 1)
    assert not next_one.take()
    assert next_one.spent
    free(monkeypatch, FREE_AGAIN_BYTES)
    assert next_one.take()
    assert [file.name for file in tmp_path.iterdir()] == [FILE_NAME]


def test_where_none_was_ever_taken_nothing_is_kept(reserve: Reserve, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 0)
    assert not reserve.take()
    assert not reserve.spent


def test_what_was_borrowed_of_it_is_put_back_where_it_fits(
    reserve: Reserve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve.put_back()
    assert list(tmp_path.iterdir()) == []
    free(monkeypatch, FREE_BEFORE_BYTES)
    reserve.take()
    reserve.give_up()
    free(monkeypatch, 0)
    reserve.put_back()
    assert reserve.take()
    assert not reserve.spent


def test_what_is_no_file_is_not_followed(reserve: Reserve, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("stays")
    (tmp_path / FILE_NAME).symlink_to(target)
    assert not reserve.give_up()
    reserve.take()
    assert target.read_text() == "stays"
    assert (tmp_path / FILE_NAME).is_symlink()


def test_half_a_reserve_is_none(reserve: Reserve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert not reserve.take()
    assert list(tmp_path.iterdir()) == []

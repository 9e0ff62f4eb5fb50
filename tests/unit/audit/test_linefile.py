from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secretsd.audit.linefile import LATE_SECONDS, MOVES_FOLLOWED, LineFile
from secretsd.errors import AuditWriteError
from tests.unit.support.disk import Call, spy


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture
def file(path: Path) -> LineFile:
    file = LineFile(path)
    file.append(b"one\n")
    return file


def rotated(path: Path) -> Path:
    return path.with_name("audit.jsonl.1")


def test_lines_come_one_after_the_other_in_a_private_file(path: Path, file: LineFile) -> None:
    file.append(b"two\nthree\n")
    assert path.read_bytes() == b"one\ntwo\nthree\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_existing_file_keeps_what_it_has_and_its_mode(path: Path) -> None:
    path.write_bytes(b"zero\n")
    path.chmod(0o640)
    LineFile(path).append(b"one\n")
    assert path.read_bytes() == b"zero\none\n"
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_new_file_is_durable_in_its_folder_before_its_lines_count(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy(monkeypatch, "fsync").fail(times=2)
    file = LineFile(path)
    for _ in range(2):
        with pytest.raises(AuditWriteError):
            file.append(b"one\n")
    file.append(b"two\n")
    assert path.read_bytes() == b"two\n"


def test_a_file_that_log_rotation_made_is_durable_in_its_folder_before_its_lines_count(
    path: Path, file: LineFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.rename(rotated(path))
    path.touch(mode=0o640)
    folders = spy(monkeypatch, "fsync")
    file.append(b"two\n")
    assert path.read_bytes() == b"two\n"
    assert folders.count == 1


def test_what_a_folder_s_failed_sync_leaves_is_no_descriptor(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = LineFile(path)
    spy(monkeypatch, "fsync").fail(times=20)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        with pytest.raises(AuditWriteError):
            file.append(b"one\n")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_after_a_rename_the_next_lines_stand_in_the_new_file(path: Path, file: LineFile) -> None:
    path.rename(rotated(path))
    file.append(b"two\n")
    file.append(b"three\n")
    assert path.read_bytes() == b"two\nthree\n"
    assert rotated(path).read_bytes() == b"one\ntwo\n"


def test_after_a_rename_and_a_new_file_in_its_place_the_lines_stand_there(path: Path, file: LineFile) -> None:
    path.rename(rotated(path))
    path.touch(mode=0o640)
    file.append(b"two\n")
    assert path.read_bytes() == b"two\n"


def test_after_a_removal_the_lines_stand_in_a_new_file_with_those_that_a_copy_may_have_missed(
    path: Path, file: LineFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    monkeypatch.setattr("time.monotonic", lambda: now)
    for number in range(4):
        now += LATE_SECONDS
        file.append(b"%d\n" % number)
    path.unlink()
    file.append(b"last\n")
    # What came within the span before the removal is repeated, not the whole file.
    assert path.read_bytes() == b"3\nlast\n"


def test_after_a_reopen_what_a_removed_file_took_along_comes_first(path: Path, file: LineFile) -> None:
    path.unlink()
    file.reopen()
    file.append(b"two\n")
    assert path.read_bytes() == b"one\ntwo\n"


def test_after_a_reopen_nothing_is_repeated(path: Path, file: LineFile) -> None:
    path.rename(rotated(path))
    file.reopen()
    file.append(b"two\n")
    assert (rotated(path).read_bytes(), path.read_bytes()) == (b"one\n", b"two\n")


def test_a_link_in_the_place_of_the_log_is_not_followed(path: Path, file: LineFile, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"")
    path.unlink()
    path.symlink_to(victim)
    with pytest.raises(AuditWriteError):
        file.append(b"two\n")
    assert victim.read_bytes() == b""


@given(st.lists(st.sampled_from(["append", "rename", "remove", "replace", "reopen"]), max_size=25))
def test_whatever_is_done_to_the_file_each_acknowledged_line_stands_at_the_path_or_in_a_rotated_file(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("log")
    path = folder / "audit.jsonl"
    file = LineFile(path)
    written: list[bytes] = []
    kept: list[Path] = []
    for number, step in enumerate(steps):
        if step == "append":
            line = b"%d\n" % number
            file.append(line)
            written.append(line)
            assert path.read_bytes().endswith(line)
        elif step == "reopen":
            file.reopen()
        elif path.exists():
            # What is removed is lost by its remover; copies stand for what a rotation would keep.
            kept.append(folder / f"audit.jsonl.{number}")
            if step == "remove":
                kept[-1].write_bytes(path.read_bytes())
                path.unlink()
            else:
                path.rename(kept[-1])
            if step == "replace":
                path.touch()
    found = b"".join(one.read_bytes() for one in [*kept, path] if one.exists()).splitlines(keepends=True)
    assert list(dict.fromkeys(found)) == written


@pytest.mark.parametrize(("call", "number"), [("write", errno.ENOSPC), ("fdatasync", errno.EIO)])
def test_after_a_failure_the_file_is_cut_back_given_up_and_opened_anew(
    path: Path, file: LineFile, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    spy(monkeypatch, call).fail(number)
    opened = spy(monkeypatch, "open")
    with pytest.raises(AuditWriteError, match=os.strerror(number)) as failure:
        file.append(b"two\n")
    assert not failure.value.kept
    assert path.read_bytes() == b"one\n"
    file.append(b"three\n")
    assert path.read_bytes() == b"one\nthree\n"
    assert opened.count >= 1


def test_half_a_written_line_is_cut_off(path: Path, file: LineFile, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    written = spy(monkeypatch, "write")
    written._real = lambda descriptor, data: real(descriptor, data[:2])
    written.fail(errno.ENOSPC, after=1)
    with pytest.raises(AuditWriteError, match="No space left"):
        file.append(b"two\n")
    assert path.read_bytes() == b"one\n"


def test_a_cut_that_fails_is_made_up_before_anything_is_added(
    path: Path, file: LineFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy(monkeypatch, "fdatasync").fail()
    spy(monkeypatch, "ftruncate").fail()
    with pytest.raises(AuditWriteError):
        file.append(b"two\n")
    assert path.read_bytes() == b"one\ntwo\n"
    file.append(b"three\n")
    assert path.read_bytes() == b"one\nthree\n"


def test_a_cut_that_is_owed_to_one_file_is_not_made_to_another(
    path: Path, file: LineFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy(monkeypatch, "fdatasync").fail()
    spy(monkeypatch, "ftruncate").fail()
    with pytest.raises(AuditWriteError):
        file.append(b"two\n")
    path.rename(rotated(path))
    path.write_bytes(b"longer than the file that was cut\n")
    file.append(b"three\n")
    assert path.read_bytes() == b"longer than the file that was cut\nthree\n"


def test_while_the_cut_can_not_be_made_nothing_is_added(
    path: Path, file: LineFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy(monkeypatch, "fdatasync").fail()
    spy(monkeypatch, "ftruncate").fail(times=5)
    for line in (b"two\n", b"three\n", b"four\n"):
        with pytest.raises(AuditWriteError):
            file.append(line)
    file.append(b"five\n")
    assert path.read_bytes() == b"one\nfive\n"


def moved_when(call: Call, path: Path, moves: list[Path]) -> None:
    """Let the file be renamed at the moment of each sync, as long as there are `moves`."""
    real: Callable[[int], None] = call._real

    def sync(descriptor: int) -> None:
        real(descriptor)
        if moves:
            path.rename(moves.pop(0))

    call._real = sync


def test_a_file_moved_at_the_moment_of_the_sync_is_followed(
    path: Path, file: LineFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves = [path.with_name(f"audit.jsonl.{number}") for number in range(3)]
    moved_when(spy(monkeypatch, "fdatasync"), path, list(moves))
    file.append(b"two\n")
    assert path.read_bytes() == b"two\n"
    assert [one.read_bytes() for one in moves] == [b"one\ntwo\n", b"two\n", b"two\n"]


def test_a_file_moved_without_end_is_given_up_and_its_lines_are_owed(
    path: Path, file: LineFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves = [path.with_name(f"audit.jsonl.{number}") for number in range(MOVES_FOLLOWED)]
    moved_when(spy(monkeypatch, "fdatasync"), path, moves)
    with pytest.raises(AuditWriteError, match="moved away again and again") as failure:
        file.append(b"two\n")
    assert failure.value.kept
    file.append(b"three\n")
    file.append(b"four\n")
    assert path.read_bytes() == b"two\nthree\nfour\n"


def test_lines_that_stand_in_a_rotated_file_come_first_in_the_next_one(
    path: Path, file: LineFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.rename(rotated(path))
    written = spy(monkeypatch, "write")
    written.fail(errno.ENOSPC, times=2, after=1)
    for line in (b"two\n", b"three\n"):
        with pytest.raises(AuditWriteError) as failure:
            file.append(line)
        # The second batch got nowhere: but it may follow the first one only, so that is repeated with it.
        assert failure.value.kept == (line == b"two\n")
    file.append(b"four\n")
    assert rotated(path).read_bytes() == b"one\ntwo\n"
    assert path.read_bytes() == b"two\nfour\n"


def test_half_a_line_is_cut_off_the_new_file_too(path: Path, file: LineFile, monkeypatch: pytest.MonkeyPatch) -> None:
    path.rename(rotated(path))
    spy(monkeypatch, "fdatasync").fail(after=1)
    with pytest.raises(AuditWriteError) as failure:
        file.append(b"two\n")
    assert failure.value.kept
    assert (rotated(path).read_bytes(), path.read_bytes()) == (b"one\ntwo\n", b"")


def test_a_path_that_can_not_be_looked_at_after_the_sync_leaves_the_lines_in_the_log(
    path: Path, file: LineFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy(monkeypatch, "lstat").fail(errno.EIO)
    with pytest.raises(AuditWriteError) as failure:
        file.append(b"two\n")
    assert failure.value.kept
    assert path.read_bytes() == b"one\ntwo\n"
    file.append(b"three\n")
    assert path.read_bytes() == b"one\ntwo\ntwo\nthree\n"


def test_a_probe_leaves_nothing_behind(path: Path, file: LineFile) -> None:
    file.probe()
    assert [one.name for one in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("call", ["open", "write", "fsync"])
def test_a_probe_that_can_not_be_made_durable_fails_and_leaves_nothing_behind(
    path: Path, file: LineFile, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    spy(monkeypatch, call).fail(errno.ENOSPC)
    with pytest.raises(AuditWriteError, match="No space left"):
        file.probe()
    assert [one.name for one in path.parent.iterdir()] == [path.name]

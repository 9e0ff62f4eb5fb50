from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from secretsd import files


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    files.replace(path, b"kept")
    return path


@pytest.fixture
def tight_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def test_a_link_in_the_place_of_a_private_file_is_not_read(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises(OSError, match="symbolic links"):
        files.read_private(link)


def test_a_pipe_in_the_place_of_a_private_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(OSError, match="not a regular file"):
        files.read_private(tmp_path / "pipe")


@pytest.mark.parametrize("mode", [0o640, 0o620, 0o610, 0o604, 0o602, 0o601])
def test_a_file_that_group_or_others_may_use_is_not_read(path: Path, mode: int) -> None:
    path.chmod(mode)
    with pytest.raises(files.ReadableByOthers, match=f"chmod 600 {path}"):
        files.read_private(path)


@pytest.mark.usefixtures("tight_umask")
def test_a_public_file_has_the_mode_asked_for_whatever_the_umask(path: Path) -> None:
    files.replace(path, b"public", 0o644)
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("owner", [None, (os.geteuid(), os.getegid())])
def test_a_file_that_is_not_whole_yet_is_its_owners_alone(
    path: Path, owner: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[int] = []

    def write(descriptor: int, _: bytes) -> None:
        modes.append(os.fstat(descriptor).st_mode & 0o777)
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(files, "write_all", write)
    with pytest.raises(OSError, match="full") as failed:
        files.save(path, b"new", 0o644, owner=owner)
    assert (modes, failed.value.filename, path.read_bytes()) == ([0o600], str(path), b"kept")
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_somebody_named_takes_no_other_with_it(path: Path) -> None:
    beside = path.with_name("file.new")
    beside.write_bytes(b"theirs")
    files.save(path, b"saved")
    assert (path.read_bytes(), beside.read_bytes()) == (b"saved", b"theirs")


def test_no_file_takes_the_place_of_a_link(path: Path) -> None:
    link = path.with_name("link")
    link.symlink_to(path)
    with pytest.raises(OSError, match="it is a link: name the file itself"):
        files.save(link, b"saved")
    assert (link.is_symlink(), path.read_bytes()) == (True, b"kept")


def test_a_folder_that_is_there_keeps_its_mode_and_a_new_one_is_private(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    there.chmod(0o750)
    files.make_folder(there)
    files.make_folder(tmp_path / "new")
    assert [one.stat().st_mode & 0o777 for one in (there, tmp_path / "new")] == [0o750, 0o700]

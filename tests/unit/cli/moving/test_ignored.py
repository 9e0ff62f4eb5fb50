"""How a .env stands with git, and what is said about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from secretsd.cli.moving.ignored import GitState, look_up, remarks
from tests.support.repository import GitRepository


@pytest.fixture
def repository(tmp_path: Path) -> GitRepository:
    return GitRepository(tmp_path / "code")


@pytest.mark.parametrize("name", [".env", ":(top) *.env", "-n.env"])
def test_ignored_and_tracked_are_told_apart(repository: GitRepository, name: str) -> None:
    file = repository.folder / "conf" / name
    repository.commit("1", {"README": b"x", f"conf/other{name}": b"y"})
    file.write_text("A=1\n")
    assert look_up(file) == GitState(str(repository.folder))
    (repository.folder / ".gitignore").write_text("conf/*.env\n")
    assert look_up(file) == GitState(str(repository.folder), ignored=True)
    repository.commit("2", {})
    assert look_up(file) == GitState(str(repository.folder), ignored=True, tracked=True)


def test_a_file_outside_of_a_repository_needs_no_remark(tmp_path: Path) -> None:
    (tmp_path / ".env").touch()
    state = look_up(tmp_path / ".env")
    assert state == GitState("")
    assert remarks(tmp_path / ".env", state) == []


def test_a_repository_that_git_can_not_read_stops_nothing(repository: GitRepository) -> None:
    (repository.folder / ".git" / "config").write_text("[broken")
    state = look_up(repository.folder / ".env")
    assert state is not None
    (remark,) = remarks(repository.folder / ".env", state)
    assert "was not looked up" in remark


def test_each_state_says_what_to_run() -> None:
    file = Path("/srv/my code/.env")
    assert "rm --cached .env" in remarks(file, GitState("/srv", ignored=True, tracked=True))[0]
    assert remarks(file, GitState("/srv"))[0].endswith("echo /.env >> '/srv/my code/.gitignore'")
    assert len(remarks(file, GitState("/srv", tracked=True))) == 2
    assert remarks(file, GitState("/srv", ignored=True)) == []
    assert "git isn't installed" in remarks(file, None)[0]

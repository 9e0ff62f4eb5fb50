"""The file of a template: private, replaced as a whole, taken back, and what is noted beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from secretsd.cli.errors import Failed
from secretsd.cli.rendering.target import Access, Note, Target, parse_mode, parse_owner
from secretsd.cli.running.folder import Delivered

NOTE = Note({"token": Delivered("kid-of-the-token", 3)}, owed=False)


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    made = Target(tmp_path / "conf", Access())
    yield made
    made.close()


def bring(target: Target, data: bytes) -> None:
    target.stage(data)
    target.place()
    target.discard()


def test_a_file_is_its_owner_s_alone_unless_told_otherwise(tmp_path: Path, target: Target) -> None:
    bring(target, b"new")
    target.accept()
    assert (tmp_path / "conf").stat().st_mode & 0o777 == 0o600
    wider = Target(tmp_path / "conf", Access(0o640, (os.geteuid(), os.getegid())))
    assert not wider.holds(b"new")
    bring(wider, b"new")
    assert wider.holds(b"new")
    assert (tmp_path / "conf").stat().st_mode & 0o777 == 0o640


def test_what_is_taken_back_is_what_was_there_before(tmp_path: Path, target: Target) -> None:
    bring(target, b"new")
    target.take_back()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "conf").write_text("old")
    bring(target, b"new")
    target.take_back()
    assert (tmp_path / "conf").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["conf"]


def test_taking_back_what_was_never_placed_leaves_the_file_alone(tmp_path: Path, target: Target) -> None:
    (tmp_path / "conf").write_text("old")
    target.stage(b"new")
    target.discard()
    target.take_back()
    assert (tmp_path / "conf").read_text() == "old"


def test_a_file_that_a_crash_left_unchecked_is_taken_back(tmp_path: Path, target: Target) -> None:
    (tmp_path / "conf").write_text("old")
    bring(target, b"unchecked")
    Target(tmp_path / "conf", Access()).open()
    assert (tmp_path / "conf").read_text() == "old"


def test_the_note_says_what_was_acted_on_last(tmp_path: Path, target: Target) -> None:
    assert target.open() == Note({}, owed=True)
    target.remember(NOTE)
    assert target.open() == NOTE
    assert (tmp_path / ".conf.secretsctl.json").stat().st_mode & 0o777 == 0o600


def test_a_file_has_one_keeper(tmp_path: Path, target: Target) -> None:
    target.open()
    other = Target(tmp_path / "conf", Access())
    with pytest.raises(Failed, match="another `secretsctl template` keeps"):
        other.open()
    target.close()
    other.open()
    other.close()


def test_what_is_no_note_of_ours_is_refused(tmp_path: Path, target: Target) -> None:
    note = tmp_path / ".conf.secretsctl.json"
    note.write_text("[]")
    note.chmod(0o600)
    with pytest.raises(Failed, match="isn't a note of this command"):
        target.open()


def test_what_is_no_plain_file_is_refused(tmp_path: Path, target: Target) -> None:
    (tmp_path / "conf").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Failed, match="no plain file"):
        target.open()


@pytest.mark.parametrize("text", ["", "999", "0777", "0044", "04600", "rw"])
def test_a_mode_is_octal_and_gives_nobody_execution(text: str) -> None:
    with pytest.raises(ValueError, match="a mode"):
        parse_mode(text)
    assert parse_mode("0640") == 0o640


def test_an_owner_is_a_user_and_a_group() -> None:
    assert parse_owner("1000:1001") == (1000, 1001)
    assert parse_owner("root:root") == (0, 0)
    assert parse_owner(":1001") == (os.geteuid(), 1001)
    with pytest.raises(ValueError, match="no such user"):
        parse_owner("no-such-user-here")

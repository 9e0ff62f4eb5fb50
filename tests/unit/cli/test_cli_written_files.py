"""Files that commands write: nothing but the file that was named is touched, and no link becomes a file."""

from __future__ import annotations

import os
from pathlib import Path

import pyrage
import pytest

from tests.unit.backup.places import Place
from tests.unit.cli.conftest import Ctl
from tests.unit.cli.fake_daemon import FakeDaemon

RECIPIENT = str(pyrage.x25519.Identity.generate().to_public())
ENV = "DB_PASSWORD=pl4nted-db\n"


@pytest.fixture
def link(tmp_path: Path) -> Path:
    """A link to a file of somebody's, as /dev/stdout is one to where standard output goes."""
    (tmp_path / "theirs").write_text("theirs")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "theirs")
    return link


@pytest.fixture
def dotenv(tmp_path: Path) -> Path:
    path = tmp_path / ".env"
    path.write_text(ENV)
    path.chmod(0o600)
    return path


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "home")


def is_still(link: Path) -> bool:
    return link.is_symlink() and (link.parent / "theirs").read_text() == "theirs"


def test_get_refuses_a_link_before_the_value_is_read(daemon: FakeDaemon, ctl: Ctl, link: Path) -> None:
    daemon.plant("note", "pl4nted")
    result = ctl("get", "note", "-o", str(link))
    assert (result.exit_code, daemon.seen) == (1, [])
    assert result.stderr == (f"error: {link} is a link: name the file itself\nhint: for standard output leave -o out\n")
    assert is_still(link)


def test_get_refuses_a_folder_and_says_so(daemon: FakeDaemon, ctl: Ctl, tmp_path: Path) -> None:
    result = ctl("get", "note", "-o", str(tmp_path))
    assert result.exit_code == 1
    assert "is a folder" in result.stderr


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_a_backup_refuses_a_link(ctl: Ctl, place: Place, link: Path, force: list[str]) -> None:
    config = str(place.config.source)
    result = ctl("backup", "create", str(link), "--recipient", RECIPIENT, "--config", config, *force)
    assert result.exit_code == 1
    assert f"{link} is a link: name the file itself; - is standard output" in result.stderr
    assert is_still(link)


def test_a_backup_of_a_dotenv_refuses_a_link_before_anything_is_imported(
    daemon: FakeDaemon, ctl: Ctl, dotenv: Path, link: Path
) -> None:
    result = ctl("import-env", str(dotenv), "--backup", str(link), "--recipient", RECIPIENT)
    assert result.exit_code == 1
    assert f"{link} is a link" in result.stderr
    assert daemon.secrets == {}
    assert is_still(link)


def sealed(ctl: Ctl, dotenv: Path) -> list[str]:
    """Import the file; return what brings it back."""
    folder = dotenv.parent
    identity = pyrage.x25519.Identity.generate()
    (folder / "identity").write_text(f"{identity}\n")
    (folder / "identity").chmod(0o600)
    result = ctl(
        "import-env", str(dotenv), "--backup", str(folder / "env.age"), "--recipient", str(identity.to_public())
    )
    assert result.exit_code == 0, result.output
    return ["restore-env", str(folder / "env.age"), "-i", str(folder / "identity"), "--yes"]


def test_a_dotenv_comes_back_behind_the_link_that_stays_one(daemon: FakeDaemon, ctl: Ctl, dotenv: Path) -> None:
    way_back = sealed(ctl, dotenv)
    dotenv.write_text("emptied")
    named = dotenv.with_name("named")
    named.symlink_to(dotenv)
    assert ctl(*way_back, str(named)).exit_code == 0
    assert (named.is_symlink(), dotenv.read_text()) == (True, ENV)


@pytest.mark.parametrize("what", ["a link to nothing", "a pipe"])
def test_a_dotenv_is_not_brought_back_where_no_file_can_be(
    daemon: FakeDaemon, ctl: Ctl, dotenv: Path, what: str
) -> None:
    way_back = sealed(ctl, dotenv)
    target = dotenv.with_name("target")
    if what == "a pipe":
        os.mkfifo(target)
    else:
        target.symlink_to(dotenv.with_name("nothing"))
    result = ctl(*way_back, str(target))
    assert result.exit_code == 1
    assert ("is no ordinary file" if what == "a pipe" else "name the file itself") in result.stderr
    assert not target.is_file()


@pytest.mark.parametrize(
    ("before", "after"), [(0o644, 0o600), (0o664, 0o600), (0o640, 0o640), (0o660, 0o660), (0o600, 0o600)]
)
def test_a_dotenv_that_comes_back_is_open_to_nobody_that_was_not_meant(
    daemon: FakeDaemon, ctl: Ctl, dotenv: Path, before: int, after: int
) -> None:
    way_back = sealed(ctl, dotenv)
    dotenv.write_text("emptied")
    dotenv.chmod(before)
    result = ctl(*way_back, str(dotenv))
    assert result.exit_code == 0
    assert (dotenv.read_text(), dotenv.stat().st_mode & 0o777) == (ENV, after)
    assert f"restored {dotenv}, mode {after:04o}" in result.stdout
    assert (f"its mode was {before:04o}" in result.stderr) is (before != after)


def test_files_of_the_same_name_with_an_ending_are_left_alone(
    daemon: FakeDaemon, ctl: Ctl, dotenv: Path, place: Place, tmp_path: Path
) -> None:
    daemon.plant("note", "value")
    theirs = [tmp_path / name for name in ("out.new", ".env.new", "env.age.new", "backup.new", "backup.part")]
    for file in theirs:
        file.write_text("theirs")
    assert ctl("get", "note", "-o", str(tmp_path / "out")).exit_code == 0
    way_back = sealed(ctl, dotenv)
    config = str(place.config.source)
    again = ["import-env", str(dotenv), "--backup", str(tmp_path / "again"), "--recipient", RECIPIENT, "--replace"]
    backup = ["backup", "create", str(tmp_path / "backup"), "--recipient", RECIPIENT, "--config", config]
    for command in (again, [*way_back, str(dotenv)], backup):
        result = ctl(*command)
        assert result.exit_code == 0, result.output
    assert [file.read_text() for file in theirs] == ["theirs"] * len(theirs)
    assert list(tmp_path.glob(".secretsctl-*")) == []

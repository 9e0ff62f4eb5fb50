"""scan: whose values lie where, never the values; what can't be looked at is no clean bill."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from secretsd.cli.leaks.tree import chunks
from tests.support.repository import GitRepository
from tests.unit.cli.conftest import Ctl
from tests.unit.cli.fake_daemon import FakeDaemon

VALUE = "pl4nted-brave"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "srv"
    folder.mkdir()
    (folder / "clean").write_text("nothing here\n")
    return folder


@pytest.fixture(autouse=True)
def _planted(daemon: FakeDaemon) -> None:
    daemon.plant("brave_api_key", VALUE)


def test_a_clean_place_is_no_failure(ctl: Ctl, place: Path) -> None:
    result = ctl("scan", str(place))
    assert (result.exit_code, result.stdout) == (0, "nothing found\n")


def test_files_and_history_are_told_apart_and_no_value_is_shown(ctl: Ctl, place: Path) -> None:
    repository = GitRepository(place / "code")
    commit = repository.commit("1", {"conf/.env": f"A=1\nKEY={VALUE}\n".encode()})
    repository.commit("2", {"conf/.env": None})
    (place / "auth").write_bytes(b"\0binary " + base64.b64encode(f"user:{VALUE}".encode()))
    for options in ([], ["--json"]):
        result = ctl("scan", str(place), *options)
        assert result.exit_code == 1
        assert VALUE not in result.output
        assert "secretsctl put --urgent" in result.stderr
        assert "git filter-repo --replace-text" in result.stderr
    in_file, in_history = json.loads(ctl("scan", str(place), "--json").stdout)["findings"]
    assert (in_file["secret"], in_file["form"], in_file["path"]) == ("brave_api_key", "base64", str(place / "auth"))
    assert (in_history["commit"], in_history["path"], in_history["line"]) == (commit, "conf/.env", 2)


def test_the_repository_around_a_folder_is_looked_through(ctl: Ctl, place: Path) -> None:
    repository = GitRepository(place)
    repository.commit("1", {".env": VALUE.encode(), "src/main": b"x"})
    repository.commit("2", {".env": None})
    assert ctl("scan", str(place / "src")).exit_code == 1
    assert ctl("scan", str(place / "src"), "--no-history").exit_code == 0


def test_versions_in_grace_are_looked_for_too(ctl: Ctl, daemon: FakeDaemon, place: Path) -> None:
    daemon.plant("brave_api_key", "pl4nted-newer")
    (place / "old").write_text(VALUE)
    result = ctl("scan", str(place), "--json")
    assert [one["version"] for one in json.loads(result.stdout)["findings"]] == [1]


def test_short_values_are_left_out_and_named(ctl: Ctl, daemon: FakeDaemon, place: Path) -> None:
    daemon.plant("pin_token", "1234")
    (place / "numbers").write_text("1234\n")
    result = ctl("scan", str(place))
    assert result.exit_code == 0
    assert "fewer than 8 bytes" in result.stderr
    assert "pin_token" in result.stderr
    assert ctl("scan", str(place), "--min-length", "4").exit_code == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--only", "brave_api_kye"], "did you mean brave_api_key?"),
        (["--only", "*_key", "--only", "zz*"], "no secret that this client may read matches zz*"),
        (["--skip", "*"], "--skip leaves out every secret"),
        (["--min-length", "14"], "no value of brave_api_key has 14 bytes"),
    ],
)
def test_to_look_for_nothing_is_an_error(ctl: Ctl, place: Path, options: list[str], says: str) -> None:
    for more in ([], ["--json"]):
        result = ctl("scan", str(place), *options, *more)
        assert (result.exit_code, result.stdout) == (1, "")
        assert says in result.stderr
        assert "hint:" in result.stderr


def test_a_client_that_may_read_nothing_proves_nothing(ctl: Ctl, daemon: FakeDaemon, place: Path) -> None:
    daemon.secrets.clear()
    result = ctl("scan", str(place))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "this client may read no secret" in result.stderr


def test_only_the_secrets_that_match_are_read(ctl: Ctl, daemon: FakeDaemon, place: Path) -> None:
    daemon.plant("db_password", "pl4nted-pg")
    ctl("scan", str(place), "--only", "*_key", "--skip", "db_*")
    assert {seen.path for seen in daemon.calls("GET", "/secret/")} == {"/secret/brave_api_key"}


def test_what_can_not_be_read_is_a_failure_of_its_own(ctl: Ctl, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(path: Path) -> object:
        if path.name == "closed":
            raise PermissionError(13, "Permission denied")
        return chunks(path)

    monkeypatch.setattr("secretsd.cli.scan.chunks", refusing)
    (place / "closed").touch()
    result = ctl("scan", str(place), "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["complete"] is False
    assert f"not read: {place / 'closed'}: Permission denied" in result.stderr
    assert ctl("scan", str(place), "--exclude", "closed").exit_code == 0


def test_the_replacements_are_written_only_when_asked_for_and_private(ctl: Ctl, place: Path, tmp_path: Path) -> None:
    GitRepository(place / "code").commit("1", {".env": VALUE.encode()})
    rules = tmp_path / "rules"
    assert ctl("scan", str(place), "--replacements", str(rules)).exit_code == 1
    assert rules.read_text() == f"literal:{VALUE}==>***REMOVED***\n"
    assert rules.stat().st_mode & 0o777 == 0o600
    hiding = tmp_path / VALUE
    assert VALUE not in ctl("scan", str(place), "--replacements", str(hiding)).output
    assert hiding.read_text() == rules.read_text()
    again = ctl("scan", str(place), "--replacements", str(rules))
    assert "exists" in again.stderr


@pytest.mark.parametrize("value", ["pl4nted-folder", 'pl4nted "\\ \u00e9', "pl4nted-a/pl4nted-b"])
def test_a_path_that_holds_a_value_is_shown_without_it(
    ctl: Ctl, daemon: FakeDaemon, place: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    def refusing(path: Path) -> object:
        if path.name == "closed":
            raise PermissionError(13, "Permission denied")
        return chunks(path)

    monkeypatch.setattr("secretsd.cli.scan.chunks", refusing)
    daemon.plant("web_password", value)
    folder = place / "x" / value
    folder.mkdir(parents=True)
    (folder / "closed").touch()
    (folder / "file").write_text(value)
    repository = GitRepository(folder / "code")
    repository.commit("1", {f"sub/{value}/.env": value.encode(), "other": b"x" + value.encode()})
    repository.commit("2", {"other": None})
    repository.git("reset", "-q", "--hard", "HEAD~1")
    damaged = GitRepository(folder / "damaged")
    damaged.commit("1", {"file": b"damaged"})
    blob = damaged.git("rev-parse", "HEAD:file")
    loose = damaged.folder / ".git" / "objects" / blob[:2] / blob[2:]
    loose.chmod(0o600)
    loose.write_bytes(b"damaged")
    shown = f"{place}/x/<value of web_password>"
    for start in (place, folder):
        for options in ([], ["--json"]):
            result = ctl("scan", str(start), *options)
            assert result.exit_code == 1
            assert "pl4nted" not in result.output
            assert f"{shown}/file" in result.stdout
            assert "sub/<value of web_password>/.env" in result.stdout
            assert f"not read: {shown}/closed: Permission denied" in result.stderr
            assert f"not read: {shown}/damaged: git" in result.stderr

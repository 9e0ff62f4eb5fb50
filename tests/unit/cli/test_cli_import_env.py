"""import-env: what of a .env file becomes a secret, and what happens to those that exist."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from secretsd.cli.dotenv_file import Choice, plan, secret_name
from tests.unit.cli.conftest import Ctl
from tests.unit.cli.fake_daemon import FakeDaemon

ENV = """\
# the old installation's
POSTGRES_PASSWORD=pl4nted-pg
export HOME_ASSISTANT_TOKEN="pl4nted-ha # not a comment"
BRAVE_API_KEY='pl4nted-brave'   # a comment
EMPTY=
NO_VALUE
JWT_SIGNING_KEY="-----BEGIN PRIVATE KEY-----
pl4nted-line
-----END PRIVATE KEY-----"
"""
VALUES = {
    "postgres_password": "pl4nted-pg",
    "home_assistant_token": "pl4nted-ha # not a comment",
    "brave_api_key": "pl4nted-brave",
    "jwt_signing_key": "-----BEGIN PRIVATE KEY-----\npl4nted-line\n-----END PRIVATE KEY-----",
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / ".env"
    path.write_text(ENV)
    return path


def planned(text: str, choice: Choice | None = None) -> dict[str, str]:
    """Return what is taken, or why not, by variable."""
    return {
        one.key: one.value.reveal().decode() if one.value is not None else f"- {one.reason}"
        for one in plan(text, choice or Choice())
    }


def test_every_value_arrives_as_dotenv_reads_it(daemon: FakeDaemon, ctl: Ctl, file: Path) -> None:
    result = ctl("import-env", str(file))
    assert result.exit_code == 0, result.output
    assert {name: daemon.value(name) for name in daemon.secrets} == VALUES
    assert "4 created, 2 skipped" in result.stdout


def test_no_value_is_ever_shown(daemon: FakeDaemon, ctl: Ctl, file: Path) -> None:
    daemon.plant("postgres_password", "another")
    for options in (["--dry-run"], ["--dry-run", "--json"], [], ["--overwrite"], ["--json"]):
        result = ctl("import-env", str(file), *options)
        assert result.exit_code == 0
        assert "pl4nted" not in result.output


def test_a_dry_run_changes_nothing_and_tells_the_plan(daemon: FakeDaemon, ctl: Ctl, file: Path) -> None:
    daemon.plant("postgres_password", "another")
    daemon.plant("brave_api_key", VALUES["brave_api_key"])
    result = ctl("import-env", str(file), "--dry-run", "--json")
    actions = {one["variable"]: one["action"] for one in json.loads(result.stdout)["variables"]}
    assert actions == {
        "POSTGRES_PASSWORD": "differs",
        "HOME_ASSISTANT_TOKEN": "new",
        "BRAVE_API_KEY": "unchanged",
        "EMPTY": "skipped",
        "NO_VALUE": "skipped",
        "JWT_SIGNING_KEY": "new",
    }
    assert {seen.method for seen in daemon.seen} == {"GET"}


def test_what_exists_is_left_alone(daemon: FakeDaemon, ctl: Ctl, file: Path) -> None:
    daemon.plant("postgres_password", "another")
    result = ctl("import-env", str(file))
    assert result.exit_code == 0
    assert "--overwrite" in result.stdout
    assert daemon.value("postgres_password") == "another"


def test_overwrite_replaces_what_differs_and_only_that(daemon: FakeDaemon, ctl: Ctl, file: Path) -> None:
    daemon.plant("postgres_password", "another")
    daemon.plant("brave_api_key", VALUES["brave_api_key"])
    kid = daemon.kid("postgres_password")
    assert ctl("import-env", str(file), "--overwrite").exit_code == 0
    assert daemon.value("postgres_password") == VALUES["postgres_password"]
    (put,) = daemon.calls("PUT")
    assert put.headers["If-Match"] == f'"{kid}"'


def test_importing_again_does_nothing(daemon: FakeDaemon, ctl: Ctl, file: Path) -> None:
    ctl("import-env", str(file))
    daemon.seen.clear()
    result = ctl("import-env", str(file), "--overwrite")
    assert "4 unchanged" in result.stdout
    assert {seen.method for seen in daemon.seen} == {"GET"}


def test_a_value_that_comes_back_otherwise_is_a_failure(daemon: FakeDaemon, ctl: Ctl, file: Path) -> None:
    daemon.corrupt = True
    result = ctl("import-env", str(file))
    assert result.exit_code == 1
    assert "read back, it is not what was sent" in result.stdout
    assert "pl4nted" not in result.output


def test_one_refusal_does_not_stop_the_others(daemon: FakeDaemon, ctl: Ctl, file: Path) -> None:
    daemon.plant("brave_api_key", "hidden")
    daemon.hidden.add("brave_api_key")
    result = ctl("import-env", str(file))
    assert result.exit_code == 1
    assert "this client may not read it" in result.stdout
    assert set(daemon.secrets) == set(VALUES)
    assert daemon.value("brave_api_key") == "hidden"


def test_only_skip_and_prefix_choose(daemon: FakeDaemon, ctl: Ctl, file: Path) -> None:
    result = ctl(
        "import-env", str(file), "--only", "*_KEY", "--only", "postgres_*", "--skip", "jwt_*", "--prefix", "jarvis."
    )
    assert result.exit_code == 0
    assert set(daemon.secrets) == {"jarvis.brave_api_key", "jarvis.postgres_password"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=1\nB=${A}2\n", {"A": "1", "B": "12"}),
        ("A=first\nA=second\n", {"A": "second"}),
        ("A=1\na=2\n", {"A": "1", "a": "- A has this name already"}),
        ("a-b.c=1\n", {"a-b.c": "1"}),
        (f"A={'x' * 65_537}\n", {"A": "- over 64 KiB"}),
        ("'___'=1\n", {"___": "- no secret can have this name"}),
        ("A=1\n= oops\n", {"A": "1", "": "- not understood: this is not KEY=value"}),
        ("", {}),
    ],
)
def test_the_plan_for_odd_lines(text: str, expected: dict[str, str]) -> None:
    assert planned(text) == expected


def test_no_expand_takes_values_literally() -> None:
    assert planned("A=p${B}q\n", Choice(expand=False)) == {"A": "p${B}q"}
    assert [one.expanded for one in plan("A=p${B}q\nC=1\n", Choice())] == [True, False]


@pytest.mark.parametrize(
    ("key", "name"), [("POSTGRES_PASSWORD", "postgres_password"), ("_PRIVATE", "private"), ("A B", "a_b"), ("Ä", "")]
)
def test_a_variables_name_becomes_a_secrets_name(key: str, name: str) -> None:
    assert secret_name(key) == name


def test_a_file_that_is_no_text_is_refused_with_its_line(ctl: Ctl, tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_bytes(b"A=1\nB=\xff\n")
    result = ctl("import-env", str(path))
    assert result.exit_code == 1
    assert "line 2" in result.stderr

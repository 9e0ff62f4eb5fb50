"""import-env: the plan, one commit for all of it, and what it becomes of secrets that exist."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from pyrage import x25519

from secretsd.crypto import age
from secretsd.crypto.sensitive import Sensitive
from tests.support.repository import GitRepository
from tests.unit.cli.conftest import Ctl, Terminal
from tests.unit.cli.fake_daemon import FakeDaemon, Seen

ENV = """\
# the old installation's
JWT_SECRET_KEY=pl4nted-jwt
POSTGRES_PASSWORD=pl4nted-pg
POSTGRES_USER=jarvis
export HOME_ASSISTANT_TOKEN="pl4nted-ha # not a comment"
BRAVE_API_KEY='pl4nted-brave'   # a comment
# BRAVE_API_KEY=pl4nted-older
EMPTY_TOKEN=
NO_VALUE
LOG_LEVEL=debug
TLS_KEY="-----BEGIN PRIVATE KEY-----
pl4nted-line
-----END PRIVATE KEY-----"
"""
KEPT = {
    "postgres_password": "pl4nted-pg",
    "home_assistant_token": "pl4nted-ha # not a comment",
    "brave_api_key": "pl4nted-brave",
    "tls_key": "-----BEGIN PRIVATE KEY-----\npl4nted-line\n-----END PRIVATE KEY-----",
}
REST = """\
# the old installation's
POSTGRES_USER=jarvis
EMPTY_TOKEN=
NO_VALUE
LOG_LEVEL=debug
"""
PASSPHRASE = "correct horse"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / ".env"
    path.write_text(ENV)
    path.chmod(0o640)
    return path


@pytest.fixture
def sealing(tmp_path: Path) -> list[str]:
    """The options of a backup to the recipient whose identity is in `key`."""
    identity = x25519.Identity.generate()
    (tmp_path / "key").write_text(f"{identity}\n")
    return ["--backup", str(tmp_path / "env.age"), "--recipient", str(identity.to_public())]


@pytest.fixture
def opening(tmp_path: Path) -> list[str]:
    """The options that open it."""
    return ["-i", str(tmp_path / "key")]


@pytest.fixture
def passphrase_file(tmp_path: Path) -> str:
    path = tmp_path / "passphrase"
    path.touch(0o600)
    path.write_text(PASSPHRASE + "\n")
    return str(path)


def actions(stdout: str) -> dict[str | None, str]:
    return {one["variable"]: one["action"] for one in json.loads(stdout)["variables"]}


def test_all_of_it_is_one_request_and_read_back(daemon: FakeDaemon, ctl: Ctl, file: Path) -> None:
    result = ctl("import-env", str(file))
    assert result.exit_code == 0, result.output
    assert {name: daemon.value(name) for name in KEPT} == KEPT
    assert daemon.value("jwt_signing_key") == "generated jwt_signing_key"
    assert set(daemon.secrets) == {*KEPT, "jwt_signing_key"}
    changes = [seen for seen in daemon.seen if seen.method != "GET"]
    assert [(seen.method, seen.path) for seen in changes] == [("POST", "/secrets")]
    assert {seen.path for seen in daemon.calls("GET", "/secret/")} == {f"/secret/{name}" for name in daemon.secrets}
    assert "4 kept, 1 newly generated" in result.stdout
    assert "read back 5" in result.stdout


def test_no_value_is_ever_shown(daemon: FakeDaemon, ctl: Ctl, file: Path, sealing: list[str], tmp_path: Path) -> None:
    daemon.plant("postgres_password", "another")
    for options in (["--dry-run"], ["--dry-run", "--json"], [], ["--overwrite"], ["--json"], [*sealing, "--replace"]):
        result = ctl("import-env", str(file), *options)
        assert result.exit_code == 0, result.output
        assert "pl4nted" not in result.output


def test_a_dry_run_changes_nothing_and_tells_the_plan(
    daemon: FakeDaemon, ctl: Ctl, file: Path, sealing: list[str], tmp_path: Path
) -> None:
    daemon.plant("postgres_password", "another")
    daemon.plant("brave_api_key", KEPT["brave_api_key"])
    before = set(tmp_path.iterdir())
    result = ctl("import-env", str(file), "--dry-run", "--json", *sealing, "--replace")
    assert actions(result.stdout) == {
        "JWT_SECRET_KEY": "generate",
        "POSTGRES_PASSWORD": "differs",
        "POSTGRES_USER": "leave",
        "HOME_ASSISTANT_TOKEN": "keep",
        "BRAVE_API_KEY": "there",
        "EMPTY_TOKEN": "leave",
        "NO_VALUE": "leave",
        "LOG_LEVEL": "leave",
        "TLS_KEY": "keep",
    }
    assert {seen.method for seen in daemon.seen} == {"GET"}
    assert set(tmp_path.iterdir()) == before
    assert file.read_text() == ENV


def test_the_plan_is_shown_before_it_is_asked(daemon: FakeDaemon, terminal: Terminal, file: Path) -> None:
    status, shown = terminal("import-env", str(file), typed=[("Do it? [y/N]: ", "n")])
    assert status == 1
    assert shown.index("BRAVE_API_KEY") < shown.index("Do it?")
    assert "nothing was done" in shown
    assert not daemon.secrets


def test_what_exists_with_another_value_is_left_alone_and_stays_in_the_file(
    daemon: FakeDaemon, ctl: Ctl, file: Path, sealing: list[str]
) -> None:
    daemon.plant("postgres_password", "another")
    result = ctl("import-env", str(file), *sealing, "--replace")
    assert result.exit_code == 0
    assert "--overwrite" in result.stdout
    assert daemon.value("postgres_password") == "another"
    assert "POSTGRES_PASSWORD=pl4nted-pg\n" in file.read_text()


def test_overwrite_replaces_what_differs_if_it_is_still_what_was_compared(
    daemon: FakeDaemon, ctl: Ctl, file: Path
) -> None:
    daemon.plant("postgres_password", "another")
    daemon.plant("brave_api_key", KEPT["brave_api_key"])
    kid = daemon.kid("postgres_password")
    assert ctl("import-env", str(file), "--overwrite").exit_code == 0
    assert daemon.value("postgres_password") == KEPT["postgres_password"]
    (post,) = daemon.calls("POST")
    replaced = {one["name"]: one["replaces"] for one in post.body["secrets"] if "replaces" in one}
    assert replaced == {"postgres_password": kid}
    assert "brave_api_key" not in {one["name"] for one in post.body["secrets"]}


def test_importing_again_changes_nothing(daemon: FakeDaemon, ctl: Ctl, file: Path) -> None:
    ctl("import-env", str(file))
    daemon.seen.clear()
    result = ctl("import-env", str(file), "--overwrite")
    assert "5 already there" in result.stdout
    assert {seen.method for seen in daemon.seen} == {"GET"}


def test_a_backup_is_made_also_where_nothing_is_left_to_import(
    daemon: FakeDaemon, ctl: Ctl, file: Path, passphrase_file: str, tmp_path: Path
) -> None:
    ctl("import-env", str(file))
    backup = tmp_path / "env.age"
    result = ctl("import-env", str(file), "--backup", str(backup), "--passphrase-file", passphrase_file)
    assert result.exit_code == 0, result.output
    assert f"sealed copy of the .env: {backup}" in result.stdout
    assert age.open_sealed(backup.read_bytes(), Sensitive(PASSPHRASE.encode())).reveal() == ENV.encode()


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_a_wrong_recipient_is_refused_before_anything_else(
    daemon: FakeDaemon, ctl: Ctl, file: Path, tmp_path: Path, options: list[str]
) -> None:
    ctl("import-env", str(file))
    daemon.seen.clear()
    result = ctl("import-env", str(file), "--backup", str(tmp_path / "env.age"), "--recipient", "nonsense", *options)
    assert result.exit_code == 1
    assert "the backup can't be sealed" in result.stderr
    assert not daemon.seen


def test_a_value_that_comes_back_otherwise_is_a_failure_and_the_file_stays(
    daemon: FakeDaemon, ctl: Ctl, file: Path, sealing: list[str]
) -> None:
    daemon.corrupt = True
    result = ctl("import-env", str(file), *sealing, "--replace")
    assert result.exit_code == 1
    assert "read back, this is not what was sent: postgres_password" in result.stderr
    assert "pl4nted" not in result.output
    assert file.read_text() == ENV


def test_a_refusal_names_the_variable_and_nothing_is_imported(
    daemon: FakeDaemon, ctl: Ctl, file: Path, sealing: list[str]
) -> None:
    daemon.plant("brave_api_key", "hidden")
    daemon.hidden.add("brave_api_key")
    result = ctl("import-env", str(file), *sealing, "--replace")
    assert result.exit_code == 1
    assert "BRAVE_API_KEY (line 6), secret brave_api_key: " in result.stderr
    assert "Nothing was imported." in result.stderr
    assert set(daemon.secrets) == {"brave_api_key"}
    assert file.read_text() == ENV


def test_a_lost_answer_is_asked_for_under_the_same_key(daemon: FakeDaemon, ctl: Ctl, file: Path) -> None:
    daemon.refusals["POST /secrets"] = [(503, "outcome-unknown")]
    assert ctl("import-env", str(file)).exit_code == 0
    first, second = daemon.calls("POST")
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
    assert first.body == second.body


def test_the_file_loses_its_secrets_and_nothing_else(
    daemon: FakeDaemon, ctl: Ctl, file: Path, sealing: list[str]
) -> None:
    result = ctl("import-env", str(file), *sealing, "--replace")
    assert result.exit_code == 0, result.output
    assert file.read_text() == REST
    assert file.stat().st_mode & 0o777 == 0o640
    assert "5 variables and 1 comments are gone" in result.stdout


def test_a_link_is_replaced_where_it_points_to(
    daemon: FakeDaemon, ctl: Ctl, file: Path, sealing: list[str], tmp_path: Path
) -> None:
    link = tmp_path / "linked"
    link.symlink_to(file)
    assert ctl("import-env", str(link), *sealing, "--replace").exit_code == 0
    assert link.is_symlink()
    assert file.read_text() == REST


def test_the_backup_is_sealed_before_anything_is_sent(
    daemon: FakeDaemon, ctl: Ctl, file: Path, passphrase_file: str, tmp_path: Path
) -> None:
    backup = tmp_path / "env.age"
    there: list[bool] = []
    daemon.on_request = lambda seen: there.append(backup.exists()) if seen.method == "POST" else None
    done = ctl("import-env", str(file), "--backup", str(backup), "--passphrase-file", passphrase_file)
    assert done.exit_code == 0, done.output
    assert there == [True]
    assert backup.stat().st_mode & 0o777 == 0o600
    assert age.open_sealed(backup.read_bytes(), Sensitive(PASSPHRASE.encode())).reveal() == ENV.encode()


@pytest.mark.skipif(shutil.which("age") is None, reason="the age command is not installed")
def test_the_age_command_opens_a_backup_to_recipients(
    daemon: FakeDaemon, ctl: Ctl, file: Path, sealing: list[str], opening: list[str]
) -> None:
    result = ctl("import-env", str(file), *sealing)
    assert result.exit_code == 0
    assert f"the way back: secretsctl restore-env {sealing[1]} {file} --identity FILE\n" in result.stdout
    opened = subprocess.run(["age", "-d", *opening, sealing[1]], capture_output=True, check=True)
    assert opened.stdout == ENV.encode()


def test_no_backup_is_overwritten(daemon: FakeDaemon, ctl: Ctl, file: Path, sealing: list[str]) -> None:
    Path(sealing[1]).write_bytes(b"an older one")
    assert ctl("import-env", str(file), *sealing).exit_code == 0
    assert Path(sealing[1]).read_bytes() == b"an older one"
    assert Path(sealing[1] + ".2").read_bytes().startswith(age.HEADER)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--replace"], "--backup FILE"),
        (["--recipient", "age1x"], "--backup FILE"),
        (["--backup", "b.age"], "to whom is the backup sealed?"),
        (["--replacements", "r"], "--history DIR"),
    ],
)
def test_options_that_do_not_go_together_are_usage_errors(
    daemon: FakeDaemon, ctl: Ctl, file: Path, options: list[str], says: str
) -> None:
    result = ctl("import-env", str(file), *options)
    assert result.exit_code == 2
    assert says in result.stderr
    assert not daemon.secrets


def test_a_damaged_history_leaves_the_file_and_says_what_was_done(
    daemon: FakeDaemon, ctl: Ctl, file: Path, sealing: list[str], tmp_path: Path
) -> None:
    repository = GitRepository(tmp_path / "code")
    repository.commit("1", {".env": ENV.encode()})
    blob = repository.git("rev-parse", "HEAD:.env")
    loose = repository.folder / ".git" / "objects" / blob[:2] / blob[2:]
    loose.chmod(0o600)
    loose.write_bytes(b"damaged")
    result = ctl("import-env", str(file), *sealing, "--history", str(repository.folder), "--replace")
    assert result.exit_code == 1
    assert "imported and read back: 4 kept" in result.stderr.replace("4 left out, ", "")
    assert file.read_text() == ENV


def test_a_path_that_holds_a_value_is_shown_without_it(ctl: Ctl, sealing: list[str], tmp_path: Path) -> None:
    repository = GitRepository(tmp_path / "pl4nted-brave")
    repository.commit("1", {"pl4nted-pg/.env": ENV.encode(), "other": ENV.encode()})
    file = repository.folder / ".env"
    file.write_text(ENV)
    options = [*sealing, "--history", str(repository.folder)]
    for more in (["--dry-run"], ["--json"], ["--replace"]):
        result = ctl("import-env", str(file), *options, *more)
        assert result.exit_code == 0, result.output
        assert "pl4nted" not in result.output
    assert "found brave_api_key (as it is) in" in result.stderr
    assert f"{tmp_path}/<value of brave_api_key>: <value of postgres_password>/.env:" in result.stderr


def test_values_are_written_for_a_rewrite_only_when_it_is_done_and_to_a_new_file(
    daemon: FakeDaemon, ctl: Ctl, file: Path, tmp_path: Path
) -> None:
    repository = GitRepository(tmp_path / "code")
    repository.commit("1", {".env": ENV.encode()})
    options = ["--history", str(repository.folder), "--replacements", str(tmp_path / "rules")]
    assert ctl("import-env", str(file), "--dry-run", *options).exit_code == 0
    assert not (tmp_path / "rules").exists()
    assert ctl("import-env", str(file), *options).exit_code == 0
    assert "literal:pl4nted-brave==>" in (tmp_path / "rules").read_text()
    daemon.seen.clear()
    refused = ctl("import-env", str(file), *options)
    assert refused.exit_code == 1
    assert not daemon.seen


def test_a_file_that_is_changed_meanwhile_stays_as_it_is(
    daemon: FakeDaemon, ctl: Ctl, file: Path, sealing: list[str]
) -> None:
    def edit(seen: Seen) -> None:
        if seen.method == "POST":
            file.write_text(ENV + "NEW=1\n")

    daemon.on_request = edit
    result = ctl("import-env", str(file), *sealing, "--replace")
    assert result.exit_code == 1
    assert "changed meanwhile" in result.stderr
    assert file.read_text() == ENV + "NEW=1\n"


def test_only_skip_and_prefix_choose(daemon: FakeDaemon, ctl: Ctl, file: Path) -> None:
    result = ctl(
        "import-env", str(file), "--only", "*_KEY", "--only", "LOG_*", "--skip", "tls_*", "--prefix", "jarvis."
    )
    assert result.exit_code == 0, result.output
    assert set(daemon.secrets) == {"jarvis.brave_api_key", "jarvis.jwt_signing_key", "jarvis.log_level"}


def test_what_is_required_and_missing_stops_it(daemon: FakeDaemon, ctl: Ctl, file: Path) -> None:
    result = ctl("import-env", str(file), "--require", "BRAVE_API_KEY", "--require", "TAVILY_API_KEY")
    assert result.exit_code == 1
    assert "doesn't set TAVILY_API_KEY" in result.stderr
    assert not daemon.seen


def test_the_table_that_is_printed_can_be_given_back(daemon: FakeDaemon, ctl: Ctl, file: Path, tmp_path: Path) -> None:
    printed = ctl("import-env", "--print-map")
    assert printed.exit_code == 0
    own = tmp_path / "own.map"
    own.write_text("LOG_LEVEL keep level\n- random extra_key\n" + printed.stdout)
    result = ctl("import-env", str(file), "--map", str(own))
    assert result.exit_code == 0, result.output
    assert set(daemon.secrets) == {*KEPT, "jwt_signing_key", "level", "extra_key"}
    assert daemon.value("level") == "debug"
    assert len(daemon.value("extra_key")) == 44


def test_a_file_that_is_no_text_is_refused_with_its_line(ctl: Ctl, tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_bytes(b"A=1\nB=\xff\n")
    result = ctl("import-env", str(path))
    assert result.exit_code == 1
    assert "line 2" in result.stderr


def test_the_way_back_is_one_command_without_a_daemon(
    daemon: FakeDaemon, ctl: Ctl, file: Path, sealing: list[str], opening: list[str]
) -> None:
    ctl("import-env", str(file), *sealing, "--replace")
    daemon.seen.clear()
    result = ctl("restore-env", sealing[1], str(file), *opening, "--yes")
    assert result.exit_code == 0, result.output
    assert file.read_text() == ENV
    assert file.stat().st_mode & 0o777 == 0o640
    assert file.with_name(".env.before").read_text() == REST
    assert not daemon.seen
    assert "stay in the vault" in result.stderr
    assert "pl4nted" not in result.output


def test_the_way_back_asks_before_it_replaces_another_file(
    ctl: Ctl, daemon: FakeDaemon, file: Path, sealing: list[str], opening: list[str]
) -> None:
    ctl("import-env", str(file), *sealing, "--replace")
    assert ctl("restore-env", sealing[1], str(file), *opening).exit_code == 2
    assert file.read_text() == REST


def test_what_does_not_open_changes_nothing(
    ctl: Ctl, daemon: FakeDaemon, file: Path, sealing: list[str], passphrase_file: str, tmp_path: Path
) -> None:
    ctl("import-env", str(file), *sealing, "--replace")
    wrong = tmp_path / "wrong"
    wrong.write_text(f"{x25519.Identity.generate()}\n")
    for options in (["-i", str(wrong)], ["--passphrase-file", passphrase_file]):
        result = ctl("restore-env", sealing[1], str(file), *options, "--yes")
        assert result.exit_code == 1
        assert "sealed" in result.stderr or "it doesn't open" in result.stderr
    assert file.read_text() == REST

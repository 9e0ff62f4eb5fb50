"""A whole move, with a real daemon, a real repository with values in its history, and the real age and git."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyrage import x25519

from tests.support.daemon import COMMANDS, Daemon
from tests.support.log import verify_log
from tests.support.repository import GitRepository
from tests.support.waiting import eventually

SCRIPT = Path(__file__).parents[2] / "deploy" / "migrate_secrets.sh"
DOTENV = """\
# Jarvis
JWT_SECRET_KEY=pl4nted-jwt-0123456789
POSTGRES_PASSWORD='pl4nted-pg $ecret'
POSTGRES_USER=jarvis
POSTGRES_DB=jarvis_db
export HOME_ASSISTANT_TOKEN="pl4nted.ha.token"   # long-lived
HOME_ASSISTANT_URL=http://pl4nted-homeassistant.local:8123
BRAVE_API_KEY=pl4nted-BSA
# TAVILY_API_KEY=pl4nted-older
TAVILY_API_KEY=pl4nted-tvly
TLS_PRIVATE_KEY="-----BEGIN PRIVATE KEY-----
pl4nted+line
-----END PRIVATE KEY-----"
"""
REST = "# Jarvis\nPOSTGRES_USER=jarvis\nPOSTGRES_DB=jarvis_db\n"
KEPT = {
    "postgres_password": "pl4nted-pg $ecret",
    "home_assistant_token": "pl4nted.ha.token",
    "home_assistant_url": "http://pl4nted-homeassistant.local:8123",
    "brave_api_key": "pl4nted-BSA",
    "tavily_api_key": "pl4nted-tvly",
    "tls_private_key": "-----BEGIN PRIVATE KEY-----\npl4nted+line\n-----END PRIVATE KEY-----",
}


@dataclass
class Move:
    """An installation before and while it moves in."""

    daemon: Daemon
    repository: GitRepository
    key: Path
    recipient: str

    @property
    def dotenv(self) -> Path:
        return self.repository.folder / ".env"

    @property
    def backup(self) -> Path:
        return self.daemon.directory / "env.age"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{COMMANDS}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.daemon.directory),
            "JARVIS_SECRETS_URL": f"http://127.0.0.1:{self.daemon.port}",
            "JARVIS_CLIENT_ID": "admin",
        }

    def ctl(self, *arguments: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [COMMANDS / "secretsctl", *arguments], env=self.environment, capture_output=True, text=True,
            check=False, timeout=60, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == status, done.stdout + done.stderr
        assert "pl4nted" not in done.stdout + done.stderr
        return done

    def move(self, *more: str | Path) -> subprocess.CompletedProcess[str]:
        return self.ctl("import-env", self.dotenv, "--backup", self.backup, "--recipient", self.recipient, *more)


@pytest.fixture
def move() -> Iterator[Move]:
    with Daemon() as daemon:
        repository = GitRepository(daemon.directory / "jarvis")
        repository.commit("first", {".env": DOTENV.replace("pl4nted-BSA", "older-BSA").encode(), "README": b"hello"})
        repository.commit("a new key", {".env": DOTENV.encode()})
        repository.commit("not here", {".env": None, ".gitignore": b"/.env\n"})
        (repository.folder / ".env").write_text(DOTENV)
        (repository.folder / ".env").chmod(0o640)
        identity = x25519.Identity.generate()
        key = daemon.directory / "key"
        key.write_text(f"{identity}\n")
        yield Move(daemon, repository, key, str(identity.to_public()))


def values(daemon: Daemon) -> dict[str, str]:
    names = [one["name"] for one in daemon.api.get("/secrets").json()["secrets"]]
    return {name: daemon.api.get(f"/secret/{name}").json()["value"] for name in names}


def test_an_installation_moves_in_and_can_go_back(move: Move) -> None:
    commits = move.repository.git("rev-list", "--all")
    plan = move.ctl("import-env", move.dotenv, "--dry-run", "--json")
    assert json.loads(plan.stdout)["git"] == {
        "repository": str(move.repository.folder), "ignored": True, "tracked": False,
    }  # fmt: skip
    assert values(move.daemon) == {}

    done = move.move("--history", move.repository.folder, "--replace")
    now = values(move.daemon)
    assert {name: now[name] for name in KEPT} == KEPT
    assert now.keys() - KEPT.keys() == {"jwt_signing_key"}
    assert now["jwt_signing_key"].startswith("-----BEGIN PRIVATE KEY-----")
    created = move.daemon.events("secret.created")
    assert len(created) == 7
    assert len({event["data"]["generation"] for event in created}) == 1
    assert move.dotenv.read_text() == REST
    assert move.dotenv.stat().st_mode & 0o777 == 0o640
    assert "found brave_api_key" in done.stderr
    assert "git filter-repo --replace-text" in done.stderr
    assert move.repository.git("rev-list", "--all") == commits

    if shutil.which("age") is not None:
        opened = subprocess.run(["age", "-d", "-i", move.key, move.backup], capture_output=True, check=True)
        assert opened.stdout == DOTENV.encode()
    move.ctl("restore-env", move.backup, move.dotenv, "-i", move.key, "--yes")
    assert move.dotenv.read_text() == DOTENV
    assert values(move.daemon) == now
    again = move.move()
    assert "7 already there" in again.stdout
    assert len(move.daemon.events("secret.created")) == 7
    assert "pl4nted" not in move.daemon.output() + move.daemon.audit_path.read_text()


def test_a_refused_entry_leaves_vault_and_file_as_they_were(move: Move) -> None:
    move.dotenv.write_text(DOTENV + "JWT_SIGNING_KEY=pl4nted-no-ed25519-key\n")
    own = move.daemon.directory / "own.map"
    own.write_text("JWT_SIGNING_KEY keep\n*KEY keep\n*PASSWORD keep\n")
    refused = move.ctl("import-env", move.dotenv, "--map", own, status=1)
    assert "JWT_SIGNING_KEY (line 14), secret jwt_signing_key: value: a jwt_signing_key is an Ed25519" in refused.stderr
    assert values(move.daemon) == {}


def test_an_import_that_is_killed_is_there_as_a_whole_or_not_at_all(move: Move) -> None:
    """SIGKILL of the daemon in the middle: what a new one finds is all or nothing, and a second run completes it."""
    process = subprocess.Popen(
        [COMMANDS / "secretsctl", "import-env", move.dotenv], env=move.environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    before = move.daemon.vault_path.stat().st_ino
    eventually(lambda: move.daemon.vault_path.stat().st_ino != before or process.poll() is not None, "the commit")
    move.daemon.sigkill()
    process.communicate(timeout=60)
    move.daemon.start()
    assert len(values(move.daemon)) in {0, 7}
    move.ctl("import-env", move.dotenv)
    assert {name: values(move.daemon)[name] for name in KEPT} == KEPT
    assert len(move.daemon.events("secret.created")) == 7
    assert verify_log([move.daemon.audit_path], move.daemon.keyring())


def test_a_scan_finds_what_lies_about_and_comes_clean_after_the_rewrite(move: Move) -> None:
    move.move("--replace")
    (move.repository.folder / "notes").write_text("Brave: " + KEPT["brave_api_key"] + "\n")
    rules = move.daemon.directory / "rules"
    found = move.ctl("scan", move.repository.folder, "--json", "--replacements", rules, status=1)
    places = {(one["secret"], one["kind"], one["path"], one["line"]) for one in json.loads(found.stdout)["findings"]}
    assert places >= {
        ("brave_api_key", "file", str(move.repository.folder / "notes"), 1),
        ("brave_api_key", "history", ".env", 8),
        ("tls_private_key", "history", ".env", 11),
    }
    assert {one[0] for one in places} == KEPT.keys()
    reads = {event["data"]["name"] for event in move.daemon.events("secret.read")}
    assert reads >= KEPT.keys() | {"jwt_signing_key"}

    (move.repository.folder / "notes").unlink()
    filter_repo = [Path(sys.executable).parent / "git-filter-repo", "--force", "--quiet"]
    subprocess.run(
        [*filter_repo, "--replace-text", rules, "--replace-message", rules],
        cwd=move.repository.folder, check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    assert move.ctl("scan", move.repository.folder).stdout == "nothing found\n"


# The script of old


def run_script(move: Move, *options: str, status: int = 0) -> str:
    scripts = move.repository.folder / "scripts"
    scripts.mkdir(exist_ok=True)
    done = subprocess.run(
        [SCRIPT, *options], cwd=scripts, env=move.environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert "pl4nted" not in done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_old_script_does_what_it_did(move: Move) -> None:
    move.dotenv.write_text(DOTENV + "BROWSERBASE_API_KEY=pl4nted-bb\n")
    said = run_script(move)
    now = values(move.daemon)
    assert now.keys() == {
        "home_assistant_token", "home_assistant_url", "brave_api_key", "tavily_api_key", "browserbase_api_key",
        "jwt_signing_key", "postgres_password", "jarvis_encryption_key",
    }  # fmt: skip
    assert now["home_assistant_token"] == "pl4nted.ha.token"
    assert re.fullmatch(r"[A-Za-z0-9+/]{43}=", now["jwt_signing_key"])
    assert re.fullmatch(r"[A-Za-z0-9+/]{43}=", now["jarvis_encryption_key"])
    assert re.fullmatch(r"[A-Za-z0-9]{64}", now["postgres_password"])
    assert "\n8\n" in said
    assert "ALTER USER jarvis PASSWORD" in said
    assert move.dotenv.read_text().startswith(DOTENV)
    run_script(move)
    assert values(move.daemon) == now


def test_the_old_script_does_nothing_without_what_it_needs(move: Move) -> None:
    move.dotenv.write_text(DOTENV.replace("BRAVE_API_KEY=", "X="))
    assert "doesn't set BRAVE_API_KEY" in run_script(move, status=1)
    assert values(move.daemon) == {}


def test_the_old_script_is_clean_shell() -> None:
    subprocess.run([COMMANDS / "shellcheck", SCRIPT], check=True, timeout=60)

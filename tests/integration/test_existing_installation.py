"""The files of an installation from before this daemon work unchanged, paths apart.

The scripts name port 8081, so they run in a network of their own; where that can't be had, the port is replaced.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.daemon import COMMANDS, Daemon
from tests.support.log import verify_log
from tests.support.namespace import Namespace, available
from tests.support.waiting import eventually, free_port

INPUTS = Path(__file__).parent / "inputs"
MIGRATED = {
    "home_assistant_token", "home_assistant_url", "brave_api_key", "tavily_api_key", "jwt_signing_key",
    "postgres_password", "jarvis_encryption_key", "duckduckgo_api_key", "browserbase_api_key",
}  # fmt: skip


class OldHost:
    """A host with the old files in `root`, the daemon serving them, and a way to run the old scripts."""

    def __init__(self, daemon: Daemon, prefix: list[str], port: int) -> None:
        self.daemon = daemon
        self.root = daemon.directory
        self._prefix = prefix
        self._port = port

    def moved(self, text: str) -> str:
        """Return the text of an old file with its paths (and, without a namespace, its port) replaced."""
        text = text.replace("/opt/jarvis", str(self.root)).replace("/etc/jarvis-secretsd", str(self.root))
        return text.replace(":8081", f":{self._port}")

    def run(self, *command: str, cwd: Path | None = None) -> str:
        done = subprocess.run(
            [*self._prefix, *command],
            cwd=cwd or self.root,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def script(self, name: str) -> str:
        path = self.root / "scripts" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(self.moved((INPUTS / name).read_text()))
        return self.run("bash", str(path), cwd=path.parent)

    def curl(self, path: str, client: str | None = "admin") -> str:
        header = ["-H", f"X-Jarvis-Client: {client}"] if client is not None else []
        return self.run("curl", "-sf", f"http://127.0.0.1:{self._port}{path}", *header)


@pytest.fixture(scope="module")
def host() -> Iterator[OldHost]:
    with ExitStack() as stack:
        prefix, port = [], free_port()
        if available():
            prefix, port = stack.enter_context(Namespace()).prefix, 8081
        daemon = Daemon(wrap=prefix)
        stack.callback(daemon.close)
        old = OldHost(daemon, prefix, port)
        for name in ("config.toml", "policy.yaml"):
            (daemon.directory / name).write_text(old.moved((INPUTS / name).read_text()))
        shutil.copyfile(INPUTS / "dotenv", daemon.directory / ".env")
        daemon.spawn()
        eventually(lambda: serves(old), "the daemon serves", within=30)
        yield old


@pytest.fixture(scope="module")
def migrated(host: OldHost) -> str:
    """What the migration printed."""
    return host.script("migrate.sh")


def serves(host: OldHost) -> bool:
    assert host.daemon.process is not None
    if host.daemon.process.poll() is not None:
        raise RuntimeError(host.daemon.output())
    return bool(host.curl("/healthz", None))


def test_healthz_has_the_old_fields(host: OldHost) -> None:
    health = json.loads(host.curl("/healthz", None))
    assert health["status"] == "ok"
    assert isinstance(health["version"], str)
    assert isinstance(health["uptime_secs"], int)
    assert isinstance(health["secrets_count"], int)


def test_the_files_are_made_where_the_old_configuration_says(host: OldHost) -> None:
    for path in ("secrets/vault.json", "secrets/master.key", "audit/audit.jsonl", "audit/audit.sign.pub"):
        assert (host.root / path).exists(), path


def test_the_migration_moves_nine_secrets(host: OldHost, migrated: str) -> None:
    assert migrated.splitlines()[-1] == "9"
    listed = json.loads(host.curl("/secrets"))["secrets"]
    assert {entry["name"] for entry in listed} == MIGRATED
    assert json.loads(host.curl("/healthz", None))["secrets_count"] == 9


def test_the_script_that_replaces_the_old_one_finds_all_of_it_there(host: OldHost, migrated: str) -> None:
    """As it is: from `scripts`, on the old port, as `admin`."""
    url = [] if host._port == 8081 else [f"JARVIS_SECRETS_URL=http://127.0.0.1:{host._port}"]
    script = Path(__file__).parents[2] / "deploy" / "migrate_secrets.sh"
    path = f"PATH={COMMANDS}{os.pathsep}{os.environ['PATH']}"
    said = host.run("env", path, *url, str(script), cwd=host.root / "scripts")
    assert "nothing to do: 9 already there" in said
    assert "\n9\n" in said


def test_migrated_values_are_those_of_the_dotenv(host: OldHost, migrated: str) -> None:
    secret = json.loads(host.curl("/secret/home_assistant_url"))
    assert secret["value"] == "http://homeassistant.local:8123"
    assert json.loads(host.curl("/secret/brave_api_key", "python-services"))["value"] == "BSA-old-brave"


def test_every_secret_has_what_the_old_rust_client_requires(host: OldHost, migrated: str) -> None:
    for name in MIGRATED:
        secret = json.loads(host.curl(f"/secret/{name}"))
        assert all(isinstance(secret[key], str) for key in ("name", "value", "kid", "expires_at"))


def test_nothing_rotates_unasked_but_the_signing_key(host: OldHost, migrated: str) -> None:
    rotations = {entry["name"]: entry["rotation"] for entry in json.loads(host.curl("/secrets"))["secrets"]}
    assert {name for name, rotation in rotations.items() if rotation == "auto"} == {"jwt_signing_key"}


def test_the_rotation_call_rotates_and_keeps_the_keys_format(host: OldHost, migrated: str) -> None:
    before = json.loads(host.curl("/secret/jwt_signing_key"))
    answer = json.loads(host.script("rotate.sh"))
    assert [entry["name"] for entry in answer["rotated"]] == ["jwt_signing_key"]
    after = json.loads(host.curl("/secret/jwt_signing_key", "backend"))
    assert after["version"] == before["version"] + 1
    assert after["value"] != before["value"]
    assert re.fullmatch(r"[A-Za-z0-9+/]{43}=", after["value"])
    assert json.loads(host.curl("/secret/jwt_signing_key?version=previous"))["value"] == before["value"]


def test_the_fetch_of_the_database_script_gets_the_password(host: OldHost, migrated: str) -> None:
    fetched = host.script("fetch.sh")
    assert fetched == json.loads(host.curl("/secret/postgres_password"))["value"]
    assert len(fetched) > 40


def test_the_old_python_client_runs_as_it_is(host: OldHost, migrated: str) -> None:
    path = host.root / "old_client.py"
    path.write_text(host.moved((INPUTS / "old_client.py").read_text()))
    assert host.run(sys.executable, str(path)).splitlines() == ["BSA-old-brave", "403"]


def test_the_old_health_check_of_the_container_passes(host: OldHost) -> None:
    host.run("curl", "-f", f"http://127.0.0.1:{host._port}/healthz")


def test_prometheus_finds_metrics_under_localhost(host: OldHost) -> None:
    assert "# TYPE" in host.run("curl", "-sf", f"http://localhost:{host._port}/metrics")


def test_the_old_logrotate_entry_rotates_the_log_and_the_chain_goes_on(host: OldHost, migrated: str) -> None:
    """What the entry does: rename, create 0640, no signal, compress."""
    rotated = host.daemon.audit_path.with_name("audit.jsonl.1")
    host.daemon.audit_path.rename(rotated)
    host.daemon.audit_path.touch(0o640)
    host.daemon.audit_path.chmod(0o640)
    host.curl("/secret/brave_api_key")
    events = verify_log([rotated, host.daemon.audit_path], host.daemon.keyring())
    assert events[-1].type == "secret.read"
    assert host.daemon.audit_path.stat().st_mode & 0o777 == 0o640


def test_the_old_way_to_look_at_the_log_works(host: OldHost, migrated: str) -> None:
    host.run("jq", ".", str(host.daemon.audit_path))
    assert (host.daemon.audit_path.parent / "audit.sign.key").exists()


def test_what_is_weak_about_the_old_policy_is_warned_about(host: OldHost) -> None:
    said = host.daemon.output().lower()
    assert "warn" in said
    assert "admin" in said

"""A backup made while the daemon serves and put back: live clients ask anew; a killed restore is gone on with."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyrage
import pytest
from secretsd_client import SecretsClient, Settings

from tests.support.broker import Broker
from tests.support.daemon import COMMANDS, OPEN_POLICY, Daemon
from tests.support.waiting import eventually

New = Callable[..., Daemon]
IDENTITY = pyrage.x25519.Identity.generate()
KILLED = """
import os, signal, sys
from pathlib import Path
left, real = int(sys.argv.pop(1)), {name: getattr(Path, name) for name in ("rename", "replace")}
def counted(name):
    def call(self, target):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real[name](self, target)
    return call
for name in real:
    setattr(Path, name, counted(name))
from secretsd.cli import main
main()
"""
"""secretsctl that is killed at the so-manieth rename: its first argument."""


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    path = tmp_path / "identity"
    path.write_text(f"{IDENTITY}\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def daemon(broker: Broker, prefix: str, new_daemon: New) -> Daemon:
    daemon = new_daemon(bus=broker.url, prefix=prefix).start().wait_bus()
    daemon.api.create("shared_x", "one")
    return daemon


def secretsctl(daemon: Daemon, *arguments: str | Path, status: int = 0) -> str:
    done = subprocess.run(
        [COMMANDS / "secretsctl", *arguments, "--config", daemon.config_path],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def back_up(daemon: Daemon, path: Path) -> Path:
    secretsctl(daemon, "backup", "create", path, "--recipient", str(IDENTITY.to_public()))
    return path


@pytest.fixture
def client(daemon: Daemon) -> Iterator[SecretsClient]:
    """A live client, who hears of changes on the bus."""
    settings = Settings(url=f"http://127.0.0.1:{daemon.port}", client_id="backend", pubkey=daemon.public_key_path)
    with SecretsClient(settings) as running:
        yield running


def test_a_live_client_asks_anew_after_an_older_state_was_restored(
    daemon: Daemon, client: SecretsClient, identity: Path, tmp_path: Path
) -> None:
    sealed = back_up(daemon, tmp_path / "b.age")
    daemon.api.update("shared_x", "two")
    daemon.api.create("shared_later", "new")
    eventually(lambda: client.get_secret("shared_x") == "two", "the client has the newer value")
    epoch = daemon.api.get("/secrets").position[0]
    assert "stop it" in secretsctl(daemon, "backup", "restore", sealed, "--identity", identity, status=1)
    daemon.terminate()
    assert "2 commits" in secretsctl(daemon, "backup", "restore", sealed, "--identity", identity, status=1)
    said = secretsctl(daemon, "backup", "restore", sealed, "--identity", identity, "--accept-older", "--yes", "--json")
    daemon.start().wait_bus()
    assert daemon.api.get("/secrets").position[0] == json.loads(said)["epoch"] != epoch
    eventually(lambda: client.get_secret("shared_x") == "one", "the client follows the restored state")
    daemon.api.update("shared_x", "three")
    eventually(lambda: client.get_secret("shared_x") == "three", "and what comes after it")
    notes = [str(event.data["note"]) for event in daemon.verified_log() if event.type == "daemon.started"]
    assert any(note.startswith("restored from the backup of") for note in notes)


def test_a_lost_host_comes_back_with_its_broker_as_the_witness(daemon: Daemon, identity: Path, tmp_path: Path) -> None:
    daemon.terminate()
    sealed = back_up(daemon, tmp_path / "b.age")
    shutil.rmtree(daemon.audit_path.parent)
    daemon.vault_path.unlink()
    # The daemon's last checkpoint on the broker is not ahead of the backup: nothing has to be given up.
    secretsctl(daemon, "backup", "restore", sealed, "--identity", identity)
    daemon.start().wait_bus()
    assert daemon.api.value("shared_x") == "one"
    assert daemon.api.get("/healthz").status == 200


@pytest.mark.slow
def test_backups_of_before_and_after_rotations_of_keys_verify_and_the_newer_one_is_restored(
    broker: Broker, prefix: str, new_daemon: New, identity: Path, tmp_path: Path
) -> None:
    admin = {**OPEN_POLICY["clients"]["admin"], "can": ["read", "write", "rotate", "delete", "audit", "admin"]}
    daemon = new_daemon(bus=broker.url, prefix=prefix, policy={"clients": {**OPEN_POLICY["clients"], "admin": admin}})
    daemon.start().wait_bus()
    daemon.api.create("shared_x", "one")
    first, before = tmp_path / "first.pem", back_up(daemon, tmp_path / "before.age")
    first.write_bytes(daemon.public_key_path.read_bytes())
    for key in ("signing", "data"):
        daemon.api.post("/keys/rotate", {"key": key}).ok()
    daemon.api.update("shared_x", "two")
    daemon.terminate()
    after = back_up(daemon, tmp_path / "after.age")
    for sealed in (before, after):
        assert "ok:" in secretsctl(daemon, "backup", "verify", sealed, "--identity", identity, "--pubkey", first)
    shutil.rmtree(daemon.audit_path.parent)
    daemon.vault_path.unlink()
    # Whether it is the newest is another test's matter: a busy broker may not answer in time.
    secretsctl(daemon, "backup", "restore", after, "--identity", identity, "--accept-older", "--yes")
    daemon.start().wait_bus()
    assert daemon.api.value("shared_x") == "two"
    assert len(daemon.api.get("/keys").ok()["keys"]) == 2
    assert "ok:" in secretsctl(daemon, "audit", "verify", "--pubkey", first)


def test_age_and_tar_open_a_backup_without_secretsctl(daemon: Daemon, identity: Path, tmp_path: Path) -> None:
    if shutil.which("age") is None:
        pytest.skip("age is not installed")
    sealed = back_up(daemon, tmp_path / "b.age")
    opened = subprocess.run(["age", "-d", "-i", identity, sealed], check=True, capture_output=True, timeout=60).stdout
    listed = subprocess.run(["tar", "t"], input=opened, check=True, capture_output=True, timeout=60).stdout.decode()
    assert listed.split() == [
        "manifest.json", "vault.json", "vault.json.bus", "audit.sign.key", "audit.sign.pub", "config.toml",
        "policy.yaml", "audit.jsonl",
    ]  # fmt: skip


@pytest.mark.slow
def test_what_the_broker_is_owed_is_not_pruned(daemon: Daemon, broker: Broker, new_daemon: New) -> None:
    daemon.terminate()
    daemon.configure({"bus": {"url": "mqtt://127.0.0.1:1"}})
    daemon.start()
    for value in ("two", "three", "four"):
        daemon.api.update("shared_x", value)
    daemon.audit_path.rename(f"{daemon.audit_path}.1")
    daemon.api.update("shared_x", "five")
    daemon.api.update("shared_x", "six")
    said = secretsctl(daemon, "audit", "prune", "--before", "0s", "--yes")
    assert "nothing to prune" in said
    assert "the broker has not acknowledged" in said
    daemon.terminate()
    daemon.configure({"bus": {"url": broker.url}})
    daemon.start().wait_bus()

    def pruned() -> bool:
        return "removed 1 file" in secretsctl(daemon, "audit", "prune", "--before", "0s", "--yes")

    eventually(pruned, "once all is acknowledged it goes")
    assert "were pruned" in secretsctl(daemon, "audit", "verify")
    daemon.api.get("/audit?after=0").refused(410, "history-gone")
    daemon.restart()
    assert daemon.api.value("shared_x") == "six"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_restore_killed_at_any_rename_leaves_the_old_state_or_one_that_is_gone_on_with(
    new_daemon: New, identity: Path, tmp_path: Path
) -> None:
    daemon = new_daemon().start()
    daemon.api.create("shared_x", "one")
    sealed = back_up(daemon, tmp_path / "b.age")
    daemon.api.update("shared_x", "two")
    daemon.terminate()
    kept = tmp_path / "kept"
    shutil.copytree(daemon.vault_path.parent, kept / "secrets")
    for number in range(1, 40):
        shutil.rmtree(daemon.vault_path.parent)
        shutil.rmtree(daemon.audit_path.parent, ignore_errors=True)
        shutil.copytree(kept / "secrets", daemon.vault_path.parent)
        command = [sys.executable, "-c", KILLED, str(number), "backup", "restore", sealed, "--identity", identity]
        command += ["--accept-older", "--yes", "--config", daemon.config_path]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        if (daemon.vault_path.with_name("vault.json.restore")).exists():
            assert "backup restore --resume" in daemon.refuses(78)
            secretsctl(daemon, "backup", "restore", "--resume")
        else:
            assert daemon.vault_path.read_bytes() == (kept / "secrets" / "vault.json").read_bytes()
            secretsctl(daemon, "backup", "restore", sealed, "--identity", identity, "--accept-older", "--yes")
        daemon.start()
        assert daemon.api.value("shared_x") == "one"
        daemon.verified_log()
        daemon.terminate()
    assert number > 8
    assert done.returncode == 0

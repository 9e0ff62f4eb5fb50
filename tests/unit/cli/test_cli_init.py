"""init: what it writes is what the daemon takes, private, and nothing is overwritten."""

from __future__ import annotations

import errno
import hashlib
import json
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from secretsd import policy
from secretsd.cli import init as init_module
from secretsd.config import load
from secretsd.errors import StartupError
from tests.unit.cli.conftest import Ctl
from tests.unit.support.disk import spy


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    return ["--config-dir", str(tmp_path / "etc"), "--state-dir", str(tmp_path / "state")]


def made(tmp_path: Path) -> dict[str, int]:
    """Return the modes of all files and folders below."""
    return {str(path.relative_to(tmp_path)): stat.S_IMODE(path.stat().st_mode) for path in sorted(tmp_path.rglob("*"))}


def test_it_makes_everything_private(ctl: Ctl, tmp_path: Path, folders: list[str]) -> None:
    result = ctl("init", *folders)
    assert result.exit_code == 0, result.output
    modes = made(tmp_path)
    for folder in ("etc", "state/secrets", "state/audit"):
        assert modes[folder] == 0o700
    for file in ("etc/config.toml", "etc/policy.yaml", "state/secrets/master.key", "state/secrets/vault.json"):
        assert modes[file] == 0o600
    assert modes["state/audit/audit.sign.key"] == 0o600
    assert modes["state/audit/audit.sign.pub"] == 0o644


def test_what_it_writes_loads_without_a_warning(ctl: Ctl, tmp_path: Path, folders: list[str]) -> None:
    result = ctl(
        "init", *folders, "--client", "backend=jwt_signing_key,postgres_*", "--client", "idle", "--bind", "127.0.0.1:0",
        "--bus-url", "mqtts://broker.lan", "--json",
    )  # fmt: skip
    tokens: dict[str, str] = json.loads(result.stdout)["tokens"]
    config = load(tmp_path / "etc/config.toml", environ={})
    assert (str(config.server.bind_addr), config.bus.url) == ("127.0.0.1:0", "mqtts://broker.lan")
    assert config.security.require_client_auth
    read = policy.load(tmp_path / "etc/policy.yaml", config)
    assert read.warnings == ()
    assert set(read.clients) == set(tokens) == {"admin", "backend", "idle"}
    for capability in ("read", "write", "rotate", "delete", "audit"):
        assert read.may("admin", capability, None if capability == "audit" else "anything")
    assert read.may("backend", "read", "postgres_password")
    assert not read.may("backend", "write", "postgres_password")
    assert not read.may("idle", "read", "postgres_password")


def test_the_policy_keeps_only_the_hash_of_a_token(ctl: Ctl, tmp_path: Path, folders: list[str]) -> None:
    result = ctl("init", *folders)
    (line,) = result.stdout.splitlines()
    name, token = line.split()
    assert (name, len(token)) == ("admin", 43)
    text = (tmp_path / "etc/policy.yaml").read_text()
    assert hashlib.sha256(token.encode()).hexdigest() in text
    assert all(token not in path.read_text() for path in tmp_path.rglob("*") if path.is_file())


def test_tokens_go_to_private_files_where_a_folder_is_given(ctl: Ctl, tmp_path: Path, folders: list[str]) -> None:
    result = ctl("init", *folders, "--client", "backend", "--token-dir", str(tmp_path / "tokens"))
    for name in ("admin", "backend"):
        file = tmp_path / "tokens" / f"{name}.token"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert file.read_text().strip() not in result.output


@pytest.mark.parametrize(
    "existing", ["etc/policy.yaml", "state/secrets/vault.json", "state/audit/audit.sign.pub", "tokens/admin.token"]
)
def test_nothing_that_exists_is_touched(ctl: Ctl, tmp_path: Path, folders: list[str], existing: str) -> None:
    file = tmp_path / existing
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    before = made(tmp_path)
    result = ctl("init", *folders, "--token-dir", str(tmp_path / "tokens"))
    assert result.exit_code == 1
    assert str(file) in result.stderr
    assert file.read_text() == "mine"
    assert made(tmp_path) == before


def test_a_dangling_link_counts_as_existing(ctl: Ctl, tmp_path: Path, folders: list[str]) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/config.toml").symlink_to(tmp_path / "elsewhere")
    assert ctl("init", *folders).exit_code == 1
    assert not (tmp_path / "elsewhere").exists()


def test_a_failure_takes_back_what_was_written(
    ctl: Ctl, tmp_path: Path, folders: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise StartupError("the disk is full")

    monkeypatch.setattr(init_module, "_create_state", fail)
    result = ctl("init", *folders, "--token-dir", str(tmp_path / "tokens"))
    assert result.exit_code == 1
    assert "the disk is full" in result.stderr
    assert result.stdout == ""
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


SYNCS = 21
"""How often an init syncs a file or a folder."""


@pytest.mark.parametrize("after", range(SYNCS))
def test_a_full_disk_is_told_with_what_helps_and_nothing_is_left(
    ctl: Ctl, tmp_path: Path, folders: list[str], monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    with monkeypatch.context() as patch:
        spy(patch, "fsync").fail(errno.ENOSPC, after=after)
        result = ctl("init", *folders, "--no-bus")
    assert result.exit_code == 1
    assert "No space left on device" in result.stderr
    assert "make room on its disk" in result.stderr
    assert "Errno" not in result.stderr
    assert f"{tmp_path}/" in result.stderr
    assert list(tmp_path.iterdir()) == []
    assert ctl("init", *folders, "--no-bus").exit_code == 0


def test_a_failure_leaves_what_was_there_before(
    ctl: Ctl, tmp_path: Path, folders: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tmp_path / "state" / "secrets" / "theirs"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("theirs")
    (tmp_path / "etc").mkdir()
    before = made(tmp_path)
    with monkeypatch.context() as patch:
        spy(patch, "fsync").fail(errno.ENOSPC, after=SYNCS - 1)
        assert ctl("init", *folders, "--no-bus").exit_code == 1
    assert made(tmp_path) == before


KILLED = """
import os, signal, sys
left, real = int(sys.argv.pop(1)), os.fsync
def counted(descriptor):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    real(descriptor)
os.fsync = counted
from secretsd.cli import main
main()
"""
"""secretsctl that is killed at a sync: its first argument says after how many."""


@pytest.mark.parametrize("after", [0, 3, 5, 9, SYNCS - 2])
def test_an_init_that_was_killed_is_told_by_the_next_one(
    ctl: Ctl, tmp_path: Path, folders: list[str], after: int
) -> None:
    command = [sys.executable, "-c", KILLED, str(after), "init", *folders, "--no-bus"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == -signal.SIGKILL
    result = ctl("init", *folders, "--no-bus")
    assert result.exit_code == 1
    assert "was broken off here" in result.stderr
    named = result.stderr.partition("this exists: ")[2].splitlines()[0].split(", ")
    left = {str(path) for path in tmp_path.rglob("*") if path.is_file() and path.suffix not in {".new", ".bus"}}
    assert set(named) == left
    for path in named:
        Path(path).unlink()
    assert ctl("init", *folders, "--no-bus").exit_code == 0


def test_a_passphrase_wraps_the_master_key(ctl: Ctl, tmp_path: Path, folders: list[str]) -> None:
    file = tmp_path / "passphrase"
    file.write_text("a pl4nted passphrase\n")
    file.chmod(0o600)
    result = ctl("init", *folders, "--passphrase-file", str(file))
    assert result.exit_code == 0, result.output
    assert "argon2id" in (tmp_path / "state/secrets/master.key").read_text()
    assert "SECRETSD_PASSPHRASE_FILE" in result.stderr
    assert "pl4nted" not in result.output


def test_a_passphrase_that_others_can_read_is_refused(ctl: Ctl, tmp_path: Path, folders: list[str]) -> None:
    file = tmp_path / "passphrase"
    file.write_text("known to all\n")
    file.chmod(0o644)
    assert ctl("init", *folders, "--passphrase-file", str(file)).exit_code == 1
    assert not (tmp_path / "etc").exists()


@pytest.mark.parametrize("client", ["admin", "secretsd", "two words", "backend=[a]", ""])
def test_a_client_that_cannot_be_is_a_usage_error(ctl: Ctl, tmp_path: Path, folders: list[str], client: str) -> None:
    assert ctl("init", *folders, "--client", client).exit_code == 2
    assert not (tmp_path / "etc").exists()


@pytest.mark.parametrize("option", [["--bind", "nowhere"], ["--bus-url", "http://x"], ["--bind", "0.0.0.0:8081"]])
def test_a_configuration_that_would_not_load_is_not_left_behind(
    ctl: Ctl, tmp_path: Path, folders: list[str], option: list[str]
) -> None:
    result = ctl("init", *folders, *option)
    assert result.exit_code == 2
    assert ("correct it" in result.stderr, option[1] in result.stderr or "bus.url" in result.stderr) == (False, True)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_broker_and_none_exclude_each_other(ctl: Ctl, folders: list[str]) -> None:
    assert ctl("init", *folders, "--no-bus", "--bus-url", "mqtt://127.0.0.1:1883").exit_code == 2


def test_a_folder_that_cannot_be_is_named(ctl: Ctl, tmp_path: Path) -> None:
    result = ctl("init", "--config-dir", "/proc/nowhere", "--state-dir", str(tmp_path / "state"))
    assert result.exit_code == 1
    assert result.stderr == "error: nothing was set up: /proc/nowhere: No such file or directory\n"


def test_no_bus_turns_it_off(ctl: Ctl, tmp_path: Path, folders: list[str]) -> None:
    assert ctl("init", *folders, "--no-bus").exit_code == 0
    assert not load(tmp_path / "etc/config.toml", environ={}).bus.enabled


def test_every_key_of_the_configuration_is_in_the_file(ctl: Ctl, tmp_path: Path, folders: list[str]) -> None:
    assert ctl("init", *folders).exit_code == 0
    text = (tmp_path / "etc/config.toml").read_text()
    config = load(tmp_path / "etc/config.toml", environ={})
    for section in ("server", "paths", "security", "crypto", "logging", "bus", "homeassistant"):
        assert f"[{section}]" in text
        for key in getattr(config, section).__struct_fields__:
            written = {"rotation_ms": "rotation_days", "grace_ms": "grace_days", "replay_max_ms": "replay_max"}
            assert f"\n{written.get(key, key)} = " in text, key


def test_a_client_is_proven_by_a_socket_of_its_own_where_a_folder_is_given(
    ctl: Ctl, tmp_path: Path, folders: list[str]
) -> None:
    result = ctl("init", *folders, "--client", "backend=postgres_*", "--socket-dir", "/run/own", "--json")
    assert result.exit_code == 0, result.output
    assert set(json.loads(result.stdout)["tokens"]) == {"admin"}
    rules = policy.load(tmp_path / "etc" / "policy.yaml", load(tmp_path / "etc" / "config.toml", {}))
    assert rules.socket_owners == {Path("/run/own/backend/secretsd.sock"): "backend"}
    assert rules.warnings == ()

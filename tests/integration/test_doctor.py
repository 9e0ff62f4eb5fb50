"""secretsctl doctor at a real daemon and broker: nothing fails in a good installation, what is broken is named."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.broker import CONFIGURATION, Broker
from tests.support.daemon import COMMANDS, Daemon
from tests.support.waiting import eventually

USERS = {user: secrets.token_urlsafe(12) for user in ("secretsd", "admin", "stranger")}
PLANTED = "planted-value-1f0c"
POLICY = {
    "default_deny": True,
    "clients": {
        "admin": {
            "allow": ["*"],
            "can": ["read", "write", "rotate", "delete", "audit"],
            "auth": [{"uid": os.getuid()}],
        },
        "backend": {"allow": ["postgres_password", "jwt_signing_key"], "auth": [{"uid": 65_000}]},
    },
}


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    running = Broker(access="acl", users=USERS).start()
    yield running
    running.close()


@pytest.fixture
def daemon(broker: Broker) -> Iterator[Daemon]:
    credentials = {"username": "secretsd", "password_file": str(broker.password_file("secretsd"))}
    with Daemon(bus=broker.url, config={"bus": credentials}, policy=POLICY) as running:
        running.wait_bus()
        running.api.create("postgres_password", PLANTED)
        running.api.create("jwt_signing_key", type="jwt_signing_key")
        yield running


def doctor(daemon: Daemon, *arguments: str, status: int = 0) -> dict[str, dict[str, Any]]:
    """Run the command, which must end with `status`; return its findings by check."""
    ended = subprocess.run(
        [COMMANDS / "secretsctl", "doctor", "--config", daemon.config_path, "--client", "admin", "--json", *arguments],
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert ended.returncode == status, ended.stdout + ended.stderr
    for value in (PLANTED, *USERS.values()):
        assert value not in ended.stdout + ended.stderr
    return {one["name"]: one for one in json.loads(ended.stdout)["checks"]}


def failures(found: dict[str, dict[str, Any]]) -> set[str]:
    return {name for name, one in found.items() if one["status"] == "failure"}


def test_a_good_installation_has_no_failure_and_next_to_nothing_is_skipped(daemon: Daemon, broker: Broker) -> None:
    found = doctor(
        daemon, "--foreign-user", "stranger", "--foreign-password-file", str(broker.password_file("stranger"))
    )
    # What depends on the machine that the tests run on may be a warning.
    # A new vault has no backup and no recovery file yet; systemd doesn't start this one, and its broker wasn't set up
    # by secretsctl.
    machine = {"swap", "clock", "memory-lock", "disk", "open-files"}
    assert {name for name, one in found.items() if one["status"] != "ok"} - machine == {
        "certificates", "keys", "recovery", "sandbox", "canary-clients", "backup", "backup-key",
    }  # fmt: skip


def test_a_stopped_daemon_is_no_failure_and_what_needs_it_is_skipped_with_the_reason(daemon: Daemon) -> None:
    daemon.terminate()
    found = doctor(daemon)
    assert found["daemon"]["status"] == "warning"
    for name in ("bus", "owed", "expiries", "patterns", "memory-lock", "checkpoint"):
        assert found[name]["status"] == "skipped", name
        assert found[name]["found"], name
    for name in ("chain", "public-key", "state", "canary-anonymous", "second-daemon"):
        assert found[name]["status"] == "ok", name


def test_what_is_broken_is_named(daemon: Daemon) -> None:
    daemon.master_key_path.chmod(0o644)
    log = daemon.audit_path.read_bytes()
    daemon.audit_path.write_bytes(log.replace(b"postgres_password", b"postgres_passw0rd", 1))
    daemon.configure({"bus": {"password_file": "/nowhere/password"}})
    daemon.config_path.chmod(0o666)
    daemon.write_policy({"clients": {"admin": {"allow": ["*"]}, "old": {"allow": ["postgres_pasword"]}}})
    found = doctor(daemon, status=1)
    assert failures(found) == {"modes", "chain", "broker-login"}
    assert "bad-signature" in found["chain"]["found"]
    assert found["proofs"]["status"] == found["policy"]["status"] == found["patterns"]["status"] == "warning"
    assert all(found[name]["fixes"] for name in failures(found))


def test_another_daemon_and_a_denied_one_are_named(daemon: Daemon, broker: Broker) -> None:
    subprocess.run(
        ["mosquitto_pub", "-p", str(broker.port), "-u", "secretsd", "-P", USERS["secretsd"], "-r", "-q", "1",
         "-t", f"{daemon.prefix}/status/other", "-m", '{"data":{"state":"online"}}'],
        check=True, timeout=10,
    )  # fmt: skip
    assert failures(doctor(daemon, "--only", "second-daemon", status=1)) == {"second-daemon"}
    acl = (CONFIGURATION / "acl").read_text()
    broker.write_acl(acl.replace("topic readwrite jarvis/secretsd/#", "topic read jarvis/secretsd/#"))
    try:
        eventually(lambda: daemon.api.health()["bus"] == "denied", "the daemon notices the denial", within=30)
        assert failures(doctor(daemon, "--only", "bus", status=1)) == {"bus"}
    finally:
        broker.write_acl(acl)


def test_without_a_known_client_the_checks_that_need_names_say_so(daemon: Daemon) -> None:
    found = doctor(daemon, "--client", "nobody", "--only", "patterns", "--only", "expiries")
    assert found["patterns"]["status"] == "skipped"
    assert found["expiries"]["status"] == "ok"

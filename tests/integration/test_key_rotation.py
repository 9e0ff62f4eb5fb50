"""The daemon's own keys rotated while it serves: services, verifiers and people with a PEM go on."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import random
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from secretsd_client import SecretsClient, Settings, Times

from tests.support.broker import Broker
from tests.support.daemon import COMMANDS, NODE, OPEN_POLICY, Daemon
from tests.support.repeating import Repeating
from tests.support.waiting import eventually

ALL = ["read", "write", "rotate", "delete", "audit", "admin"]
POLICY: dict[str, Any] = {"clients": {**OPEN_POLICY["clients"], "admin": {"allow": ["*"], "can": ALL}}}
HEARD_ONLY = Times(ttl_silent=600.0)
PLANTED = "pl4nted-passphrase"


@pytest.fixture
def daemon(broker: Broker, prefix: str) -> Iterator[Daemon]:
    with Daemon(bus=broker.url, prefix=prefix, policy=POLICY) as running:
        yield running.wait_bus()


@pytest.fixture
def first_pem(daemon: Daemon, tmp_path: Path) -> Path:
    """A copy of the key that the log begins with, as somebody has pinned it."""
    path = tmp_path / "first.pem"
    path.write_bytes(daemon.public_key_path.read_bytes())
    return path


@pytest.fixture
def new_client(daemon: Daemon) -> Iterator[Callable[[Path | None], SecretsClient]]:
    made: list[SecretsClient] = []

    def make(pubkey: Path | None) -> SecretsClient:
        settings = Settings(url=f"http://127.0.0.1:{daemon.port}", client_id="admin", pubkey=pubkey, times=HEARD_ONLY)
        made.append(SecretsClient(settings))
        return made[-1]

    yield make
    for client in made:
        client.close()


def ctl(daemon: Daemon, *words: str, given: str = "", env: dict[str, str] | None = None, status: int = 0) -> str:
    ended = subprocess.run(
        [str(COMMANDS / "secretsctl"), *words],
        input=given,
        capture_output=True,
        text=True,
        env={
            "PATH": os.environ["PATH"],
            "JARVIS_SECRETS_URL": f"http://127.0.0.1:{daemon.port}",
            "JARVIS_CLIENT_ID": "admin",
            **(env or {}),
        },
        check=False,
    )
    assert ended.returncode == status, ended.stdout + ended.stderr
    assert PLANTED not in ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def rotate(daemon: Daemon, key: str) -> str:
    return ctl(daemon, "key", "rotate", key)


@pytest.mark.parametrize("pinned", [True, False])
def test_a_live_client_and_one_that_was_away_follow_a_new_signing_key(
    daemon: Daemon, new_client: Callable[..., SecretsClient], first_pem: Path, pinned: bool
) -> None:
    pem = first_pem if pinned else None
    daemon.api.create("shared_x", "one")
    live = new_client(pem)
    told: list[int] = []
    live.on_change("shared_x", lambda secret: told.append(secret.version))
    assert live.get_secret("shared_x") == "one"
    assert live.wait_ready(15)
    for number in (2, 3):
        rotate(daemon, "signing")
        eventually(lambda want=number - 1: live.stats().get("keys_followed", 0) >= want, "the key is followed")
        daemon.api.update("shared_x", f"v{number}")
        eventually(lambda want=number: want in told, "a change is heard of")
        assert live.get_secret("shared_x") == f"v{number}"
    away = new_client(pem)
    assert away.get_secret("shared_x") == "v3"
    assert away.wait_ready(15)
    told.clear()
    eventually(lambda: away.stats().get("verified", 0) > 0, "what the new key signed verifies")
    away.on_change("shared_x", lambda secret: told.append(-secret.version))
    daemon.api.update("shared_x", "v4")
    eventually(lambda: -4 in told, "a change is heard of by the one that was away")


@pytest.mark.slow
def test_the_log_verifies_offline_with_its_first_key_over_rotations_and_restarts(
    daemon: Daemon, first_pem: Path
) -> None:
    for _ in range(2):
        rotate(daemon, "signing")
        daemon.restart()
    assert "ok:" in ctl(daemon, "audit", "verify", str(daemon.audit_path), "--pubkey", str(first_pem))
    assert "ok:" in ctl(daemon, "audit", "verify", str(daemon.audit_path))
    keys = daemon.api.get("/keys").ok()["keys"]
    assert [("last_sequence" in one) for one in keys] == [False, True, True]
    lines = daemon.lines()
    for past in keys[1:]:
        assert lines[past["last_sequence"] - 1]["keyid"] == past["kid"]
        assert lines[past["last_sequence"]]["keyid"] != past["kid"]


def test_tail_follows_from_a_pem_of_before_the_rotation(daemon: Daemon, first_pem: Path) -> None:
    rotate(daemon, "signing")
    daemon.wait_bus()
    command = [str(COMMANDS / "secretsctl"), "--json", "tail", "--pubkey", str(first_pem), "-n", "1", "shared_*"]
    environment = {
        "PATH": os.environ["PATH"],
        "JARVIS_SECRETS_URL": f"http://127.0.0.1:{daemon.port}",
        "JARVIS_CLIENT_ID": "admin",
    }
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as tail:
        assert tail.stderr is not None
        assert tail.stdout is not None
        assert "listening" in tail.stderr.readline()
        numbers = itertools.count()
        with Repeating(lambda: daemon.api.create(f"shared_{next(numbers)}", "v"), pause_secs=0.2):
            event = json.loads(tail.stdout.readline())
    assert event["type"] == "jarvis.secretsd.secret.created"
    assert event["keyid"] == daemon.api.get("/keys").ok()["keys"][0]["kid"]


def test_every_key_is_rotated_under_reads_and_none_of_them_fails(daemon: Daemon) -> None:
    daemon.api.create("shared_x", "value")

    def read() -> None:
        assert daemon.api.value("shared_x") == "value"

    with Repeating(read, pause_secs=0) as reads, Repeating(read, pause_secs=0):
        for key in ("data", "master", "signing", "data", "master", "signing"):
            rotate(daemon, key)
            reads.wait(1)
    daemon.restart()
    assert daemon.api.value("shared_x") == "value"


@pytest.mark.slow
def test_a_passphrase_is_changed_in_two_steps_and_shows_up_nowhere(daemon: Daemon, tmp_path: Path) -> None:
    daemon.api.create("shared_x", "value")
    said = ctl(daemon, "key", "rotate", "passphrase", "--passphrase-file", "-", given=PLANTED + "\n")
    assert "reload or restart the daemon" in said
    daemon.restart()  # without a passphrase still
    file = tmp_path / "passphrase"
    file.write_text(PLANTED + "\n")
    file.chmod(0o600)
    daemon.env["SECRETSD_PASSPHRASE_FILE"] = str(file)
    daemon.restart()
    ctl(daemon, "key", "rotate", "master")
    daemon.terminate()
    del daemon.env["SECRETSD_PASSPHRASE_FILE"]
    assert "wrapped under a passphrase and none was given" in daemon.refuses(78)
    for path in daemon.directory.rglob("*"):
        if path.is_file():
            assert PLANTED.encode() not in path.read_bytes(), path
    daemon.env["SECRETSD_PASSPHRASE_FILE"] = str(file)
    daemon.start()
    assert daemon.api.value("shared_x") == "value"


def test_a_lost_master_key_is_brought_back_from_a_recovery_file(daemon: Daemon, tmp_path: Path) -> None:
    daemon.api.create("shared_x", "value")
    out, config = tmp_path / "recovery.age", str(daemon.config_path)
    passphrase = ["--passphrase-file", "/dev/stdin", "--config", config]
    ctl(daemon, "recovery", "export", "-o", str(out), *passphrase, given=PLANTED)
    assert "all 1 values of 1 secrets" in ctl(daemon, "recovery", "drill", str(out), *passphrase, given=PLANTED)
    daemon.terminate()
    daemon.master_key_path.unlink()
    ctl(daemon, "recovery", "import", str(out), *passphrase, given=PLANTED)
    daemon.start()
    assert daemon.api.value("shared_x") == "value"


def test_without_the_right_admin_no_key_is_rotated(daemon: Daemon) -> None:
    for key in ("data", "signing", "master"):
        daemon.api.as_("backend").post("/keys/rotate", {"key": key}).refused(403, "forbidden")
    daemon.api.post("/keys/rotate", {"key": "other"}).refused(422, "invalid-request")
    daemon.api.post("/keys/rotate", {"key": "data", "passphrase": PLANTED}).refused(422, "invalid-request")
    daemon.api.post("/keys/rotate", {"key": "passphrase"}).refused(422, "invalid-request")
    assert daemon.events("vault.key_rotated") == daemon.events("audit.key_rotated") == []


def test_a_past_key_signs_no_checkpoint_beyond_its_last_line(daemon: Daemon) -> None:
    """However much is written while the connection changes over: a reader takes one for somebody who stole the key."""
    daemon.api.create("x", type="generic")
    with daemon.tap() as tap:
        with Repeating(lambda: daemon.api.rotate("x")):
            for _ in range(3):
                session = daemon.api.changes()["session"]
                rotate(daemon, "signing")
                eventually(lambda: daemon.api.changes()["session"] > session, "another connection")  # noqa: B023
                daemon.wait_bus()
        current, *past = daemon.api.get("/keys").ok()["keys"]
        ends = {key["kid"]: key["last_sequence"] for key in past}
        tap.wait(
            lambda heard: (
                heard.topic == tap.topics.checkpoint(NODE) and json.loads(heard.payload)["keyid"] == current["kid"]
            ),
            "a checkpoint by the newest key",
        )
        checkpoints = [json.loads(heard.payload) for heard in tap.on(tap.topics.checkpoint(NODE))]
    signed = {(one["keyid"], one["data"]["sequence"]) for one in checkpoints}
    assert not [(kid, sequence) for kid, sequence in signed if sequence > ends.get(kid, sequence)]
    assert "another daemon" not in daemon.output()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_kills_in_a_stream_of_rotations_leave_a_vault_that_opens_and_a_log_that_verifies(
    daemon: Daemon, first_pem: Path
) -> None:
    rng = random.Random(4)
    for number in range(200):
        daemon.api.create(f"shared_{number}", f"v{number}")
    for _ in range(20):
        asked = threading.Event()

        def keep_rotating(asked: threading.Event = asked) -> None:
            for key in itertools.cycle(("data", "signing", "master")):
                asked.set()
                try:
                    daemon.api.post("/keys/rotate", {"key": key})
                except (OSError, http.client.HTTPException):
                    return  # the daemon is gone

        rotating = threading.Thread(target=keep_rotating)
        rotating.start()
        asked.wait()
        # A moment somewhere in the first rotations; not a wait for anything.
        rotating.join(rng.random() * 0.2)
        daemon.sigkill()
        rotating.join()
        daemon.start()
        for number in (0, 199):
            assert daemon.api.value(f"shared_{number}") == f"v{number}"
    assert "ok:" in ctl(daemon, "audit", "verify", str(daemon.audit_path), "--pubkey", str(first_pem))

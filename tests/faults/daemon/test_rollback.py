"""An older state put back: seen by the log, by the vault, or by the broker; and what accepts it knowingly."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.broker import Broker
from tests.support.daemon import COMMANDS, NODE, Daemon
from tests.support.tap import Heard
from tests.support.waiting import always, eventually

pytestmark = pytest.mark.slow

BAD = 78
New = Callable[..., Daemon]


class Backup:
    """A copy of vault.json and the audit log as they are now."""

    def __init__(self, daemon: Daemon, folder: Path) -> None:
        self._daemon = daemon
        self._folder = Path(tempfile.mkdtemp(dir=folder))
        self._paths = {"vault": daemon.vault_path, "log": daemon.audit_path}
        for path in self._paths.values():
            shutil.copy2(path, self._folder)

    def put_back(self, *which: str) -> None:
        """Overwrite the newer `vault`, `log`, or both."""
        for one in which:
            shutil.copy2(self._folder / self._paths[one].name, self._paths[one])


def accept(daemon: Daemon) -> dict[str, Any]:
    done = subprocess.run(
        [COMMANDS / "secretsctl", "vault", "accept-rollback", "--config", daemon.config_path, "--yes", "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    accepted: dict[str, Any] = json.loads(done.stdout)
    return accepted


def retained_checkpoint(broker: Broker, daemon: Daemon) -> dict[str, Any]:
    """What the broker remembers now."""
    with daemon.tap(broker.url) as tap:
        heard = tap.wait_topic(tap.topics.checkpoint(NODE))
    assert heard.event is not None
    return heard.event.data


@pytest.fixture
def daemon(broker: Broker, prefix: str, new_daemon: New) -> Daemon:
    """Connected, with two secrets."""
    daemon = new_daemon(bus=broker.url, prefix=prefix).start().wait_bus()
    daemon.api.create("x", "one")
    daemon.api.create("y", "one")
    return daemon


@pytest.fixture
def rolled_back(daemon: Daemon, broker: Broker, tmp_path: Path) -> Daemon:
    """Not running, both files put back to before three commits; only the broker knows better."""
    daemon.terminate()
    backup = Backup(daemon, tmp_path)
    daemon.start().wait_bus()
    for value in ("two", "three", "four"):
        generation = daemon.api.update("x", value)["generation"]
    eventually(lambda: retained_checkpoint(broker, daemon)["generation"] == generation, "the broker knows")
    daemon.terminate()
    backup.put_back("vault", "log")
    return daemon


def test_an_older_vault_is_named_with_the_commits_that_it_lacks(daemon: Daemon, tmp_path: Path) -> None:
    backup = Backup(daemon, tmp_path)
    before = daemon.api.get("/secrets").position[1]
    for value in ("two", "three", "four"):
        daemon.api.update("x", value)
    daemon.terminate()
    backup.put_back("vault")
    said = daemon.refuses(BAD)
    assert f"{daemon.vault_path} is older than the audit log" in said
    assert f"at generation {before}" in said
    assert "3 commits more" in said


def test_an_older_log_is_named_with_the_lines_that_it_lacks(daemon: Daemon, tmp_path: Path) -> None:
    backup = Backup(daemon, tmp_path)
    ends = len(daemon.lines())
    for value in ("two", "three", "four"):
        daemon.api.update("x", value)
    knows = json.loads(daemon.vault_path.read_bytes())["audit"]["sequence"]
    daemon.terminate()
    backup.put_back("log")
    said = daemon.refuses(BAD)
    assert f"the audit log {daemon.audit_path} is older than the vault" in said
    assert f"ends at line {ends} and the vault knows {knows}, {knows - ends} more" in said


def test_an_older_log_is_seen_although_nothing_but_reads_were_lost(
    broker: Broker, daemon: Daemon, tmp_path: Path
) -> None:
    backup = Backup(daemon, tmp_path)
    for _ in range(5):
        daemon.api.secret("x")
    ends = len(daemon.lines())
    eventually(lambda: retained_checkpoint(broker, daemon)["sequence"] >= ends, "the broker knows")
    daemon.terminate()
    backup.put_back("log", "vault")
    daemon.spawn()
    eventually(lambda: daemon.api.get("/healthz").status == 503, "the daemon stops serving")
    assert "audit log is older than the broker's checkpoint by" in daemon.api.health()["reason"]


def test_the_broker_is_the_witness_when_both_were_put_back(rolled_back: Daemon, broker: Broker) -> None:
    daemon = rolled_back
    before = retained_checkpoint(broker, daemon)
    with daemon.tap(broker.url) as tap:
        daemon.spawn()
        eventually(lambda: daemon.api.get("/healthz").status == 503, "the daemon stops serving")
        health = daemon.api.health()
        assert health["status"] != "ok"
        assert "vault.json is older than the broker's checkpoint by 3 commits" in health["reason"]
        assert "accept-rollback" in health["reason"]
        assert health["reason"] in daemon.output()

        api = daemon.api
        for answer in (
            api.get("/secret/x"), api.get("/secrets"), api.get("/changes"), api.post("/rotate", {"names": ["x"]}),
            api.put("/secret/x", {"value": "five"}), api.post("/secret", {"name": "z", "value": "v"}),
            api.delete("/secret/x"), api.get("/.well-known/jwks.json"), api.get("/audit"),
        ):  # fmt: skip
            answer.refused(503, "vault-unavailable")

        always(lambda: daemon.api.get("/healthz").status == 503, "it serves again by itself", during=2.5)
        daemon.terminate()
        fresh = [heard.topic for heard in tap.heard if not heard.retain]
        assert not [topic for topic in fresh if "/checkpoint/" in topic or "/secret/" in topic or "/audit/" in topic]
    assert retained_checkpoint(broker, daemon) == before


def test_a_rollback_is_seen_again_after_every_restart(rolled_back: Daemon) -> None:
    for _ in range(3):
        rolled_back.spawn()
        eventually(lambda: rolled_back.api.get("/healthz").status == 503, "the daemon stops serving")
        assert rolled_back.terminate() == 0


def serves_in_a_new_epoch(daemon: Daemon, accepted: dict[str, Any], old: str, value: str) -> None:
    """Start; clients of the old epoch start over, all calls work, the log verifies and says what was done."""
    daemon.start().wait_bus()
    assert daemon.api.get("/healthz").status == 200
    epoch = daemon.api.get("/secrets").position[0]
    assert epoch == accepted["epoch"] != old.rpartition(":")[0]
    daemon.api.get(f"/changes?since={old}").refused(410, "history-gone")
    assert {change["name"] for change in daemon.api.changes()["changes"]} == {"x", "y"}
    assert daemon.api.value("x") == value
    daemon.api.rotate("y", values={"y": "anew"})
    daemon.api.create("z", "v")
    entry = next(
        event
        for event in daemon.verified_log()
        if event.type == "daemon.started" and "rollback accepted" in str(event.data["note"])
    )
    assert entry.data["epoch"] == epoch
    with daemon.tap() as tap:

        def of_new_epoch(heard: Heard) -> bool:
            return heard.event is not None and heard.event.data["epoch"] == epoch

        for topic in (tap.topics.checkpoint(NODE), tap.topics.secret_state("x"), tap.topics.secret_state("z")):
            tap.wait(lambda heard, topic=topic: heard.topic == topic and of_new_epoch(heard), f"{topic} anew")


def test_an_accepted_rollback_of_both_serves_in_a_new_epoch(rolled_back: Daemon, broker: Broker) -> None:
    old = retained_checkpoint(broker, rolled_back)
    accepted = accept(rolled_back)
    serves_in_a_new_epoch(rolled_back, accepted, f"{old['epoch']}:{old['generation']}", "one")


@pytest.mark.parametrize(("which", "value"), [("vault", "one"), ("log", "three")])
def test_an_accepted_rollback_of_one_serves_in_a_new_epoch(
    daemon: Daemon, tmp_path: Path, which: str, value: str
) -> None:
    backup = Backup(daemon, tmp_path)
    for new in ("two", "three"):
        daemon.api.update("x", new)
    epoch, generation = daemon.api.get("/secrets").position
    daemon.terminate()
    backup.put_back(which)
    daemon.refuses(BAD)
    serves_in_a_new_epoch(daemon, accept(daemon), f"{epoch}:{generation}", value)


def test_a_backup_from_before_the_acceptance_is_refused_again(rolled_back: Daemon, tmp_path: Path) -> None:
    daemon = rolled_back
    backup = Backup(daemon, tmp_path)
    accept(daemon)
    daemon.start().wait_bus()
    daemon.terminate()

    backup.put_back("vault")
    assert "older than the audit log" in daemon.refuses(BAD)

    backup.put_back("vault", "log")
    daemon.spawn()
    eventually(lambda: daemon.api.get("/healthz").status == 503, "the daemon stops serving")
    assert "epoch that this vault does not know" in daemon.api.health()["reason"]


def test_an_acceptance_is_refused_while_the_daemon_runs(daemon: Daemon) -> None:
    done = subprocess.run(
        [COMMANDS / "secretsctl", "vault", "accept-rollback", "--config", daemon.config_path, "--yes"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 1
    assert "another secretsd works on this vault" in done.stderr
    assert daemon.api.value("x") == "one"


def test_a_rollback_that_the_broker_could_not_be_asked_about_is_seen_when_it_is_back(
    own: Broker, prefix: str, new_daemon: New, tmp_path: Path
) -> None:
    daemon = new_daemon(bus=own.url, prefix=prefix).start().wait_bus()
    daemon.api.create("x", "one")
    backup = Backup(daemon, tmp_path)
    daemon.api.update("x", "two")
    eventually(lambda: retained_checkpoint(own, daemon)["generation"] == 2, "the broker knows")
    daemon.terminate()
    own.stop()
    backup.put_back("vault", "log")
    daemon.start()
    # As much is done meanwhile as was lost: neither number is smaller any more, and yet it is another history.
    for value in ("other", "another", "third"):
        daemon.api.update("x", value)
    own.start()
    eventually(lambda: daemon.api.get("/healthz").status == 503, "the daemon stops serving")
    assert "checkpoint" in daemon.api.health()["reason"]

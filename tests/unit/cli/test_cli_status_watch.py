"""status: what it shows of the daemon's numbers and log, and a live screen that doesn't fill the audit log."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from secretsd_bus import Chain

from tests.support.waiting import PATIENCE_SECS
from tests.unit.cli.conftest import Ctl, Spawn, Terminal
from tests.unit.cli.fake_daemon import FakeDaemon

METRICS = """\
# TYPE secretsd_owed_events gauge
secretsd_owed_events{lane="changes"} 3
secretsd_owed_events{lane="audit"} 1200
# TYPE secretsd_secrets gauge
secretsd_secrets{status="active"} 1
secretsd_secrets{status="expired"} 2
# TYPE secretsd_audit_sequence gauge
secretsd_audit_sequence 3
# TYPE secretsd_audit_failures counter
secretsd_audit_failures_total 0
# TYPE secretsd_schedule_failing gauge
secretsd_schedule_failing 0
# TYPE secretsd_clients_without_proof gauge
secretsd_clients_without_proof 1
"""
POLICY = """\
default_deny: true
clients:
  admin: {allow: ["*"], deny: [], can: [read, audit], auth: [{uid: 0}]}
  legacy: {allow: [note], deny: [], can: [read]}
"""


@pytest.fixture
def log(daemon: FakeDaemon) -> list[bytes]:
    """An audit log of three lines."""
    chain = Chain(log_id="log", node="host", key=daemon.key)
    for sequence in range(3):
        daemon.log.append(chain.append("daemon.started", None, {"note": ""}, f"2026-11-23T17:00:00.00{sequence}Z").raw)
    return daemon.log


def test_the_daemon_s_numbers_are_on_the_screen(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.metrics = METRICS
    shown = ctl("status").stdout
    assert "connected, owed: 3 of changes, 1,200 of audit" in shown
    assert "1 active, 2 expired" in shown
    assert "line 3, each write durable" in shown
    assert "without proof  1\n" in shown
    daemon.metrics = METRICS.replace("failures_total 0", "failures_total 4").replace("failing 0", "failing 1")
    shown = ctl("status").stdout
    assert "4 times lines could not be written" in shown
    assert "what is due isn't carried out" in shown
    answer = json.loads(ctl("status", "--json").stdout)
    assert answer["measured"]["owed"] == {"changes": 3, "audit": 1200}
    assert answer["measured"]["clients_without_proof"] == 1


def test_a_rotation_on_its_way_is_shown_with_what_holds_it_up(ctl: Ctl, daemon: FakeDaemon) -> None:
    pending = {
        "version": 2,
        "step": "set",
        "since": "2026-11-23T17:00:00.000Z",
        "attempts": 3,
        "next_attempt": "2026-11-23T17:00:00.000Z",
        "failure": "connection refused",
        "failing": True,
    }
    daemon.plant("stuck", "x", pending=pending)
    assert "stuck to version 2: set failed, 3 times: connection refused" in ctl("status").stdout
    daemon.plant("moving", "x", pending=pending | {"failure": None, "failing": False})
    assert "moving to version 2: set comes next" in ctl("status").stdout


def test_clients_without_a_proof_are_named_where_the_policy_can_be_read(
    ctl: Ctl, daemon: FakeDaemon, tmp_path: Path
) -> None:
    daemon.metrics = METRICS
    (tmp_path / "policy.yaml").write_text(POLICY)
    config = tmp_path / "config.toml"
    text = '[server]\nbind_addr = "{}"\n[security]\nrbac_policy_path = "policy.yaml"\n'
    config.write_text(text.format("127.0.0.1:1"))
    assert "without proof  1\n" in ctl("status", "--config", str(config)).stdout, "these files are another daemon's"
    config.write_text(text.format(daemon.url.removeprefix("http://")))
    assert "without proof  1: legacy\n" in ctl("status", "--config", str(config)).stdout
    daemon.metrics = METRICS.replace("without_proof 1", "without_proof 2")
    assert "without proof  2\n" in ctl("status", "--config", str(config)).stdout, "another policy is in force"


def test_the_log_is_verified_when_asked_for(ctl: Ctl, daemon: FakeDaemon, log: list[bytes]) -> None:
    daemon.metrics = METRICS
    result = ctl("status", "--verify")
    assert result.exit_code == 0
    assert "lines 1 to 3 verified" in result.stdout
    assert json.loads(ctl("status", "--verify", "--json").stdout)["chain"]["ok"] is True


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        (lambda lines: [lines[0], lines[2]], "1 line is missing"),
        (lambda lines: [lines[0], lines[1].replace(b"host", b"ghost"), lines[2]], "signature"),
        (lambda lines: lines[:2], "there is a line 3, and gives none after 2"),
    ],
)
def test_a_log_that_does_not_verify_is_1(
    ctl: Ctl, daemon: FakeDaemon, log: list[bytes], changed: Callable[[list[bytes]], list[bytes]], complaint: str
) -> None:
    daemon.metrics = METRICS
    daemon.log = changed(log)
    result = ctl("status", "--verify")
    assert result.exit_code == 1
    assert complaint in result.stderr


def test_a_watched_screen_follows_the_daemon_and_lists_the_secrets_once(spawn: Spawn, daemon: FakeDaemon) -> None:
    daemon.bus = {"url": "mqtt://127.0.0.1:1883", "topic_prefix": "jarvis/secretsd", "node": "host"}
    process = spawn("status", "--watch")
    assert process.stdout is not None
    for state in ("connected", "disconnected", "denied"):
        daemon.health["bus"] = state
        while process.stdout.readline().split() != [b"bus", state.encode()]:
            assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_SECS) == 130
    assert sum(seen.path == "/secrets" for seen in daemon.seen) == 1


def test_watched_as_json_it_is_a_document_a_line(spawn: Spawn, daemon: FakeDaemon) -> None:
    daemon.metrics = METRICS
    process = spawn("status", "--watch", "--json")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["measured"]["audit_line"] == 3
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_SECS) == 130


def test_on_a_terminal_it_is_a_screen_of_its_own_that_goes_away(terminal: Terminal, daemon: FakeDaemon) -> None:
    daemon.metrics = METRICS
    status, shown = terminal("status", "--watch", typed=[("write durable", "\x03")])
    assert status == 130
    enter, leave = "\x1b[?1049h", "\x1b[?1049l"
    assert shown.index(enter) < shown.index("audit log") < shown.index(leave)

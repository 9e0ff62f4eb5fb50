"""status --watch: a live screen that doesn't fill the audit log."""

from __future__ import annotations

import signal

from tests.support.waiting import PATIENCE_SECS
from tests.unit.cli.conftest import Ctl, Spawn
from tests.unit.cli.fake_daemon import FakeDaemon


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


def test_a_watched_screen_is_no_json(ctl: Ctl) -> None:
    assert ctl("status", "--watch", "--json").exit_code == 2

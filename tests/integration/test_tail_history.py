"""secretsctl tail --since: the history of a real daemon, then its live events, each verified and once."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.support.broker import Broker
from tests.support.daemon import COMMANDS, Daemon
from tests.support.waiting import PATIENCE_SECS, eventually


def test_the_history_joins_the_live_stream_without_a_gap_or_a_double(
    own: Broker, prefix: str, new_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    daemon = new_daemon(bus=own.url, prefix=prefix).start().wait_bus()
    api = daemon.api
    for number in range(5):
        api.create(f"before_{number}")
    out, err = tmp_path / "out", tmp_path / "err"
    environment = {
        "PATH": os.environ["PATH"],
        "JARVIS_SECRETS_URL": f"http://127.0.0.1:{daemon.port}",
        "JARVIS_CLIENT_ID": "admin",
    }
    command = [COMMANDS / "secretsctl", "tail", "--json", "--since", "1h"]
    with out.open("wb") as stdout, err.open("wb") as stderr:
        tail = subprocess.Popen(command, env=environment, stdout=stdout, stderr=stderr)
    try:

        def reaches(name: str) -> None:
            eventually(lambda: name in out.read_text(), f"{name} is shown")

        for number in range(20):
            api.create(f"during_{number}")
        reaches("during_19")
        own.kill()
        eventually(lambda: "the broker is away" in err.read_text(), "tail has lost the broker")
        api.create("away")
        own.start()
        daemon.wait_bus()
        api.create("after")
        reaches('"after"')
    finally:
        tail.terminate()
        tail.wait(PATIENCE_SECS)
    shown = out.read_bytes().splitlines()
    log = daemon.audit_path.read_bytes().splitlines()
    assert sorted(shown, key=lambda line: str(json.loads(line)["sequence"])) == log[: len(shown)]
    assert "refused" not in err.read_text()
    assert "missing" not in err.read_text()

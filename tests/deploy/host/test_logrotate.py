"""The logrotate entry, run by the real logrotate while requests are answered: the chain holds and no line is lost."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.host.wheels import ROOT
from tests.support.daemon import COMMANDS, Daemon
from tests.support.waiting import eventually

pytestmark = pytest.mark.deploy

ROTATIONS = 4
READERS = 3


@pytest.fixture
def logrotate() -> str:
    found = shutil.which("logrotate", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if found is None:
        pytest.skip("logrotate isn't installed here")
    if os.geteuid() != 0:
        pytest.skip("logrotate's `su` needs root")
    return found


def entry(daemon: Daemon) -> str:
    """Return the entry that is shipped, for this daemon's log and user."""
    shipped = (ROOT / "deploy" / "logrotate" / "jarvis-secretsd").read_text()
    return shipped.replace("/opt/jarvis/audit/audit.jsonl", str(daemon.audit_path)).replace(
        "jarvis-secretsd jarvis-secretsd", "root root"
    )


class Reading(threading.Thread):
    """Reads a secret over and over; remembers what was answered."""

    def __init__(self, daemon: Daemon) -> None:
        super().__init__()
        self.answered: list[str] = []
        self.failed: list[int] = []
        self.enough = threading.Event()
        self.going = threading.Event()
        self._api = daemon.api

    def run(self) -> None:
        while not self.enough.is_set():
            answer = self._api.get("/secret/x")
            if answer.status == 200:
                self.answered.append(answer.headers["x-request-id"])
                self.going.set()
            else:
                self.failed.append(answer.status)


def test_no_line_is_lost_and_the_chain_holds_while_logrotate_runs(logrotate: str, tmp_path: Path) -> None:
    with Daemon() as daemon:
        daemon.api.create("x", "v")
        settings = tmp_path / "entry"
        settings.write_text(entry(daemon))
        settings.chmod(0o644)
        readers = [Reading(daemon) for _ in range(READERS)]
        for reader in readers:
            reader.start()
        try:
            for _ in range(ROTATIONS):
                for reader in readers:
                    reader.going.clear()
                    assert reader.going.wait(20)
                command = [logrotate, "--force", f"--state={tmp_path / 'state'}", str(settings)]
                subprocess.run(command, check=True, timeout=60)
                # The names of rotated files end with the second; each has to have its own.
                began = int(time.time())
                eventually(partial(after, began), "another second has begun")
        finally:
            for reader in readers:
                reader.enough.set()
            for reader in readers:
                reader.join()
        files = sorted(daemon.audit_path.parent.glob("audit.jsonl-*"))
        assert [path.suffix == ".gz" for path in files] == [True] * (ROTATIONS - 1) + [False], files
        assert daemon.audit_path.stat().st_mode & 0o777 == 0o600
        # A batch is written again where its file was moved away meanwhile: the command takes such repeats as one.
        verify = [str(COMMANDS / "secretsctl"), "audit", "verify", *map(str, [*files, daemon.audit_path])]
        verified = subprocess.run(verify, capture_output=True, check=False, text=True)
        assert verified.returncode == 0, verified.stderr
        logged = {line["data"]["request_id"] for line in lines([*files, daemon.audit_path]) if ".read" in line["type"]}
        assert not [reader.failed for reader in readers if reader.failed]
        answered = {one for reader in readers for one in reader.answered}
        assert answered
        assert answered <= logged


def after(second: int) -> bool:
    return time.time() >= second + 1


def lines(files: list[Path]) -> list[dict[str, Any]]:
    """Return the lines of all files, compressed ones too."""
    plain = (gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes() for file in files)
    return [json.loads(line) for content in plain for line in content.splitlines()]

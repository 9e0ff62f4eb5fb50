"""What secretsctl holds stays in its memory: a crash leaves no core dump of it."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.unit.cli.conftest import COMMAND, Spawn
from tests.unit.cli.fake_daemon import FakeDaemon

DUMPING = ["/bin/sh", "-c", 'ulimit -c unlimited; exec "$@"', "sh"]


def dumped(process: subprocess.Popen[bytes]) -> bool:
    """Wait for a process that crashes; tell whether the kernel made a core dump of it."""
    _, status = os.waitpid(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == -signal.SIGABRT
    return os.WCOREDUMP(status)


def test_a_crash_leaves_no_core_dump(daemon: FakeDaemon, spawn: Spawn, tmp_path: Path) -> None:
    crash = spawn("/bin/sh", "-c", "kill -ABRT $$", program=DUMPING, cwd=tmp_path)
    if not dumped(crash):
        pytest.skip("no process leaves a core dump here")
    daemon.plant("note", "pl4nted")
    daemon.on_request = lambda _: process.send_signal(signal.SIGABRT)
    process = spawn("get", "note", program=[*DUMPING, COMMAND], cwd=tmp_path)
    assert not dumped(process)

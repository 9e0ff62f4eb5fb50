"""Backups and prunings while the daemon serves, rotates secrets and has its log rotated: each backup is proven."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pyrage
import pytest
from secretsd_bus import rfc3339

from secretsd import config as configuration
from secretsd.backup.create import to_file
from secretsd.backup.proving import prove
from secretsd.backup.unpack import unpack
from secretsd.clock import SystemClock
from secretsd.config import Config
from secretsd.crypto import masterkey
from secretsd.crypto.age import Identities, Recipients
from secretsd.daemon import retention
from secretsd.errors import PruneError
from tests.faults.daemon.load import Load
from tests.faults.daemon.test_log_rotation import ENTRY, LOGROTATE, Figure
from tests.support.daemon import COMMANDS, Daemon
from tests.support.repeating import Repeating
from tests.support.waiting import eventually

BACKUPS = 8
IDENTITY = pyrage.x25519.Identity.generate()


@pytest.fixture
def daemon(new_daemon: Callable[..., Daemon]) -> Daemon:
    daemon = new_daemon().start()
    daemon.api.create("x", type="generic")
    return daemon


@pytest.fixture
def config(daemon: Daemon) -> Config:
    return configuration.load(daemon.config_path)


@pytest.fixture
def rotate_log(daemon: Daemon) -> Repeating:
    """While it is entered: the log moved away and compressed, by the real logrotate where it is installed."""
    names = (daemon.audit_path.with_name(f"audit.jsonl.{number}") for number in itertools.count(1000))
    entry, state = daemon.directory / "logrotate.conf", daemon.directory / "logrotate.state"
    owner, group = daemon.directory.owner(), daemon.directory.group()
    entry.write_text(ENTRY.format(path=daemon.audit_path, owner=owner, group=group))
    entry.chmod(0o600)

    def once() -> None:
        if LOGROTATE is not None:
            subprocess.run([LOGROTATE, "--force", "--state", state, entry], check=True, capture_output=True, timeout=60)
            return
        moved = daemon.audit_path.rename(next(names))
        subprocess.run(["gzip", moved], check=True, timeout=60)
        eventually(daemon.audit_path.exists, "the daemon makes a new file")

    return Repeating(once, pause_secs=0.5)


@pytest.fixture
def secrets_rotating(daemon: Daemon) -> Iterator[None]:
    with Repeating(lambda: daemon.api.rotate("x")):
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("secrets_rotating")
def test_each_backup_that_is_taken_under_rotations_is_whole_and_of_one_time(
    daemon: Daemon, config: Config, rotate_log: Repeating, tmp_path: Path, figure: Figure
) -> None:
    master = masterkey.decode(daemon.master_key_path.read_bytes(), daemon.master_key_path, None)
    generations, lines = [], []
    with rotate_log, Load(daemon, "x", clients=2) as load:
        for number in range(BACKUPS):
            rotated = rotate_log.times
            made = to_file(config, tmp_path / f"{number}.age", Recipients((IDENTITY.to_public(),)))
            folder = tmp_path / str(number)
            folder.mkdir()
            proof = prove(unpack(made.path or Path(), Identities((IDENTITY,)), folder), [master])
            shutil.rmtree(folder)
            generations.append(made.manifest.checkpoint.generation)
            lines.append(proof.lines)
            assert made.manifest.checkpoint.first == 1
            assert not made.gap_before
            load.wait_released(5)
            eventually(lambda before=rotated: rotate_log.times > before, "the log is rotated meanwhile")
    figure("backups", BACKUPS)
    figure("rotations of the log", rotate_log.times)
    assert generations == sorted(set(generations))
    assert lines == sorted(set(lines))


@pytest.mark.usefixtures("secrets_rotating")
@pytest.mark.slow
def test_prunings_beside_a_running_log_rotation_lose_no_line_that_is_to_stay(
    daemon: Daemon, config: Config, rotate_log: Repeating, figure: Figure
) -> None:
    prunings = 0
    kept_from = 1
    with rotate_log, Load(daemon, "x", clients=2) as load:
        while prunings < 5:
            before = rfc3339(SystemClock().now_ms())
            load.wait_released(10)
            try:
                done = retention.prune(config, before, dry_run=False)
            except (PruneError, FileNotFoundError):
                continue  # just being compressed
            if done.record is not None:
                prunings += 1
                kept_from = done.plan.kept_first
    figure("rotations of the log", rotate_log.times)
    verify = [COMMANDS / "secretsctl", "audit", "verify", "--config", daemon.config_path]
    done_so_far = subprocess.run(verify, check=False, capture_output=True, text=True, timeout=60)
    assert done_so_far.returncode == 0, done_so_far.stderr
    page = daemon.api.get(f"/audit?after={kept_from - 1}&limit=1").body
    assert b'"sequence":"%020d"' % kept_from in page
    daemon.api.get("/audit?after=0").refused(410, "history-gone")
    assert daemon.audit_path.with_name("audit.pruned.json").exists()

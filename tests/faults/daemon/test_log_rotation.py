"""The log moved, compressed, removed or replaced under load: no acknowledged read without its line, no broken chain."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.daemon.load import Load
from tests.support.daemon import COMMANDS, Daemon
from tests.support.log import files_of, verify_log
from tests.support.repeating import Repeating
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

READERS = 8
TIMES = 40
LOGROTATE = shutil.which("logrotate", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
ENTRY = """{path} {{
    daily
    missingok
    rotate 365
    compress
    notifempty
    create 0640 {owner} {group}
    sharedscripts
    postrotate
        # Signal daemon to reopen log file (if needed)
    endscript
}}
"""
Once = Callable[[], None]
Figure = Callable[[str, object], None]


@pytest.fixture
def daemon(new_daemon: Callable[..., Daemon]) -> Daemon:
    daemon = new_daemon().start()
    daemon.api.create("x", type="generic")
    return daemon


def page_through(daemon: Daemon) -> None:
    """Page through GET /audit from the first line to the last: each once, in order."""
    after = 0
    while True:
        answer = daemon.api.get(f"/audit?after={after}&limit=10000")
        assert answer.status == 200, answer.body[:300]
        lines = answer.body.splitlines()
        assert [int(json.loads(line)["sequence"]) for line in lines] == list(range(after + 1, after + 1 + len(lines)))
        after += len(lines)
        if len(lines) < 10000:
            return


def under_load(daemon: Daemon, once: Once, figure: Figure) -> Load:
    """Do it so many times while eight clients read and the secret rotates; return what they were answered."""
    with Repeating(lambda: daemon.api.rotate("x")), Load(daemon, "x", clients=READERS) as load:
        for _ in range(TIMES):
            once()
            load.wait_released(10)
    figure("released", len(load.released))
    assert load.odd == []
    assert set(load.statuses) == {200}
    return load


def nothing_lost(daemon: Daemon, load: Load, *elsewhere: Path) -> None:
    """Every answered read has its line, the chain holds over all files, and GET /audit gives all of it."""
    files = [*files_of(daemon.audit_path), *elsewhere]
    events = verify_log(files, daemon.keyring())
    assert set(load.released) <= {event.data.get("request_id") for event in events}
    versions = [event.data["version"] for event in events if event.type == "secret.rotated"]
    assert versions == list(range(2, 2 + len(versions)))
    if not elsewhere:
        given: list[bytes] = []
        while page := daemon.api.get(f"/audit?after={len(given)}&limit=10000").body.splitlines():
            given += page
            if len(given) >= len(events):
                break
        assert given[: len(events)] == [event.raw for event in events]
        command = [str(COMMANDS / "secretsctl"), "audit", "verify", *map(str, files)]
        command += ["--pubkey", str(daemon.public_key_path)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    daemon.restart()
    assert daemon.api.get("/healthz").status == 200


@pytest.fixture
def logrotate(daemon: Daemon) -> Once:
    """Force one rotation by the real logrotate, with the entry that the old installation has."""
    if LOGROTATE is None:
        pytest.skip("logrotate is not installed")
    entry, state = daemon.directory / "logrotate.conf", daemon.directory / "logrotate.state"
    owner, group = daemon.directory.owner(), daemon.directory.group()
    entry.write_text(ENTRY.format(path=daemon.audit_path, owner=owner, group=group))
    entry.chmod(0o600)

    def once() -> None:
        subprocess.run([LOGROTATE, "--force", "--state", state, entry], check=True, capture_output=True, timeout=60)

    return once


@pytest.mark.timeout(300)
def test_logrotate_with_the_old_entry_loses_nothing(daemon: Daemon, logrotate: Once, figure: Figure) -> None:
    with Repeating(lambda: page_through(daemon), pause_secs=0) as paging:
        load = under_load(daemon, logrotate, figure)
        paging.wait(1)
    assert len(list(daemon.audit_path.parent.glob("*.gz"))) >= TIMES
    assert daemon.audit_path.stat().st_mode & 0o777 == 0o640
    nothing_lost(daemon, load)


def numbered(daemon: Daemon) -> Iterator[Path]:
    return (daemon.audit_path.with_name(f"audit.jsonl.{number}") for number in itertools.count(1))


def test_a_log_that_is_moved_away_loses_nothing(daemon: Daemon, figure: Figure) -> None:
    names = numbered(daemon)

    def once() -> None:
        daemon.audit_path.rename(next(names))
        eventually(daemon.audit_path.exists, "the daemon makes a new file")

    nothing_lost(daemon, under_load(daemon, once, figure))


def test_a_log_that_is_moved_away_before_sighup_loses_nothing(daemon: Daemon, figure: Figure) -> None:
    names = numbered(daemon)

    def once() -> None:
        daemon.audit_path.rename(next(names))
        daemon.signal(signal.SIGHUP)
        eventually(daemon.audit_path.exists, "the daemon makes a new file")

    nothing_lost(daemon, under_load(daemon, once, figure))


def test_a_log_that_is_compressed_at_once_loses_nothing(daemon: Daemon, figure: Figure) -> None:
    names = numbered(daemon)

    def once() -> None:
        moved = next(names)
        daemon.audit_path.rename(moved)
        subprocess.run(["gzip", moved], check=True, timeout=60)
        eventually(daemon.audit_path.exists, "the daemon makes a new file")

    nothing_lost(daemon, under_load(daemon, once, figure))


@pytest.mark.slow
def test_a_log_that_is_compressed_in_its_place_loses_nothing(daemon: Daemon, figure: Figure) -> None:
    names = numbered(daemon)
    packed = daemon.audit_path.with_name("audit.jsonl.gz")

    def once() -> None:
        # 2 is a warning: the file changed meanwhile.
        done = subprocess.run(["gzip", daemon.audit_path], check=False, capture_output=True, timeout=60)
        assert done.returncode in (0, 2), done.stderr
        packed.rename(f"{next(names)}.gz")
        eventually(daemon.audit_path.exists, "the daemon makes a new file")

    nothing_lost(daemon, under_load(daemon, once, figure))


def kept(daemon: Daemon) -> Iterator[Path]:
    """Second names, elsewhere, under which a file stays readable that the log's folder has lost."""
    folder = daemon.directory / "kept"
    folder.mkdir()
    for number in itertools.count(1):
        os.link(daemon.audit_path, folder / str(number))
        yield folder / str(number)


def test_a_log_that_is_removed_goes_on_in_a_new_file(daemon: Daemon, figure: Figure) -> None:
    links = kept(daemon)

    def once() -> None:
        next(links)
        daemon.audit_path.unlink()
        eventually(daemon.audit_path.exists, "the daemon makes a new file")

    load = under_load(daemon, once, figure)
    nothing_lost(daemon, load, *(daemon.directory / "kept").iterdir())


def test_a_log_that_is_replaced_by_an_empty_file_goes_on_in_that(daemon: Daemon, figure: Figure) -> None:
    links = kept(daemon)
    empty = daemon.audit_path.with_name("empty")

    def once() -> None:
        next(links)
        empty.touch(mode=0o640)
        empty.replace(daemon.audit_path)
        eventually(lambda: daemon.audit_path.stat().st_size > 0, "the daemon writes into it")

    load = under_load(daemon, once, figure)
    assert daemon.audit_path.stat().st_mode & 0o777 == 0o640
    nothing_lost(daemon, load, *(daemon.directory / "kept").iterdir())


def test_a_log_whose_folder_is_gone_is_no_reason_to_release_anything(daemon: Daemon) -> None:
    folder, aside = daemon.audit_path.parent, daemon.directory / "aside"
    value = daemon.api.value("x")
    folder.rename(aside)
    daemon.api.get("/secret/x").refused(503, "audit-unavailable")
    aside.rename(folder)
    assert daemon.api.value("x") == value
    daemon.verified_log()

"""Files that are not there, or not whole: an unmounted volume, a torn tail, a log that lost its oldest files."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.log import files_of, verify_log

BAD = 78
New = Callable[..., Daemon]
TORN = b'{"data":{"client":"admin","half of a li'


@pytest.fixture
def stopped(new_daemon: New) -> Daemon:
    daemon = new_daemon().start()
    daemon.api.create("x", "v")
    daemon.terminate()
    return daemon


@pytest.mark.parametrize(
    ("volume", "missing"), [("secrets", ["master.key", "vault.json"]), ("audit", ["audit.sign.key", "audit.jsonl"])]
)
def test_an_unmounted_volume_is_a_refusal_that_names_what_is_missing(
    stopped: Daemon, volume: str, missing: list[str]
) -> None:
    mountpoint, content = stopped.directory / volume, stopped.directory / "unmounted"
    mountpoint.rename(content)
    mountpoint.mkdir(mode=0o700)
    said = stopped.refuses(BAD)
    for name in missing:
        assert str(mountpoint / name) in said
    assert "volume" in said
    assert {path.name for path in mountpoint.iterdir()} <= {"vault.json.lock"}

    shutil.rmtree(mountpoint)
    content.rename(mountpoint)
    stopped.start()
    assert stopped.api.value("x") == "v"


def started(daemon: Daemon) -> str | None:
    """The note of the newest start."""
    note: str | None = daemon.events("daemon.started")[-1]["data"]["note"]
    return note


@pytest.mark.parametrize(
    "tail",
    [TORN, b"\x00" * 4096, b"{", b'\xff\xfe"', TORN + b"\x00" * 100],
    ids=["half", "zeros", "brace", "bytes", "both"],
)
def test_a_torn_tail_is_set_aside_and_reported(stopped: Daemon, tail: bytes) -> None:
    whole = stopped.audit_path.read_bytes()
    with stopped.audit_path.open("ab") as log:
        log.write(tail)
    stopped.start()
    assert stopped.api.value("x") == "v"
    aside = next(stopped.audit_path.parent.glob("audit.jsonl.torn-*"))
    assert aside.read_bytes() == tail
    assert aside.name in str(started(stopped))
    assert stopped.audit_path.read_bytes().startswith(whole)
    stopped.verified_log()


def test_a_torn_tail_is_reported_once(stopped: Daemon) -> None:
    with stopped.audit_path.open("ab") as log:
        log.write(TORN)
    stopped.start().restart()
    assert started(stopped) is None


def test_a_kill_after_a_torn_tail_leaves_both_reported(stopped: Daemon) -> None:
    for _ in range(3):
        with stopped.audit_path.open("ab") as log:
            log.write(TORN)
        stopped.start()
        assert "torn" in str(started(stopped))
        stopped.sigkill()
    assert len(list(stopped.audit_path.parent.glob("audit.jsonl.torn-*"))) == 3


def test_garbage_before_a_torn_tail_is_a_refusal_and_harms_nothing(stopped: Daemon) -> None:
    whole = stopped.audit_path.read_bytes()
    with stopped.audit_path.open("ab") as log:
        log.write(b"this is no line of the log\n" + TORN)
    said = stopped.refuses(BAD)
    assert str(stopped.audit_path) in said
    assert stopped.audit_path.read_bytes().startswith(whole)


def test_a_log_whose_oldest_file_was_rotated_away_is_no_rollback(new_daemon: New) -> None:
    daemon = new_daemon().start()
    daemon.api.create("x", "v")  # the vault's last word on the log, which `rotate 7` removes in a week
    for _ in range(3):
        daemon.api.secret("x")
    for number in (2, 1):
        daemon.audit_path.rename(daemon.audit_path.with_name(f"audit.jsonl.{number}"))
        for _ in range(3):
            daemon.api.secret("x")
    daemon.terminate()
    daemon.audit_path.with_name("audit.jsonl.2").unlink()
    daemon.start()
    assert daemon.api.value("x") == "v"
    assert "no longer there" in str(started(daemon))
    daemon.api.update("x", "w")
    daemon.restart()
    assert daemon.api.value("x") == "w"


def test_a_file_missing_from_the_middle_of_the_log_is_a_refusal(new_daemon: New) -> None:
    daemon = new_daemon().start()
    daemon.api.create("x", "v")
    for number in (3, 2, 1):
        daemon.audit_path.rename(daemon.audit_path.with_name(f"audit.jsonl.{number}"))
        for _ in range(3):
            daemon.api.secret("x")
    daemon.terminate()
    lost = daemon.audit_path.with_name("audit.jsonl.2")
    content = lost.read_bytes()
    lost.unlink()
    assert "chain" in daemon.refuses(BAD)
    lost.write_bytes(content)
    daemon.start()
    assert daemon.api.value("x") == "v"


@pytest.mark.parametrize("done", [0.0, 0.01, 0.5, 1.0])
def test_a_power_cut_while_the_log_is_compressed_is_no_obstacle(stopped: Daemon, done: float) -> None:
    stopped.start()
    for _ in range(200):
        stopped.api.get("/secrets")
    stopped.terminate()
    rotated = stopped.audit_path.with_name("audit.jsonl.1")
    stopped.audit_path.rename(rotated)
    stopped.audit_path.touch(mode=0o640)
    packed = gzip.compress(rotated.read_bytes())
    stopped.audit_path.with_name("audit.jsonl.1.gz").write_bytes(packed[: int(len(packed) * done)])
    stopped.start()
    assert stopped.api.value("x") == "v"
    events = verify_log([rotated, stopped.audit_path], stopped.keyring())
    assert len(events) > 200
    given = stopped.api.get("/audit?after=0&limit=10000").body.splitlines()
    assert given[: len(events)] == [event.raw for event in events]


def test_a_log_in_rotated_files_is_taken_up_where_it_ended(stopped: Daemon) -> None:
    stopped.audit_path.rename(stopped.audit_path.with_name("audit.jsonl.1"))
    os.system(f"gzip {stopped.audit_path}.1")
    stopped.start()
    assert stopped.api.value("x") == "v"
    verify_log(files_of(stopped.audit_path), stopped.keyring())


def test_an_interrupted_commit_leaves_no_trace_but_its_temporary_file(stopped: Daemon) -> None:
    before = json.loads(stopped.vault_path.read_bytes())["generation"]
    half = Path(f"{stopped.vault_path}.new")
    half.write_bytes(stopped.vault_path.read_bytes()[:100])
    stopped.start()
    assert stopped.api.value("x") == "v"
    assert stopped.api.get("/secrets").position[1] == before
    stopped.api.update("x", "w")
    assert not half.exists()

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from secretsd_bus import ZERO_HASH, Event, KeyRing, SigningKey, line_hash

from secretsd.audit import recovery
from secretsd.audit.recovery import Reach
from secretsd.errors import VaultError
from tests.unit.audit.support import KEY, LOG_ID, chain, joined, lines, write
from tests.unit.support.disk import PowerCut, spy

LOG = lines(10)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def reach(path: Path, mark: int = 4, **changes: Any) -> Reach:
    """The log's reach for a vault that knows it up to `mark`."""
    head = LOG[mark - 1].raw if mark else None
    known: dict[str, Any] = {
        "log_id": LOG_ID,
        "sequence": mark,
        "head": ZERO_HASH if head is None else line_hash(head),
        "key": KEY.public,
    }
    return recovery.reach(path, **known | changes)


def refused(path: Path, match: str, mark: int = 4, **changes: Any) -> None:
    with pytest.raises(VaultError, match=match):
        reach(path, mark, **changes)


# The torn tail


@pytest.mark.parametrize("cut", [1, 100, len(LOG[3].raw)])
def test_a_torn_tail_is_set_aside_and_the_rest_stays(path: Path, cut: int) -> None:
    whole = joined(LOG[:3])
    path.write_bytes(whole + LOG[3].raw[:cut])
    torn = recovery.set_aside_torn_tail(path)
    assert torn is not None
    assert torn.read_bytes() == LOG[3].raw[:cut]
    assert torn.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes() == whole
    assert recovery.set_aside_torn_tail(path) is None


def test_a_torn_tail_is_found_however_long_it_is(path: Path) -> None:
    path.write_bytes(joined(LOG[:1]) + b"x" * 300_000)
    torn = recovery.set_aside_torn_tail(path)
    assert torn is not None
    assert torn.stat().st_size == 300_000
    assert path.read_bytes() == joined(LOG[:1])


def test_a_file_that_is_torn_from_its_first_line_on_becomes_empty(path: Path) -> None:
    path.write_bytes(b"torn")
    assert recovery.set_aside_torn_tail(path) is not None
    assert path.read_bytes() == b""


def test_a_torn_tail_that_was_rotated_before_the_restart_is_set_aside_too(path: Path) -> None:
    rotated = path.with_name("audit.jsonl.1")
    rotated.write_bytes(joined(LOG[:3]) + b"torn")
    write(path, [])
    assert recovery.set_aside_torn_tail(path) is not None
    assert rotated.read_bytes() == joined(LOG[:3])
    assert reach(path, 2).sequence == 3


@pytest.mark.parametrize("content", [b"", joined(LOG)])
def test_a_whole_file_is_not_touched(path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(content)
    cut = spy(monkeypatch, "ftruncate")
    assert recovery.set_aside_torn_tail(path) is None
    assert cut.count == 0


def test_a_missing_file_has_no_tail(path: Path) -> None:
    assert recovery.set_aside_torn_tail(path) is None


def test_the_tail_is_kept_elsewhere_before_it_is_cut_off(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(joined(LOG[:2]) + b"torn")
    spy(monkeypatch, "ftruncate").cut_power()
    with pytest.raises(PowerCut):
        recovery.set_aside_torn_tail(path)
    torn = recovery.set_aside_torn_tail(path)
    assert torn is not None
    assert torn.read_bytes() == b"torn"
    assert path.read_bytes() == joined(LOG[:2])


def test_a_cut_that_is_not_durable_is_no_success(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(joined(LOG[:2]) + b"torn")
    # The tail's own file and its folder are synced before.
    spy(monkeypatch, "fsync").fail(after=2)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        recovery.set_aside_torn_tail(path)


def test_where_there_is_no_room_for_the_tail_it_stays_where_it_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = joined(LOG[:2]) + b"torn"
    path.write_bytes(content)
    spy(monkeypatch, "write").fail(errno.ENOSPC)
    with pytest.raises(OSError, match="No space left"):
        recovery.set_aside_torn_tail(path)
    assert path.read_bytes() == content


# How far it reaches


def test_a_new_vault_goes_with_a_log_without_a_line(path: Path) -> None:
    assert reach(path, 0) == Reach(0, ZERO_HASH, None, ())
    write(path, [])
    assert reach(path, 0) == Reach(0, ZERO_HASH, None, ())


def test_a_log_may_reach_further_than_the_vault_knows(path: Path) -> None:
    write(path, LOG)
    for mark in range(11):
        found = reach(path, mark)
        assert (found.sequence, found.head, found.last_time) == (10, line_hash(LOG[-1].raw), LOG[-1].time)


@pytest.mark.parametrize("end", [0, 1, 3])
def test_a_log_older_than_the_vault_says_by_how_much(path: Path, end: int) -> None:
    write(path, LOG[:end])
    refused(path, rf"older than the vault: it ends at line {end} and the vault knows 4, {4 - end} more")


def test_a_missing_log_is_older_than_a_vault_that_knows_one(path: Path) -> None:
    refused(path, "ends at line 0 and the vault knows 4")


def test_the_log_of_another_vault_is_refused(path: Path) -> None:
    write(path, lines(10, chain(log_id="other")))
    refused(path, "log of another vault")


def test_the_log_of_another_key_is_refused(path: Path) -> None:
    write(path, lines(10, chain(SigningKey.generate())))
    refused(path, "fails verification")


def test_a_log_that_went_another_way_before_the_mark_is_refused(path: Path) -> None:
    write(path, lines(10, size=1))
    refused(path, "line 4 .* is not the one that the vault knows")


def test_an_edited_last_line_is_refused(path: Path) -> None:
    write(path, [*LOG[:9], LOG[9].raw.replace(b'"subject":"name"', b'"subject":"nams"')])
    refused(path, "bad-signature")


@pytest.mark.parametrize("missing", [4, 6, 8])
def test_a_line_missing_after_the_mark_is_refused(path: Path, missing: int) -> None:
    write(path, [*LOG[:missing], *LOG[missing + 1 :]])
    refused(path, "chain .* is broken at line")


def test_an_edited_line_after_the_mark_is_refused(path: Path) -> None:
    write(path, [*LOG[:6], LOG[6].raw.replace(b'"filling":""', b'"filling":"x"'), *LOG[7:]])
    refused(path, "chain .* is broken at line 8")


def test_a_missing_rotated_file_after_the_mark_is_refused(path: Path) -> None:
    write(path.with_name("audit.jsonl.2"), LOG[:5])
    write(path, LOG[7:])
    refused(path, "broken at line 8 .6 was due.")


def test_a_newest_file_that_goes_away_while_the_log_is_read_is_missed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(path.with_name("audit.jsonl.1"), LOG[:6])
    write(path, LOG[6:])
    real = recovery.verify_line

    def gone_meanwhile(raw: bytes, ring: KeyRing) -> Event:
        path.unlink()
        return real(raw, ring)

    monkeypatch.setattr(recovery, "verify_line", gone_meanwhile)
    refused(path, "ends at line 6 and 10 was seen")


@pytest.mark.parametrize(
    "garbage", [b"garbage", b"", b"{}", b"\xff\xfe", b'{"half":', b"null", b"x" * 200_000], ids=len
)
def test_a_whole_last_line_that_is_none_of_the_log_is_refused(path: Path, garbage: bytes) -> None:
    write(path, [*LOG, garbage])
    refused(path, "ends with a line that is none of the log")


def test_garbage_at_the_end_of_the_newest_rotated_file_is_refused_too(path: Path) -> None:
    write(path, [])
    write(path.with_name("audit.jsonl.1"), [*LOG, b"garbage"])
    refused(path, r"audit\.jsonl\.1 ends with a line that is none of the log")


@pytest.mark.parametrize(
    ("active", "files"),
    [
        (LOG[6:], {"audit.jsonl.1": LOG[:6]}),
        (LOG[6:], {"audit.jsonl.1.gz": LOG[:6]}),
        ([], {"audit.jsonl.1": LOG}),
        (None, {"audit.jsonl.1": LOG}),
        (None, {"audit.jsonl.1.gz": LOG}),
        ([], {"audit.jsonl.1.gz": LOG[6:], "audit.jsonl.2.gz": LOG[:6]}),
        ([], {"audit.jsonl-20261123.gz": LOG[3:], "audit.jsonl-20261122": LOG[:3]}),
        (LOG[4:], {"audit.jsonl.1": LOG[:7]}),
        (LOG[4:6], {"audit.jsonl.1": LOG}),
    ],
    ids=["one", "packed", "nothing-new", "missing", "packed-at-once", "all-packed", "old-plain", "repeated", "torn"],
)
def test_the_newest_line_is_found_wherever_rotation_left_it(
    path: Path, active: list[Event] | None, files: dict[str, list[Event]]
) -> None:
    if active is not None:
        write(path, active)
    for name, part in files.items():
        write(path.with_name(name), part)
    for mark in (0, 2, 5, 8, 10):
        assert reach(path, mark).sequence == 10


def test_a_damaged_packed_file_that_is_needed_is_named(path: Path) -> None:
    file = write(path.with_name("audit.jsonl.1.gz"), LOG)
    file.write_bytes(file.read_bytes()[:-20])
    refused(path, r"can't read .*audit\.jsonl\.1\.gz")


# What it tells


def test_the_lines_after_the_mark_that_name_a_generation_are_told_and_verified(path: Path) -> None:
    log = chain()
    before = lines(2, log)
    time = LOG[0].time
    told = [
        log.append("secret.rotated", "a", {"generation": 3, "epoch": "e"}, time),
        log.append("secret.read", "a", {}, time),
        log.append("daemon.started", None, {"generation": 3, "epoch": "e"}, time),
        log.append("policy.reloaded", None, {"generation": 4, "epoch": "e"}, time),
        log.append("audit.gap", None, {}, time),
    ]
    write(path, [*before, *told])
    found = reach(path, 2, head=line_hash(before[1].raw))
    assert [event.type for event in found.since_mark] == ["secret.rotated", "daemon.started", "policy.reloaded"]
    assert found.since_mark[0] == told[0]


def test_a_rightly_chained_line_of_a_stranger_that_names_a_generation_is_refused(path: Path) -> None:
    log = chain()
    before = lines(2, log)
    stranger = SigningKey.generate()
    forged_log = chain(stranger)
    forged_log.sequence, forged_log.head = log.sequence, log.head
    forged = forged_log.append("secret.rotated", "a", {"generation": 3, "epoch": "e"}, LOG[0].time)
    log.sequence, log.head = forged_log.sequence, forged_log.head
    write(path, [*before, forged, *lines(1, log)])
    refused(path, "line 3 .* fails verification .unknown-key.", 2, head=line_hash(before[1].raw))


# Where it ends, whatever the vault says


def test_the_end_of_a_log_tells_its_id_its_last_line_and_its_epochs(path: Path) -> None:
    log = chain()
    time = LOG[0].time
    part = [
        log.append("daemon.started", None, {"epoch": "first", "generation": 0}, time),
        log.append("secret.read", None, {}, time),
        log.append("daemon.started", None, {"epoch": "second", "generation": 9}, time),
        log.append("daemon.stopped", None, {}, time),
    ]
    write(path.with_name("audit.jsonl.1"), part[:2])
    write(path, part[2:])
    end = recovery.end_of_log(path, KEY.public)
    assert end == recovery.End(LOG_ID, 4, line_hash(part[-1].raw), ("first", "second"))


def test_a_log_without_a_line_has_no_end(path: Path) -> None:
    assert recovery.end_of_log(path, KEY.public) is None


def test_the_end_of_a_strangers_log_is_refused(path: Path) -> None:
    write(path, LOG)
    with pytest.raises(VaultError, match="unknown-key"):
        recovery.end_of_log(path, SigningKey.generate().public)


def test_a_file_that_is_moved_while_it_is_read_is_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "audit.jsonl"
    events = lines(3)
    write(path, events)
    listings = iter([[tmp_path / "audit.jsonl.1"]])
    real = recovery.find_files
    monkeypatch.setattr(recovery, "find_files", lambda asked: next(listings, None) or real(asked))
    assert recovery.newest_line(path) == path.read_bytes().splitlines()[-1]

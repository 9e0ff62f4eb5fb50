from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from secretsd_bus import VerifyKey, line_hash, rfc3339

from secretsd.audit.reader import LogReader, last_line, peek
from secretsd.audit.verifier import ChainBroken, verify_files
from tests.unit.audit.support import chain, joined, lines, write
from tests.unit.support.clock import START_MS
from tests.vectors import generate

VECTORS: dict[str, Any] = {
    name: json.loads((generate.FOLDER / "log" / f"{name}.json").read_text()) for name in ("whole", "broken")
}
TRUSTED = VerifyKey.from_jwk(json.loads((generate.FOLDER / "events" / "keys.json").read_text())["trusted"])

LOG = lines(400, size=700)
"""Nearly half a MiB: enough to be searched by halves."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def numbers(reader: LogReader, after: int, since: str = "") -> list[int]:
    begin = reader.beginning(after, since) if since else after
    return [] if begin is None else [place.number for place, _ in reader.lines(begin)]


def laid_out(folder: Path, vector: dict[str, Any]) -> list[Path]:
    paths = []
    for name, text in vector["files"].items():
        data = text.encode()
        paths.append(folder / name)
        paths[-1].write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return paths


def split(path: Path) -> None:
    """The log in three files: packed, plain, active."""
    write(path.with_name("audit.jsonl.2.gz"), LOG[:100])
    write(path.with_name("audit.jsonl.1"), LOG[100:250])
    write(path, LOG[250:])


@given(after=st.integers(0, 401), begin=st.none() | st.integers(-2, 402))
def test_exactly_the_lines_after_a_place_and_a_time_are_found(
    tmp_path_factory: pytest.TempPathFactory, after: int, begin: int | None
) -> None:
    path = tmp_path_factory.getbasetemp() / "three-files" / "audit.jsonl"
    if not path.exists():
        path.parent.mkdir()
        split(path)
    since = "" if begin is None else rfc3339(START_MS + begin * 1000)
    expected = [number for number in range(1, 401) if number > after and (begin is None or number >= begin)]
    assert numbers(LogReader(path), after, since) == expected


def test_from_a_time_on_no_line_is_left_out_though_the_clock_was_set_back(path: Path) -> None:
    log = chain()
    before = lines(400, log, size=700)
    day_ms = 86_400_000
    slow = [
        log.append("secret.read", "name", {"filling": "x" * 700}, rfc3339(START_MS - day_ms + number))
        for number in range(400)
    ]
    after = [log.append("secret.read", "name", {}, rfc3339(START_MS + day_ms + number)) for number in range(3)]
    write(path.with_name("audit.jsonl.1"), [*before, *slow[:100]])
    write(path, [*slow[100:], *after])
    assert numbers(LogReader(path), 0, rfc3339(START_MS + 390_000)) == list(range(390, 804))
    for last in (389, 390, 400, 401, 700, 801, 803):
        assert numbers(LogReader(path), last, rfc3339(START_MS + 390_000)) == list(range(max(last + 1, 390), 804))
    assert numbers(LogReader(path), 0, rfc3339(START_MS + day_ms + 1)) == [802, 803]


def test_a_line_comes_as_its_exact_bytes(path: Path) -> None:
    split(path)
    assert [line for _, line in LogReader(path).lines(0)] == [event.raw for event in LOG]


def test_plain_files_are_searched_by_halves(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, LOG)
    asked: list[bytes] = []
    monkeypatch.setattr("secretsd.audit.reader.peek", lambda line: asked.append(line) or peek(line))  # type: ignore[func-returns-value]  # list.append gives None
    assert numbers(LogReader(path), 390) == list(range(391, 401))
    assert len(asked) < 150


def test_where_a_page_goes_on_at_a_young_line_none_before_it_is_looked_at(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(path, LOG)
    asked: list[bytes] = []
    monkeypatch.setattr("secretsd.audit.reader.peek", lambda line: asked.append(line) or peek(line))  # type: ignore[func-returns-value]  # list.append gives None
    assert numbers(LogReader(path), 390, rfc3339(START_MS + 390_000)) == list(range(391, 401))
    assert len(asked) < 300


def test_a_batch_that_stands_in_two_files_is_read_once(path: Path) -> None:
    write(path.with_name("audit.jsonl.1"), LOG[:10])
    write(path, LOG[6:20])
    for after in range(21):
        assert numbers(LogReader(path), after) == list(range(after + 1, 21))


def test_a_batch_that_stands_in_one_file_twice_is_read_once(path: Path) -> None:
    write(path, [*LOG[:4], *LOG[2:4], *LOG[4:6]])
    for after in range(7):
        assert numbers(LogReader(path), after) == list(range(after + 1, 7))


def test_a_torn_last_line_is_not_read(path: Path) -> None:
    path.write_bytes(joined(LOG[:3]) + LOG[3].raw)
    assert numbers(LogReader(path), 0) == [1, 2, 3]


def test_the_first_sequence_still_there_is_that_of_the_oldest_file(path: Path) -> None:
    reader = LogReader(path)
    assert reader.first_sequence() is None
    write(path, LOG[10:20])
    assert reader.first_sequence() == 11
    write(path.with_name("audit.jsonl.1.gz"), LOG[5:10])
    assert reader.first_sequence() == 6


def test_a_new_file_under_the_inode_of_a_removed_one_is_seen_as_it_is(path: Path) -> None:
    old = write(path.with_name("audit.jsonl.1"), LOG[:100])
    write(path, LOG[100:150])
    reader = LogReader(path)
    assert numbers(reader, 120) == list(range(121, 151))
    # As logrotate with one old file would do it, the file system giving the freed inode to the new one.
    content = path.read_bytes()
    path.unlink()
    old.rename(path)
    with path.open("wb") as reused:
        reused.write(joined(LOG[150:200]))
    old.write_bytes(content)
    assert numbers(reader, 140) == list(range(141, 201))


def test_a_file_that_is_rotated_while_it_is_read_is_read_to_its_end(path: Path) -> None:
    write(path, LOG)
    reading = LogReader(path).lines(0)
    first = next(reading)[0].number
    path.rename(path.with_name("audit.jsonl.1"))
    assert [first, *(place.number for place, _ in reading)] == list(range(1, 401))


@pytest.mark.parametrize("pack", [False, True])
def test_a_rotation_between_listing_and_opening_leaves_no_line_out(
    path: Path, monkeypatch: pytest.MonkeyPatch, pack: bool
) -> None:
    write(path.with_name("audit.jsonl.1"), LOG[:100])
    write(path, LOG[100:200])
    reader = LogReader(path)
    listed = reader._files_from

    def rotated(after: int) -> list[Path]:
        files = listed(after)
        if not path.with_name("audit.jsonl.2").exists():
            path.with_name("audit.jsonl.1").rename(path.with_name("audit.jsonl.2"))
            if pack:
                write(path.with_name("audit.jsonl.1.gz"), LOG[100:200])
                path.unlink()
            else:
                path.rename(path.with_name("audit.jsonl.1"))
                write(path, LOG[200:210])
        return files

    monkeypatch.setattr(reader, "_files_from", rotated)
    assert numbers(reader, 50) == list(range(51, 201 if pack else 211))


def test_a_true_gap_is_passed_over(path: Path) -> None:
    write(path, [*LOG[:5], *LOG[9:12]])
    assert numbers(LogReader(path), 0) == [1, 2, 3, 4, 5, 10, 11, 12]
    assert numbers(LogReader(path), 7) == [10, 11, 12]


def test_a_batch_whose_repetition_was_cut_short_is_read_from_the_file_before(path: Path) -> None:
    for name in ("audit.jsonl.1", "audit.jsonl.1.gz"):
        write(path.with_name(name), LOG[:10])
        write(path, [*LOG[6:8], *LOG[10:20]])
        for after in range(21):
            assert numbers(LogReader(path), after) == list(range(after + 1, 21))
        path.with_name(name).unlink()


def test_of_two_files_that_begin_alike_the_active_one_is_read_last(path: Path) -> None:
    write(path.with_name("audit.jsonl.1"), LOG[:3])
    write(path, [*LOG[:2], *LOG[3:6]])
    assert numbers(LogReader(path), 0) == list(range(1, 7))


def test_files_that_do_not_belong_to_the_log_are_left_alone(path: Path) -> None:
    write(path, LOG[:5])
    write(path.with_name("audit.jsonl.torn-17"), LOG[5:9])
    write(path.with_name("audit.jsonl.bak"), LOG[5:9])
    assert numbers(LogReader(path), 0) == [1, 2, 3, 4, 5]


def test_a_damaged_packed_file_does_not_hide_the_others(path: Path) -> None:
    path.with_name("audit.jsonl.2.gz").write_bytes(b"no gzip")
    write(path, LOG[:5])
    assert numbers(LogReader(path), 0) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"x",
        b"\xff",
        b"{}",
        b'{"sequence":1}',
        b"[" * 100_000,
        LOG[0].raw[:-1],
        LOG[0].raw.replace(b'"00000', b'"x0000'),
        LOG[0].raw.replace(b'"00000', b'"000000'),
        LOG[0].raw.replace(b'"000000', '"²00000'.encode()),
        LOG[0].raw.replace(b'"00000', b'"' + b"9" * 5000),
    ],
    ids=range(11),
)
def test_what_is_no_line_of_the_log_has_no_place(line: bytes) -> None:
    assert peek(line) is None


@pytest.mark.parametrize("size", [0, 1, 70_000, 400_000])
@pytest.mark.parametrize("name", ["audit.jsonl", "audit.jsonl.1.gz"])
def test_the_last_whole_line_is_found_however_long_it_is(path: Path, name: str, size: int) -> None:
    log = lines(3, chain(), size=size)
    file = write(path.with_name(name), log)
    assert last_line(file) == log[-1].raw
    torn = joined(log) + b"torn" * 30_000
    file.write_bytes(gzip.compress(torn) if name.endswith("gz") else torn)
    assert last_line(file) == log[-1].raw


@pytest.mark.parametrize("content", [b"", b"torn", b"x" * 200_000])
def test_a_file_without_a_whole_line_has_no_last_one(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert last_line(path) is None


@pytest.mark.parametrize("vector", VECTORS["whole"], ids=lambda vector: vector["name"])
def test_a_whole_log_is_read_in_order_and_verifies(tmp_path: Path, vector: dict[str, Any]) -> None:
    paths = laid_out(tmp_path, vector)
    found = list(LogReader(tmp_path / "audit.jsonl").lines(0))
    assert [place.number for place, _ in found] == vector["sequences"]
    assert (line_hash(found[-1][1]) if found else None) == vector["head"]
    report = verify_files(paths, TRUSTED)
    assert (report.lines, report.head) == (len(vector["sequences"]), vector["head"])


@pytest.mark.parametrize("vector", VECTORS["broken"], ids=lambda vector: vector["name"])
def test_a_broken_log_is_refused_at_its_first_bad_line(tmp_path: Path, vector: dict[str, Any]) -> None:
    with pytest.raises(ChainBroken) as failure:
        verify_files(laid_out(tmp_path, vector), TRUSTED)
    assert (failure.value.path.name, failure.value.line_number) == (vector["file"], vector["line"])
    assert vector["says"] in failure.value.reason

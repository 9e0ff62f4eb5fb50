from __future__ import annotations

import gzip
import itertools
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from secretsd_bus import Chain, Event, SigningKey, Unchained, key_rotated, line_hash

from secretsd.audit.verifier import ChainBroken, find_files, verify_files
from secretsd.errors import KeyFileError

TIME = "2026-11-23T17:00:00.123Z"
KEY = SigningKey.generate()
OTHER = SigningKey.generate()


def chain(key: SigningKey = KEY) -> Chain:
    return Chain(log_id="log", node="pi", key=key)


def events(count: int, log: Chain | None = None) -> list[Event]:
    log = log or chain()
    return [log.append("secret.read", "name", {"n": number}, TIME) for number in range(count)]


def write(path: Path, lines: Sequence[Event | bytes]) -> Path:
    raw = [line.raw if isinstance(line, Event) else line for line in lines]
    data = b"".join(line + b"\n" for line in raw)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def broken(path: Path, lines: Sequence[Event | bytes]) -> ChainBroken:
    with pytest.raises(ChainBroken) as failure:
        verify_files([write(path, lines)], KEY.public)
    assert failure.value.path == path
    return failure.value


def test_a_whole_log_verifies_and_is_described(path: Path) -> None:
    log = events(5)
    report = verify_files([write(path, log)], KEY.public)
    assert (report.files, report.lines, report.first, report.last) == ((path,), 5, 1, 5)
    assert report.head == line_hash(log[-1].raw)
    assert report.starts_at_genesis
    assert report.torn is None


def test_rotated_files_are_one_log_in_whatever_order_they_come(path: Path) -> None:
    log = events(60)
    files = [
        write(path.with_name(name), part)
        for name, part in [
            ("audit.jsonl-20261121.gz", log[:10]),
            ("audit.jsonl.2.gz", log[10:25]),
            ("audit.jsonl.1", log[25:40]),
            ("audit.jsonl", log[40:]),
        ]
    ]
    for order in itertools.permutations(files):
        report = verify_files(order, KEY.public)
        assert (report.files, report.lines, report.head) == (tuple(files), 60, line_hash(log[-1].raw))


def test_identical_repeats_count_once_wherever_they_stand(path: Path) -> None:
    log = events(20)
    rotated = write(path.with_name("audit.jsonl.1"), [*log[:12], log[11], log[10]])
    copy = write(path.with_name("audit.jsonl-copy"), log[:7])
    report = verify_files([write(path, log[8:]), rotated, copy], KEY.public)
    assert (report.lines, report.last, report.head) == (20, 20, line_hash(log[-1].raw))


def test_a_batch_that_stands_in_two_files_alike_verifies(path: Path) -> None:
    log = events(4)
    rotated = write(path.with_name("audit.jsonl.1"), log[:3])
    report = verify_files([write(path, log), rotated], KEY.public)
    assert (report.lines, report.files) == (4, (rotated, path))


def test_a_log_whose_beginning_is_gone_says_so(path: Path) -> None:
    report = verify_files([write(path, events(9)[4:])], KEY.public)
    assert (report.lines, report.first, report.last, report.starts_at_genesis) == (5, 5, 9, False)


def test_files_without_lines_are_an_empty_log(path: Path) -> None:
    for paths in ([], [write(path, [])], [write(path.with_name("audit.jsonl.1.gz"), [])]):
        report = verify_files(paths, KEY.public)
        assert (report.lines, report.first, report.head, report.starts_at_genesis) == (0, None, None, False)


@pytest.mark.parametrize("missing", [0, 4, 8])
def test_a_missing_line_is_named_by_the_one_after_it(path: Path, missing: int) -> None:
    log = events(10)
    del log[missing]
    if missing == 0:
        assert verify_files([write(path, log)], KEY.public).first == 2
    else:
        failure = broken(path, log)
        assert (failure.line_number, failure.reason) == (
            missing + 1,
            f"sequence {missing + 2} follows {missing}: 1 line is missing",
        )


def test_a_missing_file_is_named_by_the_first_line_after_it(path: Path) -> None:
    log = events(30)
    old = write(path.with_name("audit.jsonl.2.gz"), log[:10])
    with pytest.raises(ChainBroken, match="sequence 21 follows 10: 10 lines are missing") as failure:
        verify_files([old, write(path, log[20:])], KEY.public)
    assert (failure.value.path, failure.value.line_number) == (path, 1)


def test_an_altered_line_is_named(path: Path) -> None:
    log: list[Event | bytes] = [*events(6)]
    log[3] = log[3].raw.replace(b'"n":3', b'"n":4')  # type: ignore[union-attr]  # an event
    failure = broken(path, log)
    assert (failure.line_number, failure.reason.split(":")[0]) == (4, "bad-signature")
    assert str(failure).startswith(f"{path}, line 4: bad-signature")


@pytest.mark.parametrize("garbage", [b"", b"{}", b"\xff", b"x" * 2_000_000, b'{"sequence":"x"}', b"[" * 100_000])
@pytest.mark.parametrize("place", [0, 2])
def test_a_line_that_is_no_event_is_named(path: Path, garbage: bytes, place: int) -> None:
    log: list[Event | bytes] = [*events(4)]
    log.insert(place, garbage)
    failure = broken(path, log)
    assert failure.line_number == place + 1
    assert failure.reason.split(":")[0] in {"not-json", "not-canonical"}


def test_lines_in_another_order_are_named(path: Path) -> None:
    log = events(5)
    failure = broken(path, [log[0], log[2], log[1], *log[3:]])
    assert failure.line_number == 2


def test_a_signed_line_of_a_fork_is_named(path: Path) -> None:
    log = chain()
    common = events(3, log)
    fork = log.copy()
    fork.append("secret.read", None, {"fork": True}, TIME)
    after_the_fork = fork.append("secret.read", None, {}, TIME)
    line = log.append("secret.read", None, {"fork": False}, TIME)
    failure = broken(path, [*common, line, after_the_fork])
    assert (failure.line_number, "prev is not the hash of line 4" in failure.reason) == (5, True)


def test_a_sequence_with_two_contents_is_named(path: Path) -> None:
    log = chain()
    before = events(2, log)
    fork = log.copy()
    failure = broken(path, [*before, *events(3, log), fork.append("secret.read", None, {"other": 1}, TIME)])
    assert (failure.line_number, failure.reason) == (6, "sequence 3 is there a second time, with another content")


def test_a_state_has_no_place_in_a_log(path: Path) -> None:
    state = Unchained(log_id="log", node="pi", key=KEY, session=1).seal("secret.state", "a", {}, TIME)
    failure = broken(path, [*events(1), state])
    assert (failure.line_number, failure.reason) == (2, "secret.state has no place in a log")


def test_a_first_line_that_claims_to_follow_another_is_named(path: Path) -> None:
    claims = Chain(log_id="log", node="pi", key=KEY, sequence=0, head="B" * 43)
    assert broken(path, events(1, claims)).line_number == 1
    skips = Chain(log_id="log", node="pi", key=KEY, sequence=5)
    assert broken(path, events(1, skips)).line_number == 1


def test_the_log_of_another_key_is_refused(path: Path) -> None:
    failure = broken(path, events(2, chain(OTHER)))
    assert (failure.line_number, failure.reason.split(":")[0]) == (1, "unknown-key")


def rotated_log() -> tuple[list[Event], Chain]:
    log = chain()
    lines = [*events(3, log), log.append("audit.key_rotated", None, key_rotated(OTHER), TIME)]
    return lines, log


def test_a_rotated_key_is_followed(path: Path) -> None:
    before, log = rotated_log()
    after = Chain(log_id="log", node="pi", key=OTHER, sequence=log.sequence, head=log.head)
    lines = [*before, *events(3, after)]
    write(path.with_name("audit.jsonl.1"), lines[:5])
    report = verify_files([write(path, lines[3:]), path.with_name("audit.jsonl.1")], KEY.public)
    assert (report.lines, report.last) == (7, 7)


def test_a_rotated_key_signs_nothing_more(path: Path) -> None:
    before, log = rotated_log()
    failure = broken(path, [*before, *events(1, log)])
    assert (failure.line_number, f"the log's key is {OTHER.keyid}" in failure.reason) == (5, True)


def test_a_key_without_its_own_proof_is_not_followed(path: Path) -> None:
    log = chain()
    stolen = key_rotated(OTHER) | {"proof": key_rotated(KEY)["proof"]}
    failure = broken(path, [*events(1, log), log.append("audit.key_rotated", None, stolen, TIME)])
    assert (failure.line_number, "proof" in failure.reason) == (2, True)


def test_a_torn_last_line_is_named_and_the_rest_verifies(path: Path) -> None:
    log = events(5)
    write(path, log[:4])
    with path.open("ab") as file:
        file.write(log[4].raw[:-1])
    report = verify_files([path], KEY.public)
    assert (report.lines, report.last, report.torn) == (4, 4, (path, 5))


def test_a_torn_line_alone_in_the_newest_file_is_named(path: Path) -> None:
    log = events(5)
    rotated = write(path.with_name("audit.jsonl.1"), log[:4])
    path.write_bytes(log[4].raw[:100])
    report = verify_files([path, rotated], KEY.public)
    assert (report.lines, report.torn) == (4, (path, 1))


def test_a_torn_line_with_an_empty_new_file_after_it_is_still_the_last(path: Path) -> None:
    log = events(3)
    rotated = write(path.with_name("audit.jsonl.1"), log[:2])
    rotated.write_bytes(rotated.read_bytes() + log[2].raw[:50])
    assert verify_files([write(path, []), rotated], KEY.public).torn == (rotated, 3)


def test_a_torn_line_in_an_older_file_is_a_failure(path: Path) -> None:
    log = events(5)
    rotated = write(path.with_name("audit.jsonl.1"), log[:2])
    rotated.write_bytes(rotated.read_bytes() + log[2].raw[:50])
    with pytest.raises(ChainBroken, match="torn") as failure:
        verify_files([write(path, log[2:]), rotated], KEY.public)
    assert (failure.value.path, failure.value.line_number) == (rotated, 3)


@pytest.mark.parametrize("kept", [0, 5, 0.5, 0.95])
def test_a_damaged_compressed_file_is_named(path: Path, kept: float) -> None:
    lines = [b'{"filler":"%d"}' % random.Random(number).getrandbits(2000) for number in range(200)]
    file = write(path.with_name("audit.jsonl.1.gz"), [*events(200), *lines])
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * kept) if 0 < kept < 1 else int(kept)] or b"no gzip")
    with pytest.raises(ChainBroken, match="damaged") as failure:
        verify_files([file], KEY.public)
    assert failure.value.path == file


def test_without_a_key_the_one_beside_the_file_counts(path: Path) -> None:
    write(path, events(2))
    public = path.with_name("audit.sign.pub")
    with pytest.raises(KeyFileError, match=r"audit\.sign\.pub: No such file"):
        verify_files([path], None)
    public.write_bytes(b"not a key")
    with pytest.raises(KeyFileError, match="not a PEM public key"):
        verify_files([path], None)
    public.write_bytes(OTHER.public.to_pem())
    with pytest.raises(ChainBroken, match="unknown-key"):
        verify_files([path], None)
    public.write_bytes(OTHER.public.to_pem() + KEY.public.to_pem())
    assert verify_files([path], None).lines == 2


def test_progress_is_told_every_thousand_lines(path: Path) -> None:
    told: list[int] = []
    verify_files([write(path, events(2500))], KEY.public, told.append)
    assert told == [1000, 2000]


def test_what_rotation_leaves_behind_is_found_and_nothing_else(path: Path) -> None:
    log = ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2.gz", "audit.jsonl.gz", "audit.jsonl-20261123",
           "audit.jsonl-20261122.gz", "audit.jsonl-20261123-1795453200.gz"]  # fmt: skip
    others = [
        "audit.jsonl.1.gz",  # half done, as long as audit.jsonl.1 is there
        "audit.jsonl.lock",
        "audit.jsonl.torn-17",
        "audit.jsonl.1.bak",
        "audit.sign.pub",
        "other.jsonl",
        "audit.jsonl2",
    ]
    for name in (*log, *others):
        path.with_name(name).write_bytes(b"")
    path.with_name("audit.jsonl.7").mkdir()
    assert {found.name for found in find_files(path)} == set(log)
    assert find_files(path.with_name("missing") / "audit.jsonl") == []

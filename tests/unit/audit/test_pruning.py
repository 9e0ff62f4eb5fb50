"""Old files off the front of the log, and what proves the rest."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from secretsd_bus import Chain, SigningKey, VerifyKey, key_rotated, rfc3339

from secretsd.audit import pruned, pruning
from secretsd.audit.logfiles import find_files
from secretsd.audit.pruned import Pruned
from secretsd.audit.pruning import Hold, LogFile, Plan, plan
from secretsd.audit.reader import LogReader
from secretsd.audit.verifier import ChainBroken, Report, verify_files
from secretsd.errors import PruneError
from tests.unit.audit.support import KEY, LOG_ID, chain, lines, write
from tests.unit.support.clock import START_MS

NEXT = SigningKey.generate()
FUTURE = "2999-01-01T00:00:00.000Z"
NOW = "2026-11-24T17:00:00.000Z"


def second(number: int) -> str:
    """When line `number` was written."""
    return rfc3339(START_MS + number * 1000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Twelve lines in four files, one of them compressed, and the public key."""
    log = lines(12)
    path = tmp_path / "audit.jsonl"
    write(tmp_path / "audit.jsonl.3.gz", log[:3])
    write(tmp_path / "audit.jsonl.2", log[3:6])
    write(tmp_path / "audit.jsonl.1", log[6:9])
    write(path, log[9:])
    (tmp_path / "audit.sign.pub").write_bytes(KEY.public.to_pem())
    return path


def chosen(path: Path, before: str = FUTURE, *holds: Hold) -> Plan:
    return plan(pruning.survey(path), path, before, holds)


def names(chosen: Plan) -> list[str]:
    return [file.path.name for file in chosen.remove]


def record(path: Path, what: Plan, key: SigningKey = KEY) -> Pruned:
    return pruning.record_of(path, what, log_id=LOG_ID, before=FUTURE, now=NOW, key=key.public, progress=None)


def prune(path: Path, before: str = FUTURE, *holds: Hold, key: SigningKey = KEY) -> Pruned:
    what = chosen(path, before, *holds)
    kept = record(path, what, key)
    pruning.carry_out(path, what, kept, key)
    return kept


def verified(path: Path, trusted: VerifyKey | None = None) -> Report:
    return verify_files(find_files(path), trusted)


def broken(path: Path) -> str:
    with pytest.raises(ChainBroken) as failure:
        verified(path)
    return str(failure.value)


# What may go


def test_files_go_whose_newest_line_is_older_and_the_active_one_never(path: Path) -> None:
    assert names(chosen(path)) == ["audit.jsonl.3.gz", "audit.jsonl.2", "audit.jsonl.1"]
    what = chosen(path, second(6))
    assert names(what) == ["audit.jsonl.3.gz"]
    assert (what.first, what.last) == (1, 3)
    assert what.kept_because == f"audit.jsonl.2 holds lines up to {second(6)}"


def test_what_a_hold_asks_for_stays_and_everything_behind_it(path: Path) -> None:
    what = chosen(path, FUTURE, Hold(5, "somebody needs"))
    assert names(what) == ["audit.jsonl.3.gz"]
    assert what.kept_because == "audit.jsonl.2 holds lines from 5 on, which somebody needs"
    assert names(chosen(path, FUTURE, Hold(7, "somebody needs"))) == ["audit.jsonl.3.gz", "audit.jsonl.2"]


def test_a_line_that_is_repeated_in_the_next_file_does_not_hold_the_one_before(path: Path) -> None:
    first = LogFile(path.with_name("audit.jsonl.1"), 1, 6, second(6), (0, 1), 1)
    active = LogFile(path, 6, 8, second(8), (0, 2), 1)
    assert names(plan([first, active], path, FUTURE, [Hold(6, "somebody needs")])) == ["audit.jsonl.1"]


def test_an_empty_log_has_nothing_to_prune(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").write_bytes(b"")
    assert names(chosen(tmp_path / "audit.jsonl")) == []


# What proves the rest


def test_what_is_left_verifies_from_the_record_on(path: Path) -> None:
    prune(path, second(7))
    report = verified(path)
    assert (report.first, report.last, report.starts_at_genesis) == (7, 12, False)
    assert report.pruned is not None
    assert report.pruned.last == 6


def test_a_second_pruning_goes_on_from_the_first(path: Path) -> None:
    prune(path, second(4))
    kept = prune(path, second(7))
    assert [(one.first, one.last) for one in kept.prunings] == [(1, 3), (4, 6)]
    assert verified(path).first == 7


def test_without_its_record_a_log_that_begins_later_still_verifies_but_nothing_is_said_of_before(path: Path) -> None:
    prune(path, second(7))
    path.with_name("audit.pruned.json").unlink()
    assert verified(path).pruned is None


def test_lines_that_went_after_a_pruning_without_a_record_are_named(path: Path) -> None:
    prune(path, second(4))
    assert verified(path).missing is None
    path.with_name("audit.jsonl.2").unlink()
    report = verified(path)
    assert report.pruned is not None
    assert (report.pruned.last, report.missing, report.first) == (3, (4, 6), 7)


def test_a_first_line_that_does_not_follow_what_was_pruned_is_named(path: Path) -> None:
    kept = prune(path, second(7))
    pruned.save(path, Pruned(LOG_ID, kept.last, "B" * 43, (), kept.prunings), KEY)
    assert "prev is not the hash of line 6, the last that audit.pruned.json says was pruned" in broken(path)


def test_another_log_in_the_place_of_what_was_pruned_is_named(path: Path) -> None:
    prune(path)
    write(path, lines(9, size=1))
    assert "it is another line 9 than the one that was pruned" in broken(path)


def test_a_record_that_was_altered_is_named(path: Path) -> None:
    prune(path, second(7))
    file = path.with_name("audit.pruned.json")
    file.write_bytes(file.read_bytes().replace(NOW.encode(), b"2026-11-24T18:00:00.000Z"))
    said = broken(path)
    assert str(file) in said
    assert "its signature is not that of the key" in said


def test_a_record_that_a_stranger_signed_is_named(path: Path) -> None:
    kept = prune(path, second(7))
    pruned.save(path, kept, NEXT)
    assert "none of those trusted" in broken(path)


@pytest.mark.parametrize("data", [b"", b"{}\n", b'{"format":1}\n', b"not json"])
def test_a_file_that_is_no_record_is_named(path: Path, data: bytes) -> None:
    path.with_name("audit.pruned.json").write_bytes(data)
    assert "audit.pruned.json, line 1" in broken(path)


def test_the_record_of_another_log_says_nothing(path: Path) -> None:
    pruned.save(path, Pruned("other", 100, "B" * 43, (), ()), KEY)
    assert verified(path).pruned is None


def test_keys_that_removed_lines_introduced_are_followed_from_the_first_key(path: Path) -> None:
    log = chain()
    old = [*lines(2, log), log.append("audit.key_rotated", None, key_rotated(NEXT), second(3))]
    going_on = Chain(log_id=LOG_ID, node="pi", key=NEXT, sequence=log.sequence, head=log.head)
    for file in find_files(path):
        file.unlink()
    write(path.with_name("audit.jsonl.1"), old)
    write(path, lines(3, going_on))
    kept = prune(path, key=NEXT)
    assert [json.loads(line)["type"] for line in kept.key_rotations] == ["jarvis.secretsd.audit.key_rotated"]
    assert verified(path, KEY.public).first == 4
    assert verified(path, NEXT.public).first == 4
    with pytest.raises(ChainBroken, match="unknown-key"):
        verified(path, SigningKey.generate().public)


# What is refused


def test_a_broken_log_is_evidence_and_stays(path: Path) -> None:
    file = path.with_name("audit.jsonl.2")
    file.write_bytes(file.read_bytes().replace(b'"filling":""', b'"filling":"x"', 1))
    with pytest.raises(PruneError, match="doesn't verify, so nothing was removed"):
        record(path, chosen(path))
    assert len(find_files(path)) == 4


def test_a_gap_behind_what_would_go_is_refused(path: Path) -> None:
    path.with_name("audit.jsonl.2").unlink()
    with pytest.raises(PruneError, match="the line after 3, the last that would go, is missing"):
        record(path, chosen(path, second(4)))


def test_a_file_that_cannot_be_read_and_what_follows_it_stay(path: Path) -> None:
    file = path.with_name("audit.jsonl.2.gz")
    plain = path.with_name("audit.jsonl.2")
    file.write_bytes(gzip.compress(plain.read_bytes())[:-8])
    plain.unlink()
    assert names(chosen(path)) == []


def test_a_file_that_is_being_compressed_is_told(path: Path) -> None:
    path.with_name("audit.jsonl.2.gz").write_bytes(b"half")
    assert pruning.being_compressed(path, chosen(path)) == path.with_name("audit.jsonl.2")


def test_two_prunings_at_once_are_refused(path: Path) -> None:
    with pruning.alone(path), pytest.raises(PruneError, match="another pruning or a restore"), pruning.alone(path):
        pass


# Log rotation and crashes in the middle


def test_a_name_that_log_rotation_gave_to_another_file_meanwhile_costs_no_line(path: Path) -> None:
    what = chosen(path, second(7))
    kept = record(path, what)
    for number, name in ((4, "audit.jsonl.3.gz"), (3, "audit.jsonl.2"), (2, "audit.jsonl.1")):
        path.with_name(name).rename(path.with_name(f"audit.jsonl.{number}{'.gz' if name.endswith('gz') else ''}"))
    pruning.carry_out(path, what, kept, KEY)
    assert {place.number for place, _ in LogReader(path).lines(0)} >= set(range(7, 13))
    verified(path)
    assert prune(path, second(7)) == kept
    assert verified(path).first == 7


def test_a_pruning_that_was_killed_anywhere_leaves_a_log_that_verifies(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    what = chosen(path)
    kept = record(path, what)
    for method in ("rename", "unlink", "rename", "unlink"):
        real = getattr(Path, method)
        calls = [0]

        def once(self: Path, *arguments: Any, real: Any = real, calls: list[int] = calls, **more: Any) -> Any:
            if ".pruning" in str(self) or any(".pruning" in str(one) for one in arguments):
                calls[0] += 1
                if calls[0] == 2:
                    raise Killed
            return real(self, *arguments, **more)

        monkeypatch.setattr(Path, method, once)
        with pytest.raises(Killed):
            pruning.carry_out(path, what, kept, KEY)
        monkeypatch.undo()
        pruning.tidy(path)
        assert not path.with_name(".pruning").exists()
        assert verified(path).last == 12
        what = chosen(path)
        if len(what.remove) < 2:
            break
    pruning.carry_out(path, chosen(path), kept, KEY)
    assert verified(path).first == 10


def test_a_file_that_was_taken_and_is_still_needed_is_put_back(path: Path) -> None:
    aside = path.with_name(".pruning")
    aside.mkdir()
    path.with_name("audit.jsonl.1").rename(aside / "audit.jsonl.1")
    write(path.with_name("audit.jsonl.1"), [])
    pruning.tidy(path)
    assert [place.number for place, _ in LogReader(path).lines(0)] == list(range(1, 13))

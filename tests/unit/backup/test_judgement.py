from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from secretsd_bus import Chain, Event

from secretsd.backup.judgement import LogHere, judge
from secretsd.daemon.remembered import Remembered
from secretsd.vault.document import AuditMark, PastEpoch
from secretsd.vault.position import Position
from tests.unit.audit.support import KEY

BACKUP = Position("vault", "e1", 10, AuditMark("log", 50, "h"), (PastEpoch("e0", 4),))
LAST = 60
NOTHING = Remembered(asked=True)
TIME = "2026-11-23T17:00:00.123Z"


def at(epoch: str, generation: int) -> Event:
    data = {"epoch": epoch, "generation": generation}
    return Chain(log_id="log", node="pi", key=KEY, sequence=LAST, head="A" * 43).append(
        "policy.reloaded", None, data, TIME
    )


def remembered(**data: Any) -> Remembered:
    return Remembered(asked=True, checkpoint={"epoch": "e1", "generation": 10, "sequence": LAST, "head": "h"} | data)


def older(here: Position | None, log: LogHere | None, broker: Remembered = NOTHING) -> str:
    verdict = judge(BACKUP, LAST, here, log, broker)
    assert verdict.foreign is None
    assert not verdict.proven
    return "; ".join(verdict.older)


def test_with_nothing_here_nothing_is_proven_and_nothing_is_known_to_be_newer() -> None:
    verdict = judge(BACKUP, LAST, None, None, NOTHING)
    assert (verdict.foreign, verdict.older, verdict.proven) == (None, (), False)


@pytest.mark.parametrize(
    ("here", "log", "broker"),
    [
        (BACKUP, None, NOTHING),
        (replace(BACKUP, generation=9), None, NOTHING),
        (None, LogHere("log", ()), NOTHING),
        (None, LogHere("log", (at("e1", 10), at("e0", 99))), NOTHING),
        (None, None, remembered()),
        (None, None, remembered(generation=9, sequence=LAST - 3)),
        (BACKUP, LogHere("log"), NOTHING),
    ],
)
def test_one_witness_that_is_not_ahead_proves_it(here: Any, log: Any, broker: Any) -> None:
    verdict = judge(BACKUP, LAST, here, log, broker)
    assert (verdict.foreign, verdict.older, verdict.proven) == (None, (), True)


def test_a_newer_vault_is_told_by_its_commits() -> None:
    assert older(replace(BACKUP, generation=11), None) == "the vault that is here is newer by 1 commit"


def test_a_vault_of_an_unknown_epoch_is_newer_and_one_of_an_ended_epoch_is_not() -> None:
    assert "of an epoch that the backup doesn't know" in older(replace(BACKUP, epoch="e2"), None)
    assert judge(BACKUP, LAST, replace(BACKUP, epoch="e0"), None, NOTHING).older == ()


def test_a_log_that_tells_of_later_commits_or_epochs_is_newer() -> None:
    assert "tells of 3 commits more" in older(None, LogHere("log", (at("e1", 12), at("e1", 13))))
    assert "tells of an epoch that the backup doesn't know (line 61)" in older(None, LogHere("log", (at("e2", 1),)))


def test_lines_that_would_be_moved_aside_or_are_gone_are_told() -> None:
    assert older(None, LogHere("log", lost_because="it is another")) == "it is another"
    assert older(BACKUP, LogHere("log", (), "lines are gone")) == "lines are gone"


def test_a_checkpoint_that_is_ahead_is_told() -> None:
    assert "older than the broker's checkpoint by 2 commits" in older(BACKUP, None, remembered(generation=12))
    assert "by 5 lines" in older(BACKUP, None, remembered(sequence=LAST + 5))
    assert "epoch that this vault does not know" in older(BACKUP, None, remembered(epoch="e2"))


def test_another_vault_is_foreign_whatever_else_is_here() -> None:
    verdict = judge(BACKUP, LAST, replace(BACKUP, vault_id="other"), LogHere("log", ()), remembered())
    assert verdict.foreign == "the vault that is here is another one"


def test_another_vaults_log_is_foreign_where_there_is_no_vault() -> None:
    assert judge(BACKUP, LAST, None, LogHere("other"), NOTHING).foreign is not None
    assert judge(BACKUP, LAST, BACKUP, LogHere("other", lost_because="begun since"), NOTHING).foreign is None

from __future__ import annotations

import pytest
from msgspec.structs import replace

from secretsd.errors import Problem
from secretsd.service import Selector
from secretsd.service.history import changes_since, readable_version
from secretsd.vault.document import Document, PolicyMark, Tombstone
from tests.unit.rotation.records import NEVER_MS, record, version
from tests.unit.support.clock import START_MS
from tests.unit.vault.documents import document as some_document

RECORD = replace(
    record(), versions=(version(4), version(3, grace_until=START_MS + 10), version(2, grace_until=NEVER_MS))
)


def chosen(at: int = START_MS, **selector: object) -> int | None:
    try:
        return readable_version(RECORD, Selector(**selector), at).version  # type: ignore[arg-type]  # by name
    except Problem as problem:
        return None if problem.slug == "version-not-found" else -1


def test_without_a_choice_the_current_version_is_meant() -> None:
    assert chosen() == 4


def test_a_version_is_found_by_number_and_by_kid_while_current_or_in_grace() -> None:
    assert [chosen(version=number) for number in (1, 2, 3, 4, 5)] == [None, 2, 3, 4, None]
    assert [chosen(kid=f"kid-{number}") for number in (1, 2, 3, 4)] == [None, 2, 3, 4]


def test_previous_is_the_newest_in_grace() -> None:
    assert chosen(previous=True) == 3
    assert chosen(START_MS + 10, previous=True) == 2


def test_a_grace_is_over_at_its_instant() -> None:
    assert chosen(START_MS + 9, version=3) == 3
    assert chosen(START_MS + 10, version=3) is None


def document() -> Document:
    stone = Tombstone(3, "kid", "generic", NEVER_MS, 6)
    return replace(
        some_document(),
        epoch="epoch",
        generation=8,
        policy=PolicyMark("00", 2),
        secrets={"b": replace(RECORD, generation=5), "a": replace(RECORD, generation=7)},
        tombstones={"gone": stone},
    )


def names(since: str | None, may: str = "abgone") -> list[str]:
    return [change.name for change in changes_since(document(), since, lambda name: name in may)]


def test_what_changed_after_a_position_is_told_oldest_first_deleted_ones_too() -> None:
    assert names(None) == ["b", "gone", "a"]
    assert names("epoch:5") == ["gone", "a"]
    assert names("epoch:8") == []
    assert {change.status for change in changes_since(document(), "epoch:5", lambda _: True)} == {"active", "deleted"}


def test_the_position_of_the_policys_own_commit_is_not_gone() -> None:
    assert names("epoch:2") == ["b", "gone", "a"]
    assert names("epoch:8") == []


def test_what_the_caller_may_not_read_is_not_told() -> None:
    assert names(None, may="a") == ["a"]


@pytest.mark.parametrize("since", ["other:5", "epoch:9", "epoch:1", "epoch:0"])
def test_where_only_starting_over_helps_the_history_is_gone(since: str) -> None:
    with pytest.raises(Problem) as problem:
        names(since)
    assert (problem.value.slug, problem.value.status, problem.value.position) == ("history-gone", 410, "epoch:8")


@pytest.mark.parametrize("since", ["", ":", "5", ":5", "epoch:", "epoch:-1", "epoch:x", "epoch:٣", "epoch:" + "9" * 17])
def test_what_is_no_position_is_an_invalid_request(since: str) -> None:
    with pytest.raises(Problem) as problem:
        names(since)
    assert (problem.value.slug, problem.value.status) == ("invalid-request", 400)

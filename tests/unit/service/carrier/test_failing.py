"""A rotation that does not get through: tried again, reported, put back, and no value in what is said of it."""

from __future__ import annotations

from typing import Any

import pytest

from secretsd.model import (
    MAX_REASON,
)
from secretsd.rotation.pending import SLOW_MS
from secretsd.service.changes import Changes
from secretsd.service.commits import Done
from secretsd.vault.document import OwedLine
from tests.unit.service.carrier.shelf import (
    FIRST,
    NAME,
    begun,
    failing_for_new,
    kinds,
    next_try,
    passing,
    raises,
    rotate,
    until,
    value,
)
from tests.unit.support.clock import DAY_MS
from tests.unit.support.core import Bench


async def test_a_failed_test_never_becomes_current_and_the_old_value_is_put_back(bench: Bench, shelf: Any) -> None:
    shelf.wrong["test"] = lambda order: shelf.Retryable("no login") if order.new.reveal() != FIRST.encode() else None
    shelf.Shelf.test = failing_for_new(shelf)
    await begun(bench)
    await until(lambda: bench.document.secrets[NAME].under_way.attempts == 1)  # type: ignore[union-attr]
    assert shelf.taken[NAME] == FIRST.encode()
    assert await value(bench) == FIRST
    pending = bench.document.secrets[NAME].under_way
    assert pending is not None
    assert (pending.step, pending.failure) == ("set", "test: no login")
    del shelf.Shelf.test
    shelf.Shelf.test = passing(shelf)
    await next_try(bench)
    assert (await value(bench)).encode() == shelf.taken[NAME] != FIRST.encode()


async def test_what_fails_is_tried_again_with_the_same_token_and_value_and_reported_once(
    bench: Bench, shelf: Any
) -> None:
    shelf.wrong["set"] = raises(shelf, "Retryable")
    await begun(bench)
    await until(lambda: bench.document.secrets[NAME].under_way.attempts == 1)  # type: ignore[union-attr]
    for _ in range(4):
        await next_try(bench)
    sets = [call for call in shelf.calls if call[0] == "set"]
    assert len({call[1:] for call in sets}) == 1
    assert len(sets) == 5
    failed = bench.events("secret.rotation_failed")
    assert [(event.data["attempts"], event.data["step"]) for event in failed] == [(3, "set")]
    assert failed[0].data["reason"] == "set: down"
    assert (failed[0].data["version"], failed[0].data["client"]) == (1, "admin")
    del shelf.wrong["set"]
    bench.clock.advance(SLOW_MS)
    await next_try(bench)
    assert bench.document.secrets[NAME].current.version == 2


async def test_what_no_repetition_changes_is_answered_and_reported_at_once(bench: Bench, shelf: Any) -> None:
    shelf.wrong["set"] = raises(shelf, "Refused", "no right")
    (answer,) = await rotate(bench)
    assert answer.pending is not None
    assert (answer.version, answer.pending.failing, answer.pending.failure) == (1, True, "set: no right")  # type: ignore[union-attr]
    assert kinds(bench) == ["secret.rotation_started", "secret.rotation_failed"]
    del shelf.wrong["set"]
    (answer,) = await rotate(bench)
    assert answer.version == 2


async def test_no_value_gets_into_a_reason_whatever_a_rotator_says(
    bench: Bench, shelf: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def leak(self: Any, order: Any) -> None:
        root = await order.read("root_password")
        raise shelf.Refused(f"tried {order.new.reveal().decode()}, {order.old.reveal()!r} and {root.reveal().decode()}")

    shelf.Shelf.set = leak
    await rotate(bench)
    pending = bench.document.secrets[NAME].under_way
    assert pending is not None
    new = bench.vault.open(NAME, pending.version).reveal().decode()
    for place in (bench.audit_path.read_text(), caplog.text, pending.failure or ""):
        assert new not in place
        assert FIRST not in place
    assert "struck out" in (pending.failure or "")


async def test_what_a_rotator_never_foresaw_is_told_by_its_class_alone(bench: Bench, shelf: Any) -> None:
    shelf.wrong["set"] = lambda order: RuntimeError("leaks " + order.new.reveal().decode())
    await begun(bench)
    await until(lambda: bench.document.secrets[NAME].under_way.attempts == 1)  # type: ignore[union-attr]
    assert bench.document.secrets[NAME].under_way.failure == "set: an unforeseen RuntimeError in the rotator"  # type: ignore[union-attr]


async def test_an_old_value_that_does_not_work_after_the_rollback_is_called_not_back(bench: Bench, shelf: Any) -> None:
    shelf.wrong["test"] = raises(shelf, "Retryable")
    await begun(bench)
    await until(lambda: bench.document.secrets[NAME].under_way.attempts == 1)  # type: ignore[union-attr]
    assert [method for method, *_ in shelf.calls] == ["set", "test", "rollback", "test"]
    assert str(bench.document.secrets[NAME].under_way.failure).startswith(  # type: ignore[union-attr]
        "the old value is not back; test: down"
    )


async def test_a_long_reason_says_first_that_the_old_value_is_not_back(bench: Bench, shelf: Any) -> None:
    shelf.wrong["set"] = raises(shelf, "Retryable", "s" * 300)
    shelf.wrong["rollback"] = raises(shelf, "Retryable", "r" * 300)
    await begun(bench)
    await until(lambda: bench.document.secrets[NAME].under_way.attempts == 1)  # type: ignore[union-attr]
    failure = str(bench.document.secrets[NAME].under_way.failure)  # type: ignore[union-attr]
    assert failure.startswith("the old value is not back; set: sss")
    assert "…; rollback: rrr" in failure
    assert len(failure) <= MAX_REASON


async def test_a_changed_policy_is_a_reason_to_try_again_at_once(bench: Bench, shelf: Any) -> None:
    shelf.wrong["set"] = raises(shelf, "Refused")
    await rotate(bench)
    shelf.wrong.clear()
    changes = Changes(bench.vault, bench.policy, bench.config)
    event = OwedLine("policy.reloaded", None, {"epoch": bench.document.epoch, "generation": 0})
    await bench.committer.commit(lambda document, generation: changes.policy_changed(document, generation, event))
    await bench.carrier.until_settled([NAME], 10)
    await until(lambda: bench.document.secrets[NAME].current.version == 2)


@pytest.mark.parametrize("retries", [1, 3], ids=["tried again soon", "at the slow pace"])
async def test_a_clock_that_is_set_back_holds_up_no_next_try(bench: Bench, shelf: Any, retries: int) -> None:
    shelf.wrong["set"] = raises(shelf, "Retryable")
    await begun(bench)
    await until(lambda: bench.document.secrets[NAME].under_way.attempts == 1)  # type: ignore[union-attr]
    for _ in range(retries - 1):
        await next_try(bench)
    del shelf.wrong["set"]
    bench.clock.jump(-30 * DAY_MS)
    bench.carrier.committed(Done(bench.document, [NAME], ()))
    await until(lambda: bench.document.secrets[NAME].under_way is None)
    assert (await value(bench)).encode() == shelf.taken[NAME] != FIRST.encode()

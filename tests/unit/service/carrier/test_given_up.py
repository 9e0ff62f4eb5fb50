"""A rotation that is given up, whose secret goes, whose rule goes, or whose daemon ends."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from secretsd import policy as policies
from secretsd.daemon.standing import VaultStanding
from secretsd.errors import Problem
from secretsd.model import Metadata, RotateRequest
from tests.unit.service.carrier.shelf import (
    FIRST,
    NAME,
    POLICY,
    at_once,
    begun,
    failing_for_new,
    kinds,
    made,
    next_try,
    put,
    raises,
    rotate,
    until,
    value,
)
from tests.unit.support.core import Bench


async def test_a_cancelled_rotation_leaves_the_old_value_at_both_ends(bench: Bench, shelf: Any) -> None:
    shelf.Shelf.test = failing_for_new(shelf)
    await begun(bench)
    await until(lambda: bench.document.secrets[NAME].under_way.attempts == 1)  # type: ignore[union-attr]
    shelf.taken[NAME] = b"whatever it has"
    answered = await bench.service.cancel(bench.caller(), NAME, idempotency_key=None)
    assert (answered.value.version, answered.value.pending) == (1, replace(answered.value).pending)
    assert bench.document.secrets[NAME].under_way is None
    assert shelf.taken[NAME] == FIRST.encode()
    assert [event.data["reason"] for event in bench.events("secret.rotation_failed")] == ["cancelled"]
    with pytest.raises(Problem) as refused:
        await bench.service.cancel(bench.caller(), NAME, idempotency_key=None)
    assert refused.value.slug == "not-found"


async def asked(bench: Bench) -> Metadata:
    body = RotateRequest(names=[NAME], reason="mine")
    return (await bench.service.rotate(bench.caller(), body, idempotency_key="k")).value.rotated[0]


async def test_a_repetition_is_told_where_its_rotation_is_and_that_it_was_given_up(
    bench: Bench, shelf: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secretsd.service.writes.SETTLE_SECONDS", 0.01)
    shelf.Shelf.test = failing_for_new(shelf)
    first = await asked(bench)
    assert (first.version, first.pending) != (2, UNSET)
    assert (await asked(bench)).pending != UNSET
    await bench.service.cancel(bench.caller(), NAME, idempotency_key=None)
    await until(lambda: bench.document.secrets[NAME].under_way is None)
    with pytest.raises(Problem) as refused:
        await asked(bench)
    assert (refused.value.slug, "given up" in refused.value.detail) == ("version-not-found", True)
    assert bench.document.secrets[NAME].under_way is None


async def test_a_repetition_is_told_of_its_own_rotation_once_that_arrived(
    bench: Bench, shelf: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await asked(bench)
    await rotate(bench)
    monkeypatch.setattr("secretsd.service.writes.SETTLE_SECONDS", 0.01)
    shelf.Shelf.test = failing_for_new(shelf)
    under_way = (await rotate(bench))[0]
    again = await asked(bench)
    assert (under_way.version, again.version, again.kid, again.pending) == (3, 2, first.kid, UNSET)


async def test_a_deleted_secret_takes_its_rotation_along(bench: Bench, shelf: Any) -> None:
    shelf.gates["test"] = asyncio.Event()
    await begun(bench)
    await until(lambda: bool(shelf.calls) and shelf.calls[-1][0] == "test")
    await bench.service.delete(bench.caller(), NAME, idempotency_key=None)
    shelf.gates["test"].set()
    await bench.carrier.stop(5)
    assert NAME not in bench.document.secrets
    assert kinds(bench)[-1] == "secret.deleted"


@pytest.mark.parametrize("step", ["set", "test"])
@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_secret_deleted_in_the_middle_of_a_step_leaves_the_old_value_there(
    bench: Bench, shelf: Any, step: str, cancelled: bool
) -> None:
    shelf.gates[step] = asyncio.Event()
    await begun(bench)
    await until(lambda: bool(shelf.calls) and shelf.calls[-1][0] == step)
    if cancelled:
        bench.service.until_settled = at_once
        await bench.service.cancel(bench.caller(), NAME, idempotency_key=None)
    await bench.service.delete(bench.caller(), NAME, idempotency_key=None)
    await made(bench, NAME)
    shelf.gates.pop(step).set()
    await until(lambda: [method for method, *_ in shelf.calls][-2:] == ["rollback", "test"])
    assert shelf.taken[NAME] == FIRST.encode() == (await value(bench)).encode()


async def test_a_secret_deleted_just_when_a_step_is_over_leaves_the_old_value_there(bench: Bench, shelf: Any) -> None:
    deleting: list[asyncio.Task[Any]] = []
    taking = shelf.Shelf.set

    async def deleted_then(self: Any, order: Any) -> None:
        await taking(self, order)
        deleting.append(asyncio.create_task(bench.service.delete(bench.caller(), NAME, idempotency_key=None)))

    shelf.Shelf.set = deleted_then
    await begun(bench)
    await until(lambda: [method for method, *_ in shelf.calls][-2:] == ["rollback", "test"])
    await deleting[0]
    assert shelf.taken[NAME] == FIRST.encode()


async def test_an_old_value_that_is_not_back_for_a_deleted_secret_is_told_in_the_log(
    bench: Bench, shelf: Any, caplog: pytest.LogCaptureFixture
) -> None:
    shelf.gates["set"] = asyncio.Event()
    shelf.wrong["rollback"] = raises(shelf, "Retryable")
    await begun(bench)
    await until(lambda: bool(shelf.calls))
    await bench.service.delete(bench.caller(), NAME, idempotency_key=None)
    said = "rotation of db_password: its secret was deleted on the way; the old value is not back; rollback: down"
    await until(lambda: said in caplog.messages)


async def test_a_step_for_a_deleted_secret_says_nothing_of_the_rotation_of_its_successor(
    bench: Bench, shelf: Any
) -> None:
    shelf.gates["set"] = asyncio.Event()
    await begun(bench)
    await until(lambda: bool(shelf.calls))
    await bench.service.delete(bench.caller(), NAME, idempotency_key=None)
    await made(bench, NAME)
    await begun(bench)
    shelf.gates["set"].set()
    await until(lambda: bench.document.secrets[NAME].under_way is None)
    assert [method for method, *_ in shelf.calls] == ["set", "rollback", "test", "set", "test"]
    assert (await value(bench)).encode() == shelf.taken[NAME]


async def test_a_request_whose_secret_is_deleted_then_is_told_so(bench: Bench, shelf: Any) -> None:
    shelf.gates["test"] = asyncio.Event()
    requests = [asyncio.create_task(rotate(bench, NAME, "root_password"))]
    await until(lambda: bool(shelf.calls) and shelf.calls[-1][0] == "test")
    requests.append(asyncio.create_task(rotate(bench)))
    await until(lambda: len(bench.events("secret.rotation_started")) == 2)
    await bench.service.delete(bench.caller(), NAME, idempotency_key=None)
    both, one = await asyncio.gather(*requests, return_exceptions=True)
    for refused in (both, one):
        assert isinstance(refused, Problem)
        assert refused.slug == "not-found"
        assert "db_password: deleted while the rotation was under way; it was dropped" in refused.detail
        assert "the change was made" not in refused.detail
    assert "other names" in str(both)
    assert "other names" not in str(one)


async def test_who_waits_is_answered_as_soon_as_the_daemon_ends(bench: Bench, shelf: Any) -> None:
    shelf.gates["set"] = asyncio.Event()
    request = asyncio.create_task(rotate(bench))
    await until(lambda: bool(shelf.calls))
    stopping = asyncio.create_task(bench.carrier.stop(60))
    async with asyncio.timeout(5):
        (answer,) = await request
    assert answer.pending.step == "set"  # type: ignore[union-attr]
    shelf.gates["set"].set()
    await stopping


async def test_at_the_end_nothing_is_tried_again(bench: Bench, shelf: Any) -> None:
    shelf.gates["set"] = asyncio.Event()
    shelf.wrong["set"] = raises(shelf, "Retryable")
    await begun(bench)
    await until(lambda: bool(shelf.calls))
    stopping = asyncio.create_task(bench.carrier.stop(600))
    await asyncio.sleep(0)
    shelf.gates["set"].set()
    async with asyncio.timeout(30):
        await stopping
    assert [method for method, *_ in shelf.calls].count("set") == 1


@pytest.mark.parametrize("step", ["set", "test"])
async def test_a_daemon_that_was_ended_goes_on_at_its_next_start(
    tmp_path: Path, bench: Bench, shelf: Any, step: str
) -> None:
    shelf.gates[step] = asyncio.Event()
    await begun(bench)
    await until(lambda: bool(shelf.calls) and shelf.calls[-1][0] == step)
    (token,) = {token for _, token, _ in shelf.calls}
    await bench.carrier.stop(0)
    shelf.gates.clear()
    shelf.calls.clear()
    again = Bench(tmp_path, policy=POLICY, again=True)
    again.carrier.start()
    await again.carrier.until_settled([NAME], 10)
    assert [method for method, _, _ in shelf.calls] == (["set", "test"] if step == "set" else ["test"])
    assert {found for _, found, _ in shelf.calls} == {token}
    assert (await value(again)).encode() == shelf.taken[NAME]
    assert again.document.secrets[NAME].current.version == 2
    await again.close()


async def test_at_the_end_a_value_that_the_other_end_has_becomes_current_first(bench: Bench, shelf: Any) -> None:
    shelf.gates["set"] = asyncio.Event()
    await begun(bench)
    await until(lambda: bool(shelf.calls))
    stopping = asyncio.create_task(bench.carrier.stop(10))
    await asyncio.sleep(0)
    shelf.gates["set"].set()
    await stopping
    assert bench.document.secrets[NAME].current.version == 2


async def test_without_its_rule_a_rotation_waits_for_somebody_to_decide(
    tmp_path: Path, bench: Bench, shelf: Any
) -> None:
    shelf.wrong["set"] = raises(shelf, "Retryable")
    await begun(bench)
    await until(lambda: bench.document.secrets[NAME].under_way.attempts == 1)  # type: ignore[union-attr]
    (tmp_path / "policy.yaml").write_text('clients: {admin: {allow: ["*"], can: [read, write, rotate]}}\n')
    bench.core.policy = policies.load(tmp_path / "policy.yaml", bench.config)
    bench.core.gate.policy = bench.core.policy
    await next_try(bench)
    assert "names no rotator" in bench.events("secret.rotation_failed")[0].data["reason"]
    with pytest.raises(Problem) as refused:
        await put(bench, "without-a-rotator")
    assert refused.value.slug == "rotation-pending"
    await bench.service.cancel(bench.caller(), NAME, idempotency_key=None)
    assert (await put(bench, "without-a-rotator")).value.version == 2


async def test_a_tidying_up_can_be_cancelled_and_the_new_value_stays(bench: Bench, shelf: Any) -> None:
    shelf.wrong["finishes"] = None
    shelf.wrong["finish"] = raises(shelf, "Refused")
    await rotate(bench)
    await until(lambda: bench.document.secrets[NAME].under_way.reported)  # type: ignore[union-attr]
    (trouble,) = VaultStanding(bench.core, bench.service).troubles()
    assert trouble.words == "can't be tidied up after the rotation of db_password"
    answered = await bench.service.cancel(bench.caller(), NAME, idempotency_key=None)
    assert (answered.value.version, bench.document.secrets[NAME].under_way) == (2, None)
    assert (await value(bench)).encode() == shelf.taken[NAME] != FIRST.encode()
    last = bench.events("secret.rotation_failed")[-1].data
    assert (last["step"], last["generation"]) == ("finish", bench.document.generation)
    assert last["reason"].startswith("tidying up after version 2 was given up: cancelled; it failed last for: finish")
    with pytest.raises(Problem):
        await bench.service.cancel(bench.caller(), NAME, idempotency_key=None)


async def test_what_was_cancelled_in_the_middle_of_a_step_never_becomes_current(bench: Bench, shelf: Any) -> None:
    shelf.gates["test"] = asyncio.Event()
    await begun(bench)
    await until(lambda: bool(shelf.calls) and shelf.calls[-1][0] == "test")
    cancelling = asyncio.create_task(bench.service.cancel(bench.caller(), NAME, idempotency_key=None))
    await until(lambda: bench.document.secrets[NAME].under_way.step == "undo")  # type: ignore[union-attr]
    shelf.gates["test"].set()
    await cancelling
    assert bench.document.secrets[NAME].current.version == 1
    assert shelf.taken[NAME] == FIRST.encode()

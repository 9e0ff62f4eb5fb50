"""What a rotation is at each turn of its way to the other end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from secretsd.errors import Problem
from secretsd.model import (
    CreateSecret,
    RestoreRequest,
    RotateKeyRequest,
)
from tests.unit.service.carrier.shelf import (
    FIRST,
    NAME,
    begun,
    kinds,
    made,
    next_try,
    put,
    raises,
    rotate,
    until,
    value,
)
from tests.unit.support.clock import DAY_MS, HOUR_MS
from tests.unit.support.core import Bench


async def test_a_value_is_current_once_the_other_end_has_it_and_it_was_used_there(bench: Bench, shelf: Any) -> None:
    (answer,) = await rotate(bench, reason="quarterly")
    assert answer.version == 2
    assert (await value(bench)).encode() == shelf.taken[NAME] != FIRST.encode()
    assert [method for method, _, _ in shelf.calls] == ["set", "test"]
    assert len({token for _, token, _ in shelf.calls}) == 1
    assert kinds(bench) == ["secret.rotation_started", "secret.rotated"]
    assert [event.data["reason"] for event in bench.events("secret.rotat")] == ["quarterly", "quarterly"]
    assert bench.stored().format == 1


async def test_the_old_value_is_given_out_until_then(bench: Bench, shelf: Any) -> None:
    shelf.gates["test"] = asyncio.Event()
    request = asyncio.create_task(rotate(bench))
    await until(lambda: bool(shelf.calls) and shelf.calls[-1][0] == "test")
    assert await value(bench) == FIRST
    assert bench.stored().format == 3
    generation = bench.document.secrets[NAME].generation
    assert generation < bench.document.generation, "a step is no change of the secret"
    shelf.gates["test"].set()
    assert (await request)[0].version == 2


async def test_reading_another_secret_leaves_a_line_and_only_one_that_is_named_is_given(
    bench: Bench, shelf: Any
) -> None:
    await rotate(bench)
    (line,) = bench.events("secret.read")
    assert (line.subject, line.data["client"], line.data["auth"]) == ("root_password", "secretsd", "daemon")

    async def curious(self: Any, order: Any) -> None:
        await order.read(NAME)

    shelf.Shelf.set = curious
    (answer,) = await rotate(bench)
    assert "don't name" in answer.pending.failure  # type: ignore[union-attr]
    assert len(bench.events("secret.read")) == 1


async def test_a_given_value_goes_the_same_way_and_one_that_the_other_end_cant_take_is_refused(
    bench: Bench, shelf: Any
) -> None:
    assert (await put(bench, "given-by-hand")).value.version == 2
    assert shelf.taken[NAME] == b"given-by-hand"
    assert kinds(bench)[-1] == "secret.updated"
    with pytest.raises(Problem) as refused:
        await put(bench, "with a space")
    assert refused.value.slug == "invalid-request"
    assert "with a space" not in refused.value.detail


async def test_another_value_has_to_wait_and_the_same_one_is_asked_for_again(bench: Bench, shelf: Any) -> None:
    shelf.wrong["set"] = raises(shelf, "Refused")
    await put(bench, "given-by-hand")
    with pytest.raises(Problem) as refused:
        await put(bench, "another-value")
    assert refused.value.slug == "rotation-pending"
    del shelf.wrong["set"]
    assert (await put(bench, "given-by-hand")).value.version == 2


@pytest.mark.parametrize(("later", "holds"), [({"grace_period": "2d"}, 2 * DAY_MS), ({}, HOUR_MS)])
async def test_the_grace_that_was_asked_for_last_holds(
    bench: Bench, shelf: Any, later: dict[str, str], holds: int
) -> None:
    shelf.wrong["set"] = raises(shelf, "Refused")
    await rotate(bench, grace_period="1h")
    del shelf.wrong["set"]
    (answer,) = await rotate(bench, **later)
    assert answer.version == 2
    current, before = bench.document.secrets[NAME].versions
    assert before.grace_until == current.created_at + holds


async def test_an_undo_reaches_the_other_end_too(bench: Bench, shelf: Any) -> None:
    await rotate(bench)
    await bench.service.restore(bench.caller(), NAME, RestoreRequest(version=1), idempotency_key=None)
    assert shelf.taken[NAME] == FIRST.encode()
    assert await value(bench) == FIRST
    assert bench.document.secrets[NAME].current.version == 3


async def test_several_names_are_accepted_together_or_not_at_all(bench: Bench, shelf: Any) -> None:
    with pytest.raises(Problem):
        await rotate(bench, NAME, "missing")
    assert bench.document.secrets[NAME].under_way is None
    both = await rotate(bench, NAME, "root_password")
    assert [one.version for one in both] == [2, 2]


async def test_a_new_secret_needs_the_value_that_its_other_end_has(bench: Bench) -> None:
    with pytest.raises(Problem) as refused:
        await bench.service.create(bench.caller(), CreateSecret(name="auto_password"), idempotency_key=None)
    assert refused.value.slug == "value-required"


async def test_the_schedule_rotates_the_same_way_and_announces_an_expiry_only_where_that_fails(
    bench: Bench, shelf: Any
) -> None:
    await made(bench, "auto_password")
    shelf.taken["auto_password"] = FIRST.encode()
    bench.clock.advance(30 * DAY_MS)
    await bench.scheduler.tick()
    await bench.carrier.until_settled(["auto_password"], 10)
    assert bench.document.secrets["auto_password"].current.version == 2
    shelf.wrong["set"] = raises(shelf, "Retryable")
    bench.clock.advance(30 * DAY_MS)
    await bench.scheduler.tick()
    await bench.carrier.until_settled(["auto_password"], 10)
    await bench.scheduler.tick()
    own = [
        event.type
        for event in bench.events("secret.")
        if event.subject == "auto_password" and event.type != "secret.retired"
    ]
    assert own[1:] == [
        "secret.rotation_started",
        "secret.rotated",
        "secret.rotation_started",
        "secret.rotation_failed",
        "secret.expired",
    ]


async def test_a_rotation_under_way_is_carried_on_under_new_keys(bench: Bench, shelf: Any) -> None:
    shelf.wrong["set"] = raises(shelf, "Retryable")
    await begun(bench)
    await until(lambda: bench.document.secrets[NAME].under_way.attempts == 1)  # type: ignore[union-attr]
    await bench.service.rotate_key(bench.caller(), RotateKeyRequest(key="data"), idempotency_key=None)
    shelf.wrong.clear()
    await next_try(bench)
    assert (await value(bench)).encode() == shelf.taken[NAME]
    assert bench.stored().format == 2


async def test_tidying_up_comes_after_the_announcement_and_cant_undo_it(bench: Bench, shelf: Any) -> None:
    shelf.wrong["finishes"] = None
    shelf.wrong["finish"] = raises(shelf, "Retryable")
    (answer,) = await rotate(bench)
    assert answer.version == 2
    await until(lambda: bench.document.secrets[NAME].under_way.attempts == 1)  # type: ignore[union-attr]
    assert bench.document.secrets[NAME].under_way.step == "finish"  # type: ignore[union-attr]
    (answer,) = await rotate(bench)
    assert answer.version == 3
    given_up = bench.events("secret.rotation_failed")[0].data
    assert (given_up["step"], given_up["version"]) == ("finish", 2)
    assert given_up["reason"] == (
        "tidying up after version 2 was given up: another rotation began; it failed last for: finish: down"
    )


@pytest.mark.parametrize("urgent", [False, True])
async def test_the_login_before_is_ended_there_where_it_is_urgent(bench: Bench, shelf: Any, *, urgent: bool) -> None:
    shelf.wrong["ends urgently"] = None
    shelf.gates["set"] = asyncio.Event()
    await begun(bench)
    if urgent:
        await begun(bench, urgent=True)
    shelf.gates["set"].set()
    await bench.carrier.until_settled([NAME], 10)
    await until(lambda: bench.document.secrets[NAME].under_way is None)
    assert [method for method, *_ in shelf.calls] == ["set", "test", *(["finish"] if urgent else [])]


async def test_a_version_that_stops_working_at_the_other_end_ends_when_the_rotation_begins(
    bench: Bench, shelf: Any
) -> None:
    await rotate(bench)
    shelf.wrong["displaces"] = None
    await rotate(bench)
    (retired,) = bench.events("secret.retired")
    assert (retired.data["retired_version"], retired.data["reason"]) == (1, "the other end keeps it no longer")
    assert [one.version for one in bench.document.secrets[NAME].versions] == [3, 2]


async def test_a_value_of_the_account_in_use_is_refused_unless_nothing_is_promised_to_the_current_login(
    bench: Bench, shelf: Any
) -> None:
    await put(bench, "a-one")
    shelf.wrong["in_turn"] = None
    with pytest.raises(Problem) as refused:
        await put(bench, "a-two")
    assert (refused.value.slug, refused.value.status) == ("invalid-request", 422)
    assert "account b, whose turn it is" in refused.value.detail
    assert '"urgent": true' in refused.value.detail
    assert shelf.taken[NAME] == b"a-one"
    await put(bench, "b-one")
    assert [one.version for one in bench.document.secrets[NAME].versions] == [3, 2, 1]
    shelf.wrong["set"] = raises(shelf, "Refused")
    await put(bench, "b-two", grace_period="0s")
    with pytest.raises(Problem) as refused:
        await rotate(bench, grace_period="1h")
    assert "account a, whose turn it is" in refused.value.detail
    del shelf.wrong["set"]
    await put(bench, "b-two", urgent=True)
    assert [one.version for one in bench.document.secrets[NAME].versions] == [4]

"""Rotations that reach another end, which is a dictionary here: what the vault says at each turn of it."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from secretsd import policy as policies
from secretsd.daemon.standing import VaultStanding
from secretsd.errors import Problem
from secretsd.model import (
    MAX_REASON,
    CreateSecret,
    Metadata,
    PutSecret,
    RestoreRequest,
    RotateKeyRequest,
    RotateRequest,
)
from secretsd.rotation.pending import SLOW_MS
from secretsd.service.answers import Answered, Selector
from secretsd.service.changes import Changes
from secretsd.service.commits import Done
from secretsd.vault.document import OwedLine
from tests.support.rotators import install
from tests.unit.support.clock import DAY_MS
from tests.unit.support.core import Bench

NAME = "db_password"
FIRST = "the-first-password"
POLICY = """
clients:
  admin: {allow: ["*"], can: [read, write, rotate, delete, audit, admin]}
secrets:
  db_password: {type: password, grace_period: 2d, rotator: {kind: shelf, admin: root_password, retries: 2}}
  auto_password: {type: password, rotation: auto, rotation_period: 30d, rotator: {kind: shelf, retries: 0}}
"""
SHELF = """
from secretsd.rotators import Refused, Retryable, Rotator, RotatorConfig

taken: dict = {}
calls: list = []
wrong: dict = {}
"What each method raises."
gates: dict = {}
"Events that a method waits for."


class Config(RotatorConfig, frozen=True):
    admin: str = ""

    def reads(self):
        return (self.admin,) if self.admin else ()


class Shelf(Rotator[Config]):
    config_type = Config

    async def _called(self, method, order):
        calls.append((method, order.token, order.new.reveal()))
        if method in gates:
            await gates[method].wait()
        if method in wrong:
            raise wrong[method](order)

    async def set(self, order):
        await self._called("set", order)
        if self.config.admin:
            await order.read(self.config.admin)
        taken[order.name] = order.new.reveal()

    async def test(self, order):
        await self._called("test", order)
        if taken.get(order.name) != order.new.reveal():
            raise Refused("the other end has another value")

    async def rollback(self, order):
        await self._called("rollback", order)
        taken[order.name] = order.old.reveal()

    async def finish(self, order):
        await self._called("finish", order)

    def finishes(self, *, urgent):
        return "finishes" in wrong or ("ends urgently" in wrong and urgent)

    def check(self, value):
        if b" " in value.reveal():
            raise Refused("no space can be in " + value.reveal().decode())

    def displaces(self, kept, new):
        return "displaces" in wrong or ("in_turn" in wrong and kept.reveal()[:1] == new.reveal()[:1])

    def next_account(self, current):
        return {b"a": "account b", b"b": "account a"}.get(current.reveal()[:1])
"""


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    folder = tmp_path / "shelf"
    folder.mkdir()
    install(folder, SHELF, shelf="Shelf")
    monkeypatch.syspath_prepend(str(folder))
    yield importlib.import_module("shelf_rotators")
    del sys.modules["shelf_rotators"]


@pytest.fixture
async def bench(tmp_path: Path, shelf: Any) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path, policy=POLICY)
    bench.carrier.start()
    await made(bench, NAME)
    await made(bench, "root_password")
    shelf.taken[NAME] = FIRST.encode()
    yield bench
    await bench.close()


async def made(bench: Bench, name: str) -> None:
    body = CreateSecret(name=name, value=FIRST)
    await bench.service.create(bench.caller(), body, idempotency_key=None)


async def rotate(bench: Bench, *names: str, **members: Any) -> list[Metadata]:
    body = RotateRequest(names=list(names or (NAME,)), **members)
    return (await bench.service.rotate(bench.caller(), body, idempotency_key=None)).value.rotated


async def put(bench: Bench, value: str, **members: Any) -> Answered[Metadata]:
    body = PutSecret(value=value, **members)
    return await bench.service.update(bench.caller(), NAME, body, if_match=None, idempotency_key=None)


async def value(bench: Bench, name: str = NAME) -> str:
    answered = await bench.service.read(bench.caller(), name, Selector(), if_none_match=None, min_generation=None)
    assert answered.value.body is not None
    return answered.value.body.value


def kinds(bench: Bench, kind: str = "secret.") -> list[str]:
    return [event.type for event in bench.events(kind) if event.type not in {"secret.read", "secret.created"}]


def raises(shelf: Any, name: str, text: str = "down") -> Callable[[Any], Exception]:
    return lambda order: getattr(shelf, name)(text)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 — what is waited for has no event
            await asyncio.sleep(0.005)


async def next_try(bench: Bench) -> None:
    """Let the time of the next try come, and wait until it came to something."""
    before = bench.document.secrets[NAME].under_way
    assert before is not None
    bench.clock.advance_to(max(before.due_at, bench.clock.now_ms()))
    bench.carrier.committed(Done(bench.document, [NAME], ()))
    await until(lambda: bench.document.secrets[NAME].under_way != before)
    await until(lambda: (now := bench.document.secrets[NAME].under_way) is None or now.due_at > bench.clock.now_ms())


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


def failing_for_new(shelf: Any) -> Any:
    async def test(self: Any, order: Any) -> None:
        if order.new.reveal() != FIRST.encode():
            raise shelf.Retryable("no login")

    return test


def passing(shelf: Any) -> Any:
    async def test(self: Any, order: Any) -> None:
        assert shelf.taken[order.name] == order.new.reveal()

    return test


async def begun(bench: Bench, **members: Any) -> None:
    """Ask for a rotation and don't wait for it."""
    bench.service.until_settled = at_once
    await rotate(bench, **members)
    bench.service.until_settled = bench.carrier.until_settled


async def at_once(names: Any, seconds: float) -> None:
    del names, seconds


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


async def test_an_undo_reaches_the_other_end_too(bench: Bench, shelf: Any) -> None:
    await rotate(bench)
    await bench.service.restore(bench.caller(), NAME, RestoreRequest(version=1), idempotency_key=None)
    assert shelf.taken[NAME] == FIRST.encode()
    assert await value(bench) == FIRST
    assert bench.document.secrets[NAME].current.version == 3


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


async def test_several_names_are_accepted_together_or_not_at_all(bench: Bench, shelf: Any) -> None:
    with pytest.raises(Problem):
        await rotate(bench, NAME, "missing")
    assert bench.document.secrets[NAME].under_way is None
    both = await rotate(bench, NAME, "root_password")
    assert [one.version for one in both] == [2, 2]


async def test_a_deleted_secret_takes_its_rotation_along(bench: Bench, shelf: Any) -> None:
    shelf.gates["test"] = asyncio.Event()
    await begun(bench)
    await until(lambda: bool(shelf.calls) and shelf.calls[-1][0] == "test")
    await bench.service.delete(bench.caller(), NAME, idempotency_key=None)
    shelf.gates["test"].set()
    await bench.carrier.stop(5)
    assert NAME not in bench.document.secrets
    assert kinds(bench)[-1] == "secret.deleted"


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
    assert [method for method, *_ in shelf.calls] == ["set", "set", "test"]
    assert (await value(bench)).encode() == shelf.taken[NAME]


async def test_a_request_whose_secret_is_deleted_meanwhile_is_told_so(bench: Bench, shelf: Any) -> None:
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


async def test_a_new_secret_needs_the_value_that_its_other_end_has(bench: Bench) -> None:
    with pytest.raises(Problem) as refused:
        await bench.service.create(bench.caller(), CreateSecret(name="auto_password"), idempotency_key=None)
    assert refused.value.slug == "value-required"


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
    await put(bench, "b-two", urgent=True)
    assert [one.version for one in bench.document.secrets[NAME].versions] == [4]


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


async def test_a_changed_policy_is_a_reason_to_try_again_at_once(bench: Bench, shelf: Any) -> None:
    shelf.wrong["set"] = raises(shelf, "Refused")
    await rotate(bench)
    shelf.wrong.clear()
    changes = Changes(bench.vault, bench.policy, bench.config)
    event = OwedLine("policy.reloaded", None, {"epoch": bench.document.epoch, "generation": 0})
    await bench.committer.commit(lambda document, generation: changes.policy_changed(document, generation, event))
    await bench.carrier.until_settled([NAME], 10)
    await until(lambda: bench.document.secrets[NAME].current.version == 2)

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace

import pytest

from secretsd.auth import Claims
from secretsd.errors import Problem
from secretsd.model import CreateSecret
from secretsd.service import gate as gates
from secretsd.service.refusals import BURST, FOLD_SECONDS, FREE_FAILURES, WAITING_MOST
from tests.unit.support.core import Bench
from tests.unit.support.disk import spy


def claims(client: str | None, bearer: str | None = None) -> Claims:
    return Claims(client=client, bearer=bearer, peer_uid=None, peer="127.0.0.1", request_id="r1")


async def refused(bench: Bench, client: str | None, bearer: str | None = None) -> str:
    with pytest.raises(Problem) as problem:
        await bench.service.identify(claims(client, bearer), "read", "x")
    return problem.value.slug


class Naps:
    """What the gate would have slept: waiting for the answer takes no time, folding refusals until told."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.folded = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        if seconds == FOLD_SECONDS:
            await self.folded.wait()
        elif seconds > 0:
            self.asked.append(seconds)


@pytest.fixture
async def naps(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Naps]:
    naps = Naps()
    monkeypatch.setattr(gates, "asyncio", SimpleNamespace(sleep=naps.sleep, get_running_loop=asyncio.get_running_loop))
    yield naps
    naps.folded.set()
    if bench.core.gate._flusher is not None:
        await bench.core.gate._flusher


async def test_who_is_known_comes_in_and_nothing_is_written_yet(bench: Bench) -> None:
    caller = await bench.service.identify(claims("admin"), "read", "x")
    assert (caller.client, caller.auth) == ("admin", "header")
    assert bench.events() == []


async def test_a_failure_is_audited_with_its_reason_and_no_word_of_what_was_sent(bench: Bench) -> None:
    assert await refused(bench, "planted-token-in-the-header", "planted") == "unknown-client"
    assert await refused(bench, "backend", "planted") == "bad-credential"
    assert await refused(bench, None) == "missing-client"
    assert b"planted" not in bench.audit_path.read_bytes()
    told = [(event.type, event.data["client"], event.data["reason"]) for event in bench.events()]
    assert told == [
        ("access.failed", None, "unknown-client"),
        ("access.failed", "backend", "bad-credential"),
        ("access.failed", None, "missing-client"),
    ]


async def test_a_denial_names_the_secret_only_where_it_exists_or_existed(bench: Bench) -> None:
    for name in ("x_password", "y_password"):
        await bench.service.create(bench.caller(), CreateSecret(name=name, value="v"), idempotency_key=None)
    await bench.service.delete(bench.caller(), "y_password", idempotency_key=None)
    details = set()
    for name in ("x_password", "y_password", "z_password"):
        with pytest.raises(Problem) as problem:
            await bench.core.gate.authorise(bench.caller("backend"), "read", "read", name)
        assert problem.value.slug == "forbidden"
        details.add(problem.value.detail)
    assert len(details) == 1
    assert [event.data["name"] for event in bench.events("access.")] == ["x_password", "y_password", None]


async def test_a_denial_says_what_in_the_policy_would_allow_it(bench: Bench) -> None:
    caller = bench.caller("backend")
    with pytest.raises(Problem, match=r"the name belongs under the client's allow .*, rotate under its can, in policy"):
        await bench.core.gate.authorise(caller, "rotate", "rotate", "x_password")
    with pytest.raises(Problem, match=r"the right audit: add it to the client's can, in policy\.yaml; then reload"):
        await bench.core.gate.authorise(caller, "audit", "audit")


async def test_wrong_credentials_are_slowed_down_and_right_ones_from_the_same_address_are_not(
    bench: Bench, naps: Naps
) -> None:
    for _ in range(FREE_FAILURES + 3):
        await refused(bench, "nobody")
    assert naps.asked == [0.05, 0.1, 0.2]
    await bench.service.identify(claims("admin"), "read", "x")
    assert naps.asked == [0.05, 0.1, 0.2]


async def test_who_guesses_gains_nothing_by_another_address_of_this_machine(bench: Bench, naps: Naps) -> None:
    for number in range(FREE_FAILURES + 1):
        guess = replace(claims("backend", "wrong"), peer=f"127.0.0.{number + 1}")
        with pytest.raises(Problem):
            await bench.service.identify(guess, "read", "x")
    assert naps.asked == [0.05]


async def test_who_guesses_with_too_many_requests_at_once_is_sent_away(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = asyncio.Event()

    async def sleep(seconds: float) -> None:
        await waiting.wait()

    monkeypatch.setattr(gates, "asyncio", SimpleNamespace(sleep=sleep, get_running_loop=asyncio.get_running_loop))
    tries = [asyncio.ensure_future(refused(bench, "nobody")) for _ in range(FREE_FAILURES + WAITING_MOST + 5)]
    done, pending = await asyncio.wait(tries, timeout=0.5)
    assert sorted(one.result() for one in done) == ["too-many-requests"] * 5 + ["unknown-client"] * FREE_FAILURES
    assert len(pending) == WAITING_MOST
    waiting.set()
    assert {await one for one in pending} == {"unknown-client"}


async def test_many_refusals_become_one_line_with_a_count(bench: Bench, naps: Naps) -> None:
    for _ in range(BURST + 300):
        await refused(bench, "nobody")
    assert len(bench.events("access.failed")) == BURST
    await bench.core.gate.flush()
    assert [event.data["count"] for event in bench.events("access.failed")] == [1] * BURST + [300]


async def test_the_counted_ones_are_written_after_a_few_seconds_by_themselves(bench: Bench, naps: Naps) -> None:
    for _ in range(BURST + 5):
        await refused(bench, "nobody")
    flusher = bench.core.gate._flusher
    assert flusher is not None
    assert len(bench.events("access.failed")) == BURST
    naps.folded.set()
    await flusher
    assert [event.data["count"] for event in bench.events("access.failed")] == [1] * BURST + [5]


async def test_what_is_counted_after_that_is_written_too(bench: Bench, naps: Naps) -> None:
    naps.folded.set()
    for _ in range(BURST + 1):
        await refused(bench, "nobody")
    for _ in range(2):
        assert bench.core.gate._flusher is not None
        await bench.core.gate._flusher
        await refused(bench, "nobody")
    await bench.core.gate._flusher
    assert sum(event.data["count"] for event in bench.events("access.failed")) == BURST + 3


async def test_refusals_leave_alone_what_is_left_of_a_full_disk(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    reserve = bench.core.gate._reserve
    reserve.spent = True
    monkeypatch.setattr(reserve, "take", lambda: False)
    assert await refused(bench, "nobody") == "audit-unavailable"
    assert bench.events() == []


async def test_a_refusal_that_can_not_be_audited_is_no_answer_about_rights(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy(monkeypatch, "fdatasync").fail()
    assert await refused(bench, "nobody") == "audit-unavailable"


async def test_a_foreign_request_is_audited_as_denied(bench: Bench) -> None:
    await bench.service.refuse_foreign(claims("planted"), "read", "Origin header")
    (event,) = bench.events()
    assert (event.type, event.data["client"], event.data["reason"]) == ("access.denied", None, "Origin header")

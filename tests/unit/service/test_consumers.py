from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from secretsd.auth import Caller
from secretsd.errors import Problem
from secretsd.model import AcknowledgedVersion, AcknowledgeRequest, Consumers, CreateSecret, RotateRequest
from secretsd.service import Selector
from tests.support.waiting import eventually
from tests.unit.support.core import Bench

POLICY = """
clients:
  admin: {allow: ["*"], can: [read, write, rotate, delete, audit, admin]}
  backend: {allow: ["db_*"]}
  worker: {allow: ["db_*"]}
  rotator: {allow: ["db_*"], can: [rotate]}
  auditor: {allow: [], can: [audit]}
"""


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path, policy=POLICY)
    bench.core.follower.start()
    await asyncio.to_thread(eventually, lambda: bench.core.follower.caught_up, "the log was read")
    await bench.service.create(bench.caller(), CreateSecret(name="db_password", value="v"), idempotency_key=None)
    yield bench
    await bench.core.follower.stop()
    await bench.close()


def caller(client: str, instance: str | None = None) -> Caller:
    return Caller(client=client, auth="token", peer="127.0.0.1", request_id="r1", instance=instance)


async def read(bench: Bench, who: Caller, **selected: Any) -> None:
    await bench.service.read(who, "db_password", Selector(**selected), if_none_match=None, min_generation=None)


async def rotate(bench: Bench) -> None:
    await bench.service.rotate(bench.caller(), RotateRequest(names=["db_password"]), idempotency_key=None)


async def ack(bench: Bench, who: Caller, **body: Any) -> AcknowledgedVersion:
    return (await bench.service.acknowledge(who, "db_password", AcknowledgeRequest(**body))).value


async def shown(bench: Bench, client: str = "rotator") -> Consumers:
    return (await bench.service.consumers(caller(client), "db_password")).value


def states(found: Consumers) -> dict[str, str]:
    return {one.client + (f"/{one.instance}" if one.instance else ""): one.state for one in found.consumers}


async def test_it_is_shown_who_has_the_current_version_who_the_previous_and_who_never_read(bench: Bench) -> None:
    await read(bench, caller("backend"))
    await read(bench, caller("worker", "w-1"))
    await rotate(bench)
    await read(bench, caller("backend"))
    found = await shown(bench)
    assert states(found) == {"admin": "never", "backend": "current", "worker/w-1": "previous"}
    assert (found.version, found.complete) == (2, True)
    assert found.previous is not None
    assert found.previous.version == 1
    (worker,) = [one for one in found.consumers if one.client == "worker"]
    assert (worker.version, worker.live, worker.acknowledged_version) == (1, True, None)


async def test_what_is_acknowledged_is_in_use_and_leaves_one_line(bench: Bench) -> None:
    await read(bench, caller("backend"))
    kid = bench.document.secrets["db_password"].current.kid
    first = await ack(bench, caller("backend"), version=1)
    assert first == AcknowledgedVersion(name="db_password", version=1, kid=kid, current=True)
    assert await ack(bench, caller("backend"), kid=kid) == first
    (event,) = bench.events("secret.acknowledged")
    assert event.subject == "db_password"
    assert {key: event.data[key] for key in ("client", "version", "kid", "outcome")} == {
        "client": "backend",
        "version": 1,
        "kid": kid,
        "outcome": "ok",
    }
    assert "superseded" not in event.data  # it is there only where it is true
    assert states(await shown(bench))["backend"] == "in-use"


async def test_what_each_of_several_processes_acknowledges_leaves_one_line_each(bench: Bench) -> None:
    for _ in range(2):
        for instance in ("w-1", "w-2"):
            await ack(bench, caller("worker", instance), version=1)
    assert [event.data["instance"] for event in bench.events("secret.acknowledged")] == ["w-1", "w-2"]


async def test_an_older_version_than_acknowledged_changes_nothing(bench: Bench) -> None:
    await rotate(bench)
    assert (await ack(bench, caller("backend"), version=1)).current is False
    await ack(bench, caller("backend"), version=2)
    for _ in range(3):
        await ack(bench, caller("backend"), version=1)
        await ack(bench, caller("backend"), version=2)
    assert [event.data["version"] for event in bench.events("secret.acknowledged")] == [1, 2]
    assert states(await shown(bench))["backend"] == "in-use"


@pytest.mark.parametrize(
    ("body", "slug"),
    [
        ({"version": 2}, "version-not-found"),
        ({"kid": "no-such-kid-at-all"}, "version-not-found"),
        ({}, "invalid-request"),
        ({"version": 1, "kid": "no-such-kid-at-all"}, "invalid-request"),
    ],
)
async def test_what_is_neither_current_nor_in_grace_is_not_acknowledged(
    bench: Bench, body: dict[str, Any], slug: str
) -> None:
    with pytest.raises(Problem) as caught:
        await ack(bench, caller("backend"), **body)
    assert caught.value.slug == slug
    assert bench.events("secret.acknowledged") == []


@pytest.mark.parametrize(("client", "allowed"), [("rotator", True), ("auditor", True), ("backend", False)])
async def test_who_may_rotate_or_audit_sees_the_consumers_and_that_is_a_line(
    bench: Bench, client: str, allowed: bool
) -> None:
    if not allowed:
        with pytest.raises(Problem) as caught:
            await shown(bench, client)
        assert caught.value.slug == "forbidden"
        return
    await shown(bench, client)
    assert bench.events("secret.listed")[-1].data["action"] == "consumers"


async def test_acknowledging_needs_the_right_to_read(bench: Bench) -> None:
    with pytest.raises(Problem) as caught:
        await ack(bench, caller("rotator"), version=1)
    assert caught.value.slug == "forbidden"


async def test_consumers_of_no_secret_are_not_found(bench: Bench) -> None:
    with pytest.raises(Problem) as caught:
        await bench.service.consumers(bench.caller(), "nothing")
    assert caught.value.slug == "not-found"
    assert bench.events("secret.listed")[-1].data["outcome"] == "not-found"


async def test_a_reading_says_whether_the_version_was_superseded(bench: Bench) -> None:
    await rotate(bench)
    await read(bench, caller("backend"), previous=True)
    await read(bench, caller("backend"))
    assert [event.data.get("superseded", False) for event in bench.events("secret.read")] == [True, False]
    assert states(await shown(bench))["backend"] == "current"

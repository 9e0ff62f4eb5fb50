"""grace: until-converged: a version ends when every live consumer has moved on, at the latest at its deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from secretsd_bus import Event

from secretsd import policy as policies
from secretsd.auth import Caller
from secretsd.consumers.standing import ANSWER_MS, LIVE_MS
from secretsd.consumers.statefile import beside
from secretsd.daemon.standing import VaultStanding
from secretsd.errors import Problem
from secretsd.model import AcknowledgeRequest, CreateSecret, PutSecret, RestoreRequest, RotateRequest
from secretsd.policy.settings import DEADLINE_MS
from secretsd.service import Selector
from secretsd.service.changes import Changes
from secretsd.service.convergence import LAGGING_MS, SWEEP_MS, Lagging
from secretsd.service.scheduler import Scheduler
from secretsd.vault.document import OwedLine
from tests.support.waiting import eventually
from tests.unit.support.clock import DAY_MS, HOUR_MS
from tests.unit.support.core import Bench

POLICY = """
clients:
  admin: {allow: ["*"], can: [read, write, rotate, delete, audit, admin], consumer: false}
  backend: {allow: ["db_*"]}
  worker: {allow: ["db_*"]}
secrets:
  db_slow: {type: password, grace_period: 3d}
  "db_*": {type: password, grace: until-converged, grace_period: 3d}
"""
NAME = "db_password"


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path, policy=POLICY)
    await follow(bench)
    for name in (NAME, "db_slow"):
        await bench.service.create(bench.caller(), CreateSecret(name=name), idempotency_key=None)
    yield bench
    await bench.core.follower.stop()
    await bench.close()


async def follow(bench: Bench) -> None:
    bench.core.follower.start()
    await asyncio.to_thread(eventually, lambda: bench.core.follower.caught_up, "the log was read")


def caller(client: str, instance: str | None = None) -> Caller:
    return Caller(client=client, auth="token", peer="127.0.0.1", request_id="r1", instance=instance)


async def read(bench: Bench, *clients: str | Caller, name: str = NAME, version: int | None = None) -> None:
    for client in clients:
        who = caller(client) if isinstance(client, str) else client
        selector = Selector(version=version)
        await bench.service.read(who, name, selector, if_none_match=None, min_generation=None)


async def rotate(bench: Bench, name: str = NAME, **body: Any) -> None:
    await bench.service.rotate(bench.caller(), RotateRequest(names=[name], **body), idempotency_key=None)


async def ack(bench: Bench, client: str, version: int) -> None:
    await bench.service.acknowledge(caller(client), NAME, AcknowledgeRequest(version=version))


def versions(bench: Bench, name: str = NAME) -> list[int]:
    return [version.version for version in bench.document.secrets[name].versions]


def retired(bench: Bench) -> list[Event]:
    return bench.events("secret.retired")


def pass_time(bench: Bench, milliseconds: int) -> None:
    bench.clock.advance_to(bench.clock.now_ms() + milliseconds)


async def test_the_old_version_ends_when_the_last_consumer_has_moved(bench: Bench) -> None:
    await read(bench, "backend", "worker")
    await rotate(bench)
    assert not await bench.scheduler.tick()
    await read(bench, "backend")
    assert not await bench.scheduler.tick()
    assert versions(bench) == [2, 1]
    await read(bench, "worker")
    assert await bench.scheduler.tick()
    assert versions(bench) == [2]
    (event,) = retired(bench)
    assert event.data["retired_version"] == 1
    assert (event.data["laggards"], event.data["laggard_count"]) == ({}, 0)
    assert event.data["reason"] == "every consumer has moved on"
    assert event.data["client"] == "secretsd"
    assert event.data["previous"] is None


async def test_a_head_gives_nobody_the_new_version(bench: Bench) -> None:
    await read(bench, "backend")
    await rotate(bench)
    asked = {"if_none_match": None, "min_generation": None, "head": True}
    answer = await bench.service.read(caller("backend"), NAME, Selector(), **asked)
    assert answer.value.kid == bench.document.secrets[NAME].current.kid
    assert not await bench.scheduler.tick()
    assert versions(bench) == [2, 1]
    event = bench.events("secret.listed")[-1]
    assert (event.data["action"], event.data["client"], event.data["name"]) == ("head", "backend", NAME)
    assert (event.data["version"], event.data["outcome"]) == (2, "ok")
    await read(bench, "backend")
    assert await bench.scheduler.tick()
    assert versions(bench) == [2]


async def test_who_lags_is_waited_for_until_the_deadline_and_then_named(bench: Bench) -> None:
    await read(bench, "backend", "worker", caller("worker", "w-2"))
    await rotate(bench)
    await read(bench, "backend")
    deadline = bench.document.secrets[NAME].versions[1].grace_until
    assert deadline == bench.clock.now_ms() + 3 * DAY_MS
    pass_time(bench, 3 * DAY_MS - 1)
    assert not await bench.scheduler.tick()
    pass_time(bench, 1)
    assert await bench.scheduler.tick()
    (event,) = retired(bench)
    assert set(event.data["laggards"]) == {"worker", "worker/w-2"}
    assert event.data["laggard_count"] == 2
    assert event.data["reason"] == "grace is over"


async def test_of_many_laggards_some_are_named_and_all_are_counted(bench: Bench) -> None:
    await read(bench, *(caller("worker", f"w-{number}") for number in range(20)))
    await rotate(bench)
    pass_time(bench, 3 * DAY_MS)
    assert await bench.scheduler.tick()
    (event,) = retired(bench)
    assert len(event.data["laggards"]) == 16
    assert event.data["laggard_count"] == 20


async def test_who_acknowledges_is_waited_for_until_it_does(bench: Bench) -> None:
    await read(bench, "backend", "worker")
    await ack(bench, "backend", 1)
    await rotate(bench)
    await read(bench, "backend", "worker")
    assert not await bench.scheduler.tick()
    await ack(bench, "backend", 2)
    assert await bench.scheduler.tick()
    assert versions(bench) == [2]


async def test_a_plain_grace_ends_at_its_time_alone_and_names_who_lags_too(bench: Bench) -> None:
    await read(bench, "backend", name="db_slow")
    await rotate(bench, "db_slow")
    await read(bench, "worker", name="db_slow")
    assert not await bench.scheduler.tick()
    pass_time(bench, 3 * DAY_MS)
    assert await bench.scheduler.tick()
    assert [set(event.data["laggards"]) for event in retired(bench)] == [{"backend"}]


async def test_an_operator_that_only_looks_is_not_waited_for(bench: Bench) -> None:
    await read(bench, "admin", "backend")
    await rotate(bench)
    await read(bench, "backend")
    assert await bench.scheduler.tick()


async def test_where_nobody_is_known_to_have_moved_the_deadline_decides(bench: Bench) -> None:
    await rotate(bench)
    await read(bench, "admin")
    assert not await bench.scheduler.tick()
    assert versions(bench) == [2, 1]


async def test_who_was_not_seen_for_long_is_not_waited_for(bench: Bench) -> None:
    await read(bench, "worker")
    pass_time(bench, LIVE_MS - HOUR_MS)
    await bench.scheduler.tick()
    await read(bench, "backend")
    await rotate(bench)
    await read(bench, "backend")
    assert not await bench.scheduler.tick()
    pass_time(bench, HOUR_MS + SWEEP_MS)
    assert await bench.scheduler.tick()
    assert versions(bench) == [2]


async def test_who_was_quiet_for_months_is_given_a_minute_to_show_up(bench: Bench) -> None:
    await read(bench, "worker")
    pass_time(bench, LIVE_MS + DAY_MS)
    await bench.scheduler.tick()
    await read(bench, "backend")
    await rotate(bench)
    await read(bench, "backend")
    assert not await bench.scheduler.tick()
    pass_time(bench, ANSWER_MS - 1000)
    assert not await bench.scheduler.tick()
    pass_time(bench, SWEEP_MS + 1000)
    assert await bench.scheduler.tick()
    assert versions(bench) == [2]


async def test_what_is_not_fully_known_is_waited_for(bench: Bench) -> None:
    await read(bench, "backend")
    await rotate(bench)
    bench.core.follower.sightings.skipped("2999-01-01T00:00:00.000Z")
    await read(bench, "backend")
    assert not await bench.scheduler.tick()


async def test_while_the_log_is_still_being_read_nobody_is_thought_to_have_moved(bench: Bench) -> None:
    await read(bench, "backend")
    await rotate(bench)
    await read(bench, "backend")
    bench.core.follower._caught_up = False
    assert not await bench.scheduler.tick()
    bench.core.follower._caught_up = True
    bench.scheduler.seen([NAME])
    assert await bench.scheduler.tick()


async def test_a_reading_under_way_during_the_rotation_is_counted(bench: Bench) -> None:
    await read(bench, "backend")
    reading = asyncio.create_task(read(bench, "worker"))
    await asyncio.sleep(0)  # it has its line under way, of version 1
    rotating = asyncio.create_task(rotate(bench))
    await asyncio.gather(reading, rotating)
    await read(bench, "backend")
    await bench.scheduler.tick()
    assert versions(bench) == [2, 1]


async def test_each_of_several_versions_ends_when_nobody_has_it_any_more(bench: Bench) -> None:
    await read(bench, "backend", "worker")
    await rotate(bench)
    await read(bench, "worker")
    await rotate(bench)
    assert not await bench.scheduler.tick()  # backend has 1, worker has 2, nobody is known to use 3
    await read(bench, "backend")
    assert await bench.scheduler.tick()
    assert versions(bench) == [3, 2]
    await read(bench, "worker")
    assert await bench.scheduler.tick()
    assert versions(bench) == [3]


async def test_an_urgent_rotation_ends_all_at_once_and_names_who_lags(bench: Bench) -> None:
    await read(bench, "backend")
    await rotate(bench)
    await rotate(bench, urgent=True)
    assert versions(bench) == [3]
    assert [(event.data["retired_version"], set(event.data["laggards"])) for event in retired(bench)] == [
        (1, {"backend"})
    ]


async def test_a_restored_version_is_waited_for_like_any_other(bench: Bench) -> None:
    await read(bench, "backend", "worker")
    await rotate(bench)
    await read(bench, "worker")
    await bench.service.restore(bench.caller(), NAME, RestoreRequest(version=1), idempotency_key=None)
    await read(bench, "backend")
    assert await bench.scheduler.tick()
    assert versions(bench) == [3, 2]  # version 1 is needed by nobody, version 2 by worker
    await read(bench, "worker")
    assert await bench.scheduler.tick()
    assert versions(bench) == [3]


async def test_a_grace_asked_for_is_the_deadline_and_never_is_none(bench: Bench) -> None:
    await read(bench, "backend")
    await rotate(bench, grace_period="1h")
    assert bench.document.secrets[NAME].versions[1].grace_until == bench.clock.now_ms() + HOUR_MS
    await read(bench, "backend")
    assert await bench.scheduler.tick()
    for refused in (
        rotate(bench, grace_period="never"),
        bench.service.update(
            bench.caller(), NAME, PutSecret(value="v", grace_period="never"), if_match=None, idempotency_key=None
        ),
    ):
        with pytest.raises(Problem) as caught:
            await refused
        assert caught.value.slug == "invalid-request"
        assert "moved on" in caught.value.detail
    assert versions(bench) == [2]


async def reloaded(bench: Bench, text: str) -> None:
    """Take up another policy as the daemon does."""
    path = bench.config.security.rbac_policy_path
    path.write_text(text)
    rules = policies.load(path, bench.config)

    def build(document: Any, generation: int) -> Any:
        bench.core.policy = bench.core.gate.policy = rules
        data = {"sha256": rules.sha256, "reason": None, "epoch": document.epoch, "generation": generation}
        changes = Changes(bench.vault, rules, bench.config)
        return changes.policy_changed(document, generation, OwedLine("policy.reloaded", None, data))

    await bench.committer.commit(build)


async def test_a_policy_that_takes_the_right_to_read_away_ends_the_waiting(bench: Bench) -> None:
    await read(bench, "backend", "worker")
    await rotate(bench)
    await read(bench, "backend")
    assert not await bench.scheduler.tick()
    await reloaded(bench, POLICY.replace('worker: {allow: ["db_*"]}', "worker: {allow: []}"))
    assert await bench.scheduler.tick()
    assert versions(bench) == [2]


async def test_a_policy_that_says_until_converged_now_holds_for_graces_that_run_and_one_that_stops_saying_so_too(
    bench: Bench,
) -> None:
    await read(bench, "backend", name="db_slow")
    await rotate(bench, "db_slow")
    await read(bench, "backend", name="db_slow")
    assert not await bench.scheduler.tick()
    await reloaded(bench, POLICY.replace("db_slow: {", "db_slow: {grace: until-converged, "))
    assert await bench.scheduler.tick()
    assert versions(bench, "db_slow") == [2]
    await read(bench, "worker")
    await rotate(bench)
    await reloaded(bench, POLICY.replace("grace: until-converged, ", ""))
    await read(bench, "worker")
    assert not await bench.scheduler.tick()
    assert versions(bench) == [2, 1]


async def test_without_a_deadline_of_its_own_it_is_the_default_and_never_means_a_week(tmp_path: Path) -> None:
    policy = POLICY.replace("grace: until-converged, grace_period: 3d", "grace: until-converged")
    bench = Bench(tmp_path, policy=policy, security='grace_period = "never"')
    await bench.service.create(bench.caller(), CreateSecret(name=NAME), idempotency_key=None)
    await rotate(bench)
    assert bench.document.secrets[NAME].versions[1].grace_until == bench.clock.now_ms() + DEADLINE_MS
    with pytest.raises(Problem):
        await bench.service.create(
            bench.caller(), CreateSecret(name="db_other", grace_period="never"), idempotency_key=None
        )
    await bench.close()


async def test_what_came_due_while_the_daemon_was_down_is_done_after_the_log_was_read(bench: Bench) -> None:
    await read(bench, "backend")
    await rotate(bench)
    await bench.core.follower.stop()
    beside(bench.audit_path).unlink()
    # The last one moves, and the daemon is killed before anything comes of it.
    bench.log.on_durable = lambda _: None
    await read(bench, "backend")
    fresh = type(bench.core.follower)(bench.log, bench.audit_path, bench.clock)
    bench.core.follower = fresh
    scheduler = Scheduler(bench.core)
    fresh.on_news = scheduler.seen
    await follow(bench)
    assert await scheduler.tick()
    assert versions(bench) == [2]


async def test_nothing_ends_early_while_the_clock_is_in_doubt(bench: Bench) -> None:
    await read(bench, "backend")
    await rotate(bench)
    await read(bench, "backend")
    bench.clock.jump(-HOUR_MS)
    assert not await bench.scheduler.tick()
    assert versions(bench) == [2, 1]
    bench.clock.jump(HOUR_MS)
    assert await bench.scheduler.tick()
    assert versions(bench) == [2]


async def test_who_uses_a_version_with_its_grace_half_over_is_named_until_it_moves(bench: Bench) -> None:
    lagging, standing = Lagging(bench.core), VaultStanding(bench.core, bench.service)
    await read(bench, "backend", "worker", caller("worker", "w-2"))
    await rotate(bench)
    await read(bench, "backend")
    pass_time(bench, 36 * HOUR_MS)
    assert (lagging.count(), lagging.words(), standing.troubles()) == (0, None, [])
    pass_time(bench, LAGGING_MS)
    assert lagging.found() == {NAME: ["worker", "worker/w-2"]}
    (trouble,) = standing.troubles()
    assert trouble.kind == "laggards"
    assert f"{NAME} (worker, worker/w-2)" in trouble.words
    found = (await bench.service.consumers(bench.caller(), NAME)).value
    assert [one.instance for one in found.consumers if one.lags] == [None, "w-2"]
    await read(bench, "worker", caller("worker", "w-2"))
    pass_time(bench, LAGGING_MS)
    assert lagging.count() == 0


async def test_who_is_left_behind_is_counted(bench: Bench) -> None:
    await read(bench, "backend", "worker")
    await rotate(bench)
    pass_time(bench, 3 * DAY_MS)
    await bench.scheduler.tick()
    assert bench.metrics.registry.get_sample_value("secretsd_retired_laggards_total") == 2

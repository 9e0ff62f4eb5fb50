"""Signing keys that are published ahead: known before they are used, and never used before they are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from secretsd.model import CreateSecret, PutSecret, RotateKeyRequest, RotateRequest
from secretsd.policy import parse
from secretsd.vault.document import FORMAT, FORMAT_PENDING
from tests.unit.support.clock import DAY_MS, HOUR_MS, START_MS
from tests.unit.support.core import POLICY, Bench

NAME = "jwt_signing_key"
RULE = "  jwt_signing_key: {rotation: auto, jwks: true, rotation_period: 30d, grace_period: 2d"
AHEAD = f"{POLICY}{RULE}, publish_ahead: 2h}}\n"


@pytest.fixture
async def signing(tmp_path: Path) -> Bench:
    return await made(tmp_path, AHEAD)


async def made(folder: Path, policy: str) -> Bench:
    bench = Bench(folder, policy=policy)
    await bench.service.create(bench.caller(), CreateSecret(name=NAME), idempotency_key=None)
    return bench


async def live_to(bench: Bench, instant: int) -> None:
    while (due := bench.scheduler.next_instant) <= instant:
        bench.clock.advance_to(max(due, bench.clock.now_ms()))
        assert await bench.scheduler.tick()
    bench.clock.advance_to(instant)


def kids(bench: Bench) -> list[str]:
    return [key["kid"] for key in bench.service.jwks().keys]


def record(bench: Bench) -> Any:
    return bench.document.secrets[NAME]


async def rotate(bench: Bench, **body: Any) -> None:
    await bench.service.rotate(bench.caller(), RotateRequest(names=[NAME], **body), idempotency_key=None)


async def test_a_key_is_published_before_its_use_and_then_used(signing: Bench) -> None:
    (first,) = kids(signing)
    await live_to(signing, START_MS + 30 * DAY_MS - 2 * HOUR_MS - 1)
    assert kids(signing) == [first]
    await live_to(signing, START_MS + 30 * DAY_MS - 1)
    upcoming, current = kids(signing)
    assert (current, record(signing).current.kid) == (first, first)
    (event,) = signing.events("secret.key_published")
    assert (event.data["upcoming_kid"], event.data["upcoming_version"], event.data["kid"]) == (upcoming, 2, first)
    listed = (await signing.service.list_secrets(signing.caller())).value.secrets[0]
    assert (listed.upcoming.kid, listed.kid) == (upcoming, first)  # type: ignore[union-attr]  # it is there
    await live_to(signing, START_MS + 30 * DAY_MS)
    assert record(signing).current.kid == upcoming
    assert record(signing).current.created_at == START_MS + 30 * DAY_MS
    assert kids(signing) == [upcoming, first]
    assert record(signing).published_ahead is None


async def test_nobody_can_read_it_before_its_use(signing: Bench) -> None:
    await live_to(signing, START_MS + 30 * DAY_MS - HOUR_MS)
    assert len(kids(signing)) == 2
    assert [version.version for version in record(signing).versions] == [1]


async def test_the_set_is_kept_for_less_than_the_time_that_keys_are_published_ahead(tmp_path: Path) -> None:
    bench = await made(tmp_path, AHEAD.replace("2h", "10m"))
    for instant in (START_MS, START_MS + 30 * DAY_MS - 600_001, START_MS + 30 * DAY_MS - 1):
        await live_to(bench, instant)
        assert bench.service.jwks().max_age_secs == 540
    await bench.close()


async def test_a_rotation_by_hand_uses_what_is_published(signing: Bench) -> None:
    await live_to(signing, START_MS + 30 * DAY_MS - HOUR_MS)
    upcoming = kids(signing)[0]
    await rotate(signing)
    assert record(signing).current.kid == upcoming
    await rotate(signing)
    assert record(signing).current.kid != upcoming
    assert record(signing).current.version == 3


@pytest.mark.parametrize("urgent", [False, True])
async def test_what_leaked_and_what_was_given_by_hand_drop_it(signing: Bench, *, urgent: bool) -> None:
    await live_to(signing, START_MS + 30 * DAY_MS - HOUR_MS)
    upcoming = kids(signing)[0]
    if urgent:
        await rotate(signing, urgent=True)
    else:
        value = signing.vault.open(NAME, record(signing).current).reveal().decode()
        await signing.service.update(
            signing.caller(), NAME, PutSecret(value=value), if_match=None, idempotency_key=None
        )
    assert upcoming not in kids(signing)
    assert record(signing).published_ahead is None
    await live_to(signing, START_MS + 70 * DAY_MS)
    assert record(signing).current.version == 3


async def test_it_outlives_restarts_and_rotations_of_the_vaults_keys(signing: Bench) -> None:
    await live_to(signing, START_MS + 30 * DAY_MS - HOUR_MS)
    upcoming, public = kids(signing)[0], signing.service.jwks().keys[0]
    assert signing.stored().format == FORMAT_PENDING
    await signing.service.rotate_key(signing.caller(), RotateKeyRequest(key="data"), idempotency_key=None)
    await signing.close()
    again = Bench(signing.folder, policy=AHEAD, again=True)
    await again.begin_again()
    again.clock.advance_to(START_MS + 30 * DAY_MS - 1)
    assert again.service.jwks().keys[0] == public
    await live_to(again, START_MS + 30 * DAY_MS)
    assert record(again).current.kid == upcoming
    assert again.stored().format != FORMAT_PENDING
    await again.close()


async def test_a_vault_without_one_keeps_its_format(signing: Bench) -> None:
    assert signing.stored().format == FORMAT


async def test_a_key_that_could_not_be_published_in_time_is_used_later(tmp_path: Path) -> None:
    bench = await made(tmp_path, f"{POLICY}{RULE}}}\n")
    bench.clock.advance_to(START_MS + 30 * DAY_MS - 1000)
    bench.core.policy = parse(AHEAD.encode())
    scheduler = bench.scheduler
    scheduler._agenda.follow(bench.core.policy)
    scheduler._policy = bench.core.policy
    assert await scheduler.tick()
    upcoming = kids(bench)[0]
    bench.clock.advance(1000)
    assert not await scheduler.tick()
    assert scheduler.next_instant == START_MS + 30 * DAY_MS - 1000 + 2 * HOUR_MS
    await live_to(bench, scheduler.next_instant)
    assert record(bench).current.kid == upcoming
    await bench.close()


async def test_a_policy_that_no_longer_asks_for_it_still_uses_it(signing: Bench) -> None:
    await live_to(signing, START_MS + 30 * DAY_MS - HOUR_MS)
    upcoming = kids(signing)[0]
    signing.core.policy = parse(f"{POLICY}{RULE}}}\n".encode())
    signing.scheduler._agenda.follow(signing.core.policy)
    await live_to(signing, START_MS + 30 * DAY_MS)
    assert record(signing).current.kid == upcoming


async def test_the_outlook_tells_of_it(signing: Bench) -> None:
    found = (await signing.service.schedule(signing.caller(), days=31, pattern=NAME)).value.occurrences
    assert [(one.what, one.version, one.at) for one in found] == [
        ("publish", 2, "2026-12-23T15:00:00.000Z"),
        ("rotate", 2, "2026-12-23T17:00:00.000Z"),
    ]

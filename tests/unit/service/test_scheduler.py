from __future__ import annotations

import asyncio
import errno
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET
from secretsd_bus import parse_time

from secretsd.clock import SETTLING_MS
from secretsd.crypto.sensitive import Sensitive
from secretsd.errors import Problem, SealError
from secretsd.model import NEVER_MS, CreateSecret, Metadata, RestoreRequest, RotateRequest
from secretsd.rotation.transitions import created
from secretsd.service import Selector
from secretsd.service.commits import Draft
from secretsd.service.scheduler import LOOK_MS, Scheduler
from secretsd.vault.document import Document, OwedLine, Wishes
from tests.unit.rotation.records import settings
from tests.unit.support.clock import DAY_MS, HOUR_MS, START_MS
from tests.unit.support.core import POLICY, Bench
from tests.unit.support.disk import spy


async def create(bench: Bench, name: str, **body: Any) -> Metadata:
    answer = await bench.service.create(bench.caller(), CreateSecret(name=name, **body), idempotency_key=None)
    return answer.value


async def rotate(bench: Bench, *names: str, **body: Any) -> None:
    await bench.service.rotate(bench.caller(), RotateRequest(names=list(names), **body), idempotency_key=None)


async def live(bench: Bench, days: float) -> None:
    """Let the daemon live for some days: it wakes at each due instant, and never looks on in between."""
    end = bench.clock.now_ms() + int(days * DAY_MS)
    while (instant := bench.scheduler.next_instant) <= end:
        bench.clock.advance_to(max(instant, bench.clock.now_ms()))
        assert await bench.scheduler.tick()
    bench.clock.advance_to(end)


def told(bench: Bench, name: str) -> list[tuple[float, str]]:
    """What was said of a secret, with the days since the start."""
    return [
        (round((parse_time(event.time) - START_MS) / DAY_MS, 5), event.type.removeprefix("secret."))
        for event in bench.events("secret.")
        if event.subject == name
    ]


async def test_an_automatic_secret_lives_through_ninety_days(bench: Bench) -> None:
    await create(bench, "auto_key")
    await live(bench, 90)
    assert told(bench, "auto_key") == [
        (0, "created"),
        (30, "rotated"),
        (32, "retired"),
        (60, "rotated"),
        (62, "retired"),
        (90, "rotated"),
    ]
    record = bench.document.secrets["auto_key"]
    assert [version.version for version in record.versions] == [4, 3]
    assert {event.data["client"] for event in bench.events("secret.rotated")} == {"secretsd"}


async def test_a_manual_secret_is_announced_and_then_expired_and_still_served(bench: Bench) -> None:
    await create(bench, "db_password", value="v1", rotation_period="90d", grace_period="30d")
    await live(bench, 200)
    assert told(bench, "db_password") == [
        (0, "created"),
        (60, "expiring"),
        (83, "expiring"),
        (89, "expiring"),
        (90, "expired"),
    ]
    assert [event.data["status"] for event in bench.events("secret.")] == ["active"] + ["expiring"] * 3 + ["expired"]
    answer = await bench.service.read(
        bench.caller(), "db_password", Selector(), if_none_match=None, min_generation=None
    )
    assert answer.value.body is not None
    assert (answer.value.body.value, answer.value.body.status) == ("v1", "expired")


async def test_nothing_happens_a_millisecond_early(bench: Bench) -> None:
    await create(bench, "auto_key")
    bench.clock.advance(30 * DAY_MS - 1)
    assert not await bench.scheduler.tick()
    bench.clock.advance(1)
    assert await bench.scheduler.tick()
    assert bench.events("secret.rotated")[0].time == "2026-12-23T17:00:00.000Z"


async def test_the_end_of_a_grace_destroys_the_ciphertext(bench: Bench) -> None:
    await create(bench, "db_password", value="v1", grace_period="2d")
    before = bench.document.secrets["db_password"].current
    await rotate(bench, "db_password")
    assert before.ciphertext in bench.vault.path.read_text()
    bench.clock.advance(2 * DAY_MS - 1)
    await read_version(bench, 1)
    bench.clock.advance(1)
    # From its instant on it is over, whether or not the schedule has been there.
    with pytest.raises(Problem, match="neither current nor in grace"):
        await read_version(bench, 1)
    assert await bench.scheduler.tick()
    assert before.ciphertext not in bench.vault.path.read_text()
    assert before.nonce not in bench.vault.path.read_text()
    assert [event.data["retired_version"] for event in bench.events("secret.retired")] == [1]


async def read_version(bench: Bench, version: int) -> None:
    await bench.service.read(
        bench.caller(), "db_password", Selector(version=version), if_none_match=None, min_generation=None
    )


async def test_a_grace_of_never_stays_for_decades(bench: Bench) -> None:
    await create(bench, "db_encryption_key", rotation_period="never")
    await rotate(bench, "db_encryption_key")
    await live(bench, 20_000)
    record = bench.document.secrets["db_encryption_key"]
    assert [version.grace_until for version in record.in_grace] == [NEVER_MS]
    assert bench.scheduler.next_instant == NEVER_MS


async def filled(bench: Bench, count: int) -> None:
    """Put automatic secrets into the vault in one commit; all of them are due at the same instant."""

    def build(document: Document, generation: int) -> Draft:
        rule = settings(type="generic", rotation="auto", rotation_ms=DAY_MS)
        records = {
            f"auto_{number}": created(
                bench.vault.seal(f"auto_{number}", 1, Sensitive(b"x"), "utf-8", bench.clock.now_ms()),
                rule,
                Wishes(),
                generation,
            )
            for number in range(count)
        }
        return Draft([OwedLine("policy.reloaded", None, {})], records, {})

    await bench.committer.commit(build)


async def test_thousands_due_at_once_are_one_commit(bench: Bench) -> None:
    await filled(bench, 3000)
    generation = bench.document.generation
    bench.clock.advance(DAY_MS)
    assert await bench.scheduler.tick()
    assert not await bench.scheduler.tick()
    assert bench.document.generation == generation + 1
    rotated = bench.events("secret.rotated")
    assert {event.data["generation"] for event in rotated} == {generation + 1}
    assert len({event.subject for event in rotated}) == len(rotated) == 3000


async def test_a_secret_with_a_schedule_rotates_by_the_calendar(tmp_path: Path) -> None:
    bench = Bench(
        tmp_path,
        policy=POLICY + '  report: {type: generic, rotation: auto, rotation_schedule: "0 3 1 * *", grace_period: 0s}\n',
    )
    await create(bench, "report", rotation="auto")
    await live(bench, 90)
    rotated = [event.time for event in bench.events("secret.rotated")]
    assert rotated
    assert all(time[8:] == "01T03:00:00.000Z" for time in rotated)
    assert len({time[:7] for time in rotated}) == len(rotated) in {2, 3}
    assert bench.document.secrets["report"].rotation_ms is None
    await bench.close()


SPACED = (
    POLICY
    + """
  "db_*": {type: generic, rotation: auto, rotation_period: 20d, grace_period: 1d, window: night, not_with: ["db_*"]}
  report: {rotation: auto, rotation_schedule: "0 3 1 * *", time_zone: Europe/Berlin, not_with: ["db_*"]}
  signing: {type: jwt_signing_key, jwks: true, rotation: auto, rotation_period: 15d, publish_ahead: 1h}
windows:
  night: {days: [fri, sat], from: "23:00", to: "01:30", time_zone: Europe/Berlin}
"""
)


GRACES_END_AMONG_THE_HELD = (
    POLICY
    + """
  "db_*": {rotation: auto, rotation_period: 30d, grace_period: 20m, window: night, not_with: ["db_*"], gap: 30m}
windows:
  night: {from: "02:00", to: "06:00", time_zone: Europe/Berlin}
"""
)


@pytest.mark.parametrize("policy", [SPACED, GRACES_END_AMONG_THE_HELD], ids=["spaced", "graces"])
async def test_the_outlook_is_what_the_schedule_then_does(tmp_path: Path, policy: str) -> None:
    bench = Bench(tmp_path, policy=policy)
    for name in ("db_a", "db_b", "db_c", "db_d", "report", "auto_key", "signing"):
        await create(bench, name, rotation="auto", type="generic" if name == "report" else UNSET)
        bench.clock.advance(HOUR_MS)
    await create(bench, "manual", rotation_period="40d", grace_period="10d")
    end = bench.clock.now_ms() + 90 * DAY_MS
    foreseen = (await bench.service.schedule(bench.caller(), days=90, pattern=None)).value
    assert (parse_time(foreseen.until), foreseen.doubt) == (end, None)
    await live(bench, 90)
    kinds = {
        "key_published": "publish",
        "rotated": "rotate",
        "expired": "expire",
        "expiring": "warn",
        "retired": "grace ends",
    }
    done = [
        (parse_time(event.time), event.subject, kinds[event.type.removeprefix("secret.")])
        for event in bench.events("secret.")
        if event.type not in {"secret.created", "secret.listed"}
    ]
    assert foreseen.complete
    instants = [one.at for one in foreseen.occurrences]
    assert instants == sorted(instants)
    assert sorted((parse_time(one.at), one.name, one.what) for one in foreseen.occurrences) == sorted(done)
    assert {one.moved_by for one in foreseen.occurrences} >= {"db_a", "db_b"}
    await bench.close()


async def test_a_window_that_was_slept_through_is_waited_for(tmp_path: Path) -> None:
    bench = Bench(tmp_path, policy=SPACED)
    await create(bench, "db_a", rotation="auto")
    missed = bench.document.secrets["db_a"].expires_at
    bench.clock.advance_to(missed + 5 * HOUR_MS)
    scheduler = bench.scheduler
    assert not await scheduler.tick()
    assert bench.document.secrets["db_a"].status == "active"
    assert missed + 5 * HOUR_MS < scheduler.next_instant < missed + 8 * DAY_MS
    assert scheduler._sleep_ms() == LOOK_MS
    await rotate(bench, "db_a")  # by hand at once
    assert bench.document.secrets["db_a"].current.version == 2
    await bench.close()


async def test_a_rotation_that_waits_for_over_eight_days_is_called_expired_until_it_happens(tmp_path: Path) -> None:
    bench = Bench(tmp_path, policy=SPACED)
    await create(bench, "db_a", rotation="auto")
    bench.clock.advance_to(bench.document.secrets["db_a"].expires_at + 8 * DAY_MS + 5 * HOUR_MS)
    assert await bench.scheduler.tick()
    assert bench.document.secrets["db_a"].status == "expired"
    (event,) = bench.events("secret.expired")
    assert "waits for its window" in event.data["reason"]
    assert not await bench.scheduler.tick()
    bench.clock.advance_to(bench.scheduler.next_instant)
    assert await bench.scheduler.tick()
    record = bench.document.secrets["db_a"]
    assert (record.status, record.current.version) == ("active", 2)
    await bench.close()


async def test_what_was_due_while_the_daemon_was_down_happens_once(bench: Bench) -> None:
    await create(bench, "auto_key")
    bench.clock.advance(100 * DAY_MS)
    scheduler = Scheduler(bench.core)
    assert await scheduler.tick()
    assert [kind for _, kind in told(bench, "auto_key")] == ["created", "rotated"]
    assert bench.document.secrets["auto_key"].expires_at == START_MS + 130 * DAY_MS


async def test_a_rotation_by_hand_moves_the_next_one_by_schedule(bench: Bench) -> None:
    await create(bench, "auto_key")
    await live(bench, 10)
    await rotate(bench, "auto_key")
    assert bench.scheduler.next_instant == START_MS + 12 * DAY_MS  # the end of the grace
    await live(bench, 35)
    assert [kind for _, kind in told(bench, "auto_key")] == ["created", "rotated", "retired", "rotated", "retired"]


async def test_a_deleted_secret_is_not_rotated(bench: Bench) -> None:
    await create(bench, "auto_key")
    await bench.service.delete(bench.caller(), "auto_key", idempotency_key=None)
    await live(bench, 100)
    assert [kind for _, kind in told(bench, "auto_key")] == ["created", "deleted"]


# The clock in doubt


@pytest.mark.parametrize("jump", [HOUR_MS, 365 * DAY_MS, -365 * DAY_MS, 61_000, -61_000])
async def test_a_clock_that_jumped_stops_the_schedule_and_says_so(bench: Bench, jump: int) -> None:
    await create(bench, "auto_key")
    bench.clock.advance(30 * DAY_MS)
    bench.clock.jump(jump)
    assert not await bench.scheduler.tick()
    assert bench.document.secrets["auto_key"].current.version == 1
    health = bench.service.health()
    assert (health.status, health.clock) == ("ok", "in-doubt")
    assert "jumped" in (health.reason or "")


async def test_a_clock_that_came_back_lets_the_schedule_go_on(bench: Bench) -> None:
    await create(bench, "auto_key")
    bench.clock.jump(365 * DAY_MS)
    assert not await bench.scheduler.tick()
    bench.clock.jump(-365 * DAY_MS)
    assert not await bench.scheduler.tick()
    assert bench.service.health().clock == "ok"
    bench.clock.advance(30 * DAY_MS)
    assert await bench.scheduler.tick()


async def test_a_jump_that_the_kernel_vouches_for_is_believed_after_a_while(bench: Bench) -> None:
    await create(bench, "auto_key")
    bench.clock.jump(31 * DAY_MS)
    bench.sync.synchronised = True
    assert not await bench.scheduler.tick()
    bench.clock.advance(SETTLING_MS)
    assert await bench.scheduler.tick()


async def test_readings_go_on_while_the_clock_is_in_doubt(bench: Bench) -> None:
    await create(bench, "db_password", value="v1")
    bench.clock.jump(-DAY_MS)
    await bench.scheduler.tick()
    await read_version(bench, 1)
    await rotate(bench, "db_password")
    assert bench.document.secrets["db_password"].current.version == 2


async def test_no_grace_ends_while_the_clock_is_in_doubt(bench: Bench) -> None:
    await create(bench, "db_password", value="v1", grace_period="5d")
    await rotate(bench, "db_password", values={"db_password": "v2"})
    bench.clock.jump(40 * DAY_MS)
    await read_version(bench, 1)
    (listed,) = (await bench.service.list_secrets(bench.caller())).value.secrets
    assert (listed.version, listed.previous) != (2, None)
    restored = await bench.service.restore(
        bench.caller(), "db_password", RestoreRequest(version=1), idempotency_key=None
    )
    assert restored.value.version == 3
    await read_version(bench, 1)
    bench.clock.jump(-40 * DAY_MS)
    await read_version(bench, 1)


async def test_a_grace_that_passed_in_doubt_is_over_when_the_doubt_is(bench: Bench) -> None:
    await create(bench, "db_password", value="v1", grace_period="5d")
    await rotate(bench, "db_password", values={"db_password": "v2"})
    bench.clock.jump(40 * DAY_MS)
    await read_version(bench, 1)
    bench.sync.synchronised = True
    bench.clock.advance(SETTLING_MS)
    with pytest.raises(Problem, match="neither current nor in grace"):
        await read_version(bench, 1)
    assert await bench.scheduler.tick()
    assert [kind for _, kind in told(bench, "db_password")][-1] == "retired"


async def test_keys_in_grace_stay_published_while_the_clock_is_in_doubt(bench: Bench) -> None:
    await create(bench, "jwt_signing_key")
    await rotate(bench, "jwt_signing_key")
    bench.clock.jump(400 * DAY_MS)
    assert len(bench.service.jwks().keys) == 2


async def test_an_urgent_rotation_ends_graces_in_doubt_too(bench: Bench) -> None:
    await create(bench, "db_password", value="v1")
    bench.clock.jump(40 * DAY_MS)
    await rotate(bench, "db_password", values={"db_password": "v2"}, urgent=True)
    with pytest.raises(Problem, match="neither current nor in grace"):
        await read_version(bench, 1)


# What hinders it


async def test_a_stopped_daemon_does_nothing_by_schedule(bench: Bench) -> None:
    await create(bench, "auto_key")
    bench.core.stopped_serving = "rolled back"
    bench.clock.advance(30 * DAY_MS)
    assert not await bench.scheduler.tick()
    assert bench.scheduler._sleep_ms() == LOOK_MS


async def test_what_is_kept_for_changes_by_hand_is_not_for_the_schedule(bench: Bench) -> None:
    await create(bench, "auto_key")
    bench.core.reserve.spent = True
    bench.clock.advance(30 * DAY_MS)
    assert not await bench.scheduler.tick()
    assert bench.scheduler._sleep_ms() == LOOK_MS
    bench.core.reserve.spent = False
    assert await bench.scheduler.tick()


async def test_what_could_not_be_written_stays_due(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await create(bench, "auto_key")
    bench.clock.advance(30 * DAY_MS)
    spy(monkeypatch, "replace").fail(errno.ENOSPC)
    with pytest.raises(Problem, match="Nothing was changed"):
        await bench.scheduler.tick()
    assert await bench.scheduler.tick()
    assert [kind for _, kind in told(bench, "auto_key")] == ["created", "rotated"]


async def woken(bench: Bench, until: Any) -> None:
    """Let the running schedule look again until `until()` holds."""
    async with asyncio.timeout(10):
        while not until():
            bench.scheduler._wake.set()
            await asyncio.sleep(0.001)


async def test_the_running_schedule_survives_failures_and_tries_again_more_and_more_slowly(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await create(bench, "auto_key")
    bench.clock.advance(30 * DAY_MS)
    replaced = spy(monkeypatch, "replace")
    replaced.fail(errno.ENOSPC, times=2)
    bench.scheduler.start()
    await woken(bench, lambda: replaced.count == 1)
    await woken(bench, lambda: bench.scheduler._pause_ms == 1000)
    assert bench.scheduler._sleep_ms() == LOOK_MS
    bench.clock.advance(1000)
    await woken(bench, lambda: bench.scheduler._pause_ms == 2000)
    bench.clock.advance(2000)
    await woken(bench, lambda: bench.document.secrets["auto_key"].current.version == 2)
    await bench.scheduler.stop()
    assert "tried again in 1 s" in caplog.text


async def test_an_unforeseen_error_neither_ends_the_schedule_nor_spins_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await create(bench, "auto_key")
    bench.clock.advance(30 * DAY_MS)
    real = bench.vault.seal

    def seal(*args: Any) -> Any:
        monkeypatch.setattr(bench.vault, "seal", real)
        raise SealError("unforeseen")

    monkeypatch.setattr(bench.vault, "seal", seal)
    bench.scheduler.start()
    await woken(bench, lambda: "unforeseen error" in caplog.text)
    assert bench.scheduler._sleep_ms() == LOOK_MS
    bench.clock.advance(30_000)
    await woken(bench, lambda: bench.document.secrets["auto_key"].current.version == 2)
    await bench.scheduler.stop()


async def test_the_running_schedule_wakes_when_a_nearer_instant_comes_up(bench: Bench) -> None:
    bench.scheduler.start()
    await asyncio.sleep(0)
    assert bench.scheduler._sleep_ms() == LOOK_MS
    await create(bench, "auto_key")
    bench.clock.advance(30 * DAY_MS - 250)
    assert bench.scheduler._sleep_ms() == 250
    bench.clock.advance(250)
    assert bench.scheduler._sleep_ms() == 0
    await woken(bench, lambda: bench.document.secrets["auto_key"].current.version == 2)
    await bench.scheduler.stop()

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from secretsd_bus import Event, SigningKey, key_rotated

from secretsd.audit.eventkeys import KEY_ROTATED
from secretsd.audit.linefile import LineFile
from secretsd.audit.log import BATCH_MOST, AuditLog, Entry
from secretsd.errors import AuditWriteError
from secretsd.metrics import Metrics
from tests.unit.audit.support import KEY, chain
from tests.unit.support.clock import FakeClock
from tests.unit.support.core import whole_chain
from tests.unit.support.disk import spy


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture
async def log(path: Path) -> AsyncIterator[AuditLog]:
    log = AuditLog(LineFile(path), chain(), FakeClock(), Metrics())
    yield log
    await log.close()


def entry(number: int = 0, **data: Any) -> Entry:
    return Entry("secret.read", "name", {"n": number} | data)


class Held:
    """Holds the disk thread in its sync until let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.call = spy(monkeypatch, "fdatasync")
        self._real: Callable[[int], None] = self.call._real
        self._go = threading.Event()
        self.entered = threading.Event()
        self.call._real = self._sync

    def _sync(self, descriptor: int) -> None:
        self.entered.set()
        assert self._go.wait(10)
        self._real(descriptor)

    async def wait(self) -> None:
        assert await asyncio.to_thread(self.entered.wait, 10)

    def let_go(self) -> None:
        self._go.set()


async def test_a_line_is_in_the_file_and_synced_before_the_caller_goes_on(
    path: Path, log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)
    waiting = asyncio.ensure_future(log.append(entry()))
    await held.wait()
    assert not waiting.done()
    assert log.sequence == 0
    held.let_go()
    (event,) = await waiting
    assert path.read_bytes() == event.raw + b"\n"
    assert (log.sequence, log.failure) == (1, None)


async def test_requests_that_arrive_together_share_one_fdatasync(
    path: Path, log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)
    first = asyncio.ensure_future(log.append(entry(0)))
    await held.wait()
    others = [asyncio.ensure_future(log.append(entry(number))) for number in range(1, 51)]
    await asyncio.sleep(0)
    held.let_go()
    await asyncio.gather(first, *others)
    assert held.call.count == 2
    assert [event.data["n"] for event in whole_chain(KEY, [path])] == list(range(51))


async def test_a_batch_has_a_bound_so_that_nobody_waits_for_all_the_others(
    log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = spy(monkeypatch, "fdatasync")
    await asyncio.gather(*(log.append(entry(), entry()) for _ in range(BATCH_MOST)))
    assert synced.count == 2


async def test_entries_of_one_call_stand_side_by_side(path: Path, log: AuditLog) -> None:
    await asyncio.gather(*(log.append(*(entry(number) for _ in range(5))) for number in range(20)))
    found = [event.data["n"] for event in whole_chain(KEY, [path])]
    assert found == sorted(found)


async def test_an_entry_that_can_not_be_worded_fails_alone(path: Path, log: AuditLog) -> None:
    good, bad, half, last = await asyncio.gather(
        log.append(entry(1)),
        log.append(entry(2, text="a\nb")),
        log.append(entry(3), entry(4, text="\ud800")),
        log.append(entry(5)),
        return_exceptions=True,
    )
    assert isinstance(good, list)
    assert isinstance(last, list)
    assert isinstance(bad, ValueError)
    assert isinstance(half, ValueError)
    assert [event.data["n"] for event in whole_chain(KEY, [path])] == [1, 5]


@pytest.mark.parametrize("ready", [None, SigningKey.generate()])
async def test_a_key_that_is_not_at_hand_is_not_introduced(path: Path, log: AuditLog, ready: SigningKey | None) -> None:
    log.successor = ready
    with pytest.raises(ValueError, match="not the one that was made for it"):
        await log.append(entry(0), Entry(KEY_ROTATED, None, key_rotated(SigningKey.generate())))
    await log.append(entry(1))
    assert [event.data for event in whole_chain(KEY, [path])] == [{"n": 1}]


async def test_nothing_to_say_is_said_at_once(log: AuditLog) -> None:
    async with asyncio.timeout(5):
        assert await log.append() == []


@pytest.mark.parametrize(("call", "number"), [("write", errno.ENOSPC), ("fdatasync", errno.EIO)])
async def test_after_a_failure_everyone_in_the_batch_is_told_and_the_chain_goes_on_unbroken(
    path: Path, log: AuditLog, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    await log.append(entry(0))
    spy(monkeypatch, call).fail(number)
    failures = await asyncio.gather(log.append(entry(1)), log.append(entry(2)), return_exceptions=True)
    assert [type(failure) for failure in failures] == [AuditWriteError] * 2
    assert log.sequence == 1
    assert log.failure is not None
    await log.append(entry(3))
    assert [event.data["n"] for event in whole_chain(KEY, [path])] == [0, 3]
    assert log.sequence == 2
    assert log.failure is None, "healed"


async def test_while_the_disk_fails_each_try_fails_and_the_first_that_works_heals(
    path: Path, log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy(monkeypatch, "fdatasync").fail(errno.ENOSPC, times=3)
    for number in range(3):
        with pytest.raises(AuditWriteError):
            await log.append(entry(number))
    await log.append(entry(9))
    assert [event.data["n"] for event in whole_chain(KEY, [path])] == [9]


async def test_lines_kept_in_a_rotated_file_come_first_and_once_in_the_chain(
    path: Path, log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Event] = []
    log.on_durable = told.extend
    await log.append(entry(0))
    rotated = path.rename(path.with_name("audit.jsonl.1"))
    spy(monkeypatch, "write").fail(errno.ENOSPC, after=1)
    with pytest.raises(AuditWriteError) as failure:
        await log.append(entry(1))
    assert failure.value.kept
    assert [event.data["n"] for event in told] == [0]
    await log.append(entry(2))
    assert [event.data["n"] for event in whole_chain(KEY, [rotated, path])] == [0, 1, 2]
    assert [event.data["n"] for event in whole_chain(KEY, [rotated])] == [0, 1]
    assert [event.data["n"] for event in told] == [0, 1, 2]


async def test_kept_lines_can_be_made_up_for_without_a_new_one(
    path: Path, log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log.append(entry(0))
    rotated = path.rename(path.with_name("audit.jsonl.1"))
    spy(monkeypatch, "write").fail(errno.ENOSPC, after=1)
    with pytest.raises(AuditWriteError):
        await log.append(entry(1))
    assert await log.append() == []
    assert path.read_bytes().splitlines() == rotated.read_bytes().splitlines()[1:]
    assert (log.sequence, log.failure) == (2, None)


async def test_who_follows_the_log_hears_of_durable_lines_only_and_in_order(
    log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    log.on_durable = lambda events: told.extend(event.sequence or 0 for event in events)
    await log.append(entry(), entry())
    spy(monkeypatch, "fdatasync").fail()
    with pytest.raises(AuditWriteError):
        await log.append(entry())
    await log.append(entry())
    assert told == [1, 2, 3]


async def test_a_caller_who_went_away_leaves_its_line_and_harms_nobody(
    path: Path, log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)
    gone = asyncio.ensure_future(log.append(entry(1)))
    await held.wait()
    gone.cancel()
    other = asyncio.ensure_future(log.append(entry(2)))
    held.let_go()
    await other
    assert [event.data["n"] for event in whole_chain(KEY, [path])] == [1, 2]


async def test_reopening_lets_the_next_line_go_to_the_new_file(path: Path, log: AuditLog) -> None:
    await log.append(entry(1))
    rotated = path.rename(path.with_name("audit.jsonl.1"))
    await log.reopen()
    await log.append(entry(2))
    assert len(rotated.read_bytes().splitlines()) == 1
    assert [event.data["n"] for event in whole_chain(KEY, [rotated, path])] == [1, 2]


async def test_closing_writes_what_waits(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secretsd.audit.log.BATCH_MOST", 1)
    log = AuditLog(LineFile(path), chain(), FakeClock(), Metrics())
    waiting = [asyncio.ensure_future(log.append(entry(number))) for number in range(5)]
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        await log.close()
        await asyncio.gather(*waiting)
    assert len(whole_chain(KEY, [path])) == 5


async def test_rotations_in_a_stream_of_lines_lose_none(path: Path, log: AuditLog) -> None:
    kept: list[Path] = []

    async def rotate() -> None:
        for number in range(20):
            while log.sequence < number * 8:  # noqa: ASYNC110 — looked at whenever the loop turns
                await asyncio.sleep(0)
            if path.exists():
                kept.append(path.rename(path.with_name(f"audit.jsonl.{number}")))

    rotating = asyncio.ensure_future(rotate())
    for number in range(200):
        await log.append(entry(number))
    await rotating
    assert [event.data["n"] for event in whole_chain(KEY, [*kept, path])] == list(range(200))

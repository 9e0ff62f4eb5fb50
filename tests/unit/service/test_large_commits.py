"""Changes of many secrets at once: others have their turn meanwhile, and nobody sees a half of them."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Sequence
from typing import Any

import pytest
from secretsd_bus import Event

from secretsd.audit.log import Entry
from secretsd.crypto.sensitive import Sensitive
from secretsd.errors import Problem
from secretsd.model import RotateRequest
from secretsd.rotation.transitions import created
from secretsd.service import Selector
from secretsd.service.commits import ITEMS_AT_ONCE, LINES_AT_ONCE, Draft, in_slices
from secretsd.vault.document import Document, OwedLine, Wishes
from tests.unit.rotation.records import settings
from tests.unit.support.core import Bench
from tests.unit.support.disk import spy


async def read(bench: Bench, name: str) -> None:
    await bench.service.read(bench.caller(), name, Selector(), if_none_match=None, min_generation=None)


async def slug_of(call: Any) -> str:
    with pytest.raises(Problem) as problem:
        await call
    return problem.value.slug


async def crowd(bench: Bench, count: int) -> list[str]:
    """Make so many secrets in one commit; return their names."""
    names = [f"db_{number}" for number in range(count)]

    def build(document: Document, generation: int) -> Draft:
        first = bench.vault.seal
        records = {
            name: created(first(name, 1, Sensitive(b"x"), "utf-8", 0), settings(), Wishes(), generation)
            for name in names
        }
        return Draft([OwedLine("policy.reloaded", None, {})], records, {})

    await bench.committer.commit(build)
    return names


def rotation(bench: Bench, names: list[str]) -> asyncio.Task[object]:
    request = RotateRequest(names=names, values=dict.fromkeys(names, "v2"))
    return asyncio.create_task(bench.service.rotate(bench.caller(), request, idempotency_key=None))


async def test_a_draft_of_many_secrets_gives_others_their_turn() -> None:
    turns: list[int] = []

    def draft(part: Sequence[int]) -> Draft:
        assert len(part) <= ITEMS_AT_ONCE
        return Draft([OwedLine("secret.rotated", str(item), {}) for item in part], {}, {})

    async def other() -> None:
        while True:
            turns.append(1)
            await asyncio.sleep(0)

    running = asyncio.create_task(other())
    drafted = await in_slices(range(10 * ITEMS_AT_ONCE), draft)
    running.cancel()
    assert [line.subject for line in drafted.events] == [str(number) for number in range(10 * ITEMS_AT_ONCE)]
    assert len(turns) >= 9


async def test_a_read_does_not_wait_for_all_lines_of_a_large_commit(bench: Bench) -> None:
    names = await crowd(bench, 5 * LINES_AT_ONCE)
    change = rotation(bench, names)
    while not change.done():
        await read(bench, names[0])
    await change
    kinds = [event.type for event in bench.events("secret.")]
    first, last = kinds.index("secret.rotated"), len(kinds) - kinds[::-1].index("secret.rotated")
    assert "secret.read" in kinds[first:last]
    assert kinds.count("secret.rotated") == len(names)


async def test_nothing_of_a_large_commit_is_told_before_all_its_lines_are_there(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = await crowd(bench, 3 * LINES_AT_ONCE)
    told: list[Event] = []
    bench.log.on_durable = told.extend
    before = bench.log.told
    spy(monkeypatch, "fdatasync").fail(errno.EIO, after=2)
    assert await slug_of(rotation(bench, names)) == "outcome-unknown"
    assert (len(told), bench.log.told, bench.log.sequence) == (0, before, before + 2 * LINES_AT_ONCE)
    assert (bench.document.generation, bench.stored().generation) == (1, 2)
    await bench.committer.finish()
    assert [event.subject for event in told] == names
    assert bench.log.told == bench.log.sequence == before + 3 * LINES_AT_ONCE
    assert [event.subject for event in bench.events("secret.rotated")] == names


async def test_no_page_of_the_audit_holds_a_part_of_a_large_commit(bench: Bench) -> None:
    names = await crowd(bench, 5 * LINES_AT_ONCE)
    change = rotation(bench, names)
    half_written = 0
    while True:
        half_written += bench.log.sequence > bench.log.told
        answer = await bench.service.audit_lines(bench.caller(), after=None, since_ms=None, limit=10_000)
        page = b"".join([piece async for piece in answer.value])
        if bench.document.generation == 2:
            break
        assert b"secret.rotated" not in page
    await change
    assert half_written


async def test_a_large_commit_of_which_nothing_was_written_holds_back_no_other_line(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = await crowd(bench, 2 * LINES_AT_ONCE)
    spy(monkeypatch, "fdatasync").fail(errno.EIO)
    assert await slug_of(rotation(bench, names)) == "outcome-unknown"
    await bench.log.append(Entry("access.denied", None, {}))
    assert bench.log.told == bench.log.sequence


async def test_a_vault_that_stopped_being_served_while_a_draft_was_made_is_not_changed(bench: Bench) -> None:
    names = await crowd(bench, 2 * ITEMS_AT_ONCE)
    begun = asyncio.Event()

    def admit() -> None:
        begun.set()
        bench.core.serving()

    bench.committer.admit = admit
    change = rotation(bench, names)
    await begun.wait()
    bench.core.stopped_serving = "Rollback: the broker knows better"
    assert await slug_of(change) == "vault-unavailable"
    assert bench.stored().generation == 1

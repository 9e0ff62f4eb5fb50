"""Rotations of several secrets at a time: who waits for whom."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from secretsd.service.carrier import AT_ONCE
from tests.unit.service.carrier.shelf import FIRST, NAME, begun, made, rotate, until, value
from tests.unit.support.core import Bench


@pytest.mark.parametrize("waits", [False, True], ids=["from the start", "while it waits for its turn"])
async def test_an_urgent_rotation_waits_for_no_other_end_that_hangs(bench: Bench, shelf: Any, waits: bool) -> None:
    taking = shelf.Shelf.set
    hanging: list[str] = []
    answers = asyncio.Event()

    async def hang(self: Any, order: Any) -> None:
        if order.name != NAME:
            hanging.append(order.name)
            await answers.wait()
        await taking(self, order)

    shelf.Shelf.set = hang
    names = [f"far_{number}" for number in range(AT_ONCE)]
    for name in names:
        await made(bench, name)
    await begun(bench, *names)
    await until(lambda: len(hanging) == AT_ONCE)
    if waits:
        await begun(bench)
        for _ in range(5):
            await asyncio.sleep(0)
    (answer,) = await rotate(bench, urgent=True)
    assert answer.version == 2
    assert (await value(bench)).encode() == shelf.taken[NAME] != FIRST.encode()
    assert all(bench.document.secrets[name].under_way for name in names)
    answers.set()
    await until(lambda: not any(bench.document.secrets[name].under_way for name in names))

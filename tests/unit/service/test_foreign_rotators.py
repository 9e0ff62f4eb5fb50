"""Rotators of other distributions that misbehave: one costs its own secret a rotation, nobody else anything."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from secretsd.errors import Problem
from secretsd.model import MAX_VALUE_BYTES, CreateSecret, RotateRequest
from secretsd.rotators import Misconfigured, configure
from secretsd.service.answers import Selector
from tests.support.rotators import install
from tests.unit.support.clock import DAY_MS
from tests.unit.support.core import Bench

NAME = "wild_password"
WILD = f"""
import asyncio

from secretsd.crypto.sensitive import Sensitive
from secretsd.rotators import Retryable, Rotator, RotatorConfig


def leave():
    raise SystemExit("some library's idea of an error")


def take_another_task_for_ours():
    raise asyncio.CancelledError


def run_out_of_a_time_of_its_own():
    raise TimeoutError


HOW = {{
    "leaves": leave,
    "is cancelled": take_another_task_for_ours,
    "times out": run_out_of_a_time_of_its_own,
}}
SHAPES = {{
    "text": lambda: "no Sensitive",
    "nothing": lambda: None,
    "an empty one": lambda: Sensitive(b""),
    "a long one": lambda: Sensitive(b"x" * {MAX_VALUE_BYTES + 1}),
    "a leave": leave,
    "bytes": lambda: Sensitive(bytes([0xff, 0x00])),
}}


class Config(RotatorConfig, frozen=True):
    sets: str = ""
    shapes: str = ""


class Wild(Rotator[Config]):
    config_type = Config

    def shape(self, generated, current):
        return SHAPES[self.config.shapes]() if self.config.shapes else generated

    async def set(self, order):
        if self.config.sets:
            HOW[self.config.sets]()

    async def test(self, order):
        pass
"""
Made = Callable[[str], Bench]


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Made]:
    folder = tmp_path / "wild"
    folder.mkdir()
    install(folder, WILD, wild="Wild")
    monkeypatch.syspath_prepend(str(folder))
    benches = []

    def made(members: str) -> Bench:
        policy = (
            'clients:\n  admin: {allow: ["*"], can: [read, write, rotate]}\nsecrets:\n'
            f"  {NAME}: {{type: password, rotation: auto, rotation_period: 30d,\n"
            f"    rotator: {{kind: wild, retries: 0, {members}}}}}\n"
            "  tame_key: {type: generic, rotation: auto, rotation_period: 30d}\n"
        )
        benches.append(Bench(tmp_path, policy=policy))
        benches[-1].carrier.start()
        return benches[-1]

    yield made
    for one in benches:
        await one.close()


async def create(bench: Bench, name: str = NAME, value: str = "the-first-password") -> None:
    await bench.service.create(bench.caller(), CreateSecret(name=name, value=value), idempotency_key=None)


async def rotate(bench: Bench) -> None:
    await bench.service.rotate(bench.caller(), RotateRequest(names=[NAME]), idempotency_key=None)


@pytest.mark.parametrize(
    ("how", "class_"), [("leaves", "SystemExit"), ("is cancelled", "CancelledError"), ("times out", "TimeoutError")]
)
async def test_whatever_a_step_raises_is_a_failure_of_its_rotation(bench: Made, how: str, class_: str) -> None:
    wild = bench(f'sets: "{how}"')
    await create(wild)
    await rotate(wild)
    pending = wild.document.secrets[NAME].under_way
    assert pending is not None
    assert pending.reported
    assert f"set: an unforeseen {class_} in the rotator" in str(pending.failure)


@pytest.mark.parametrize("shape", ["text", "nothing", "an empty one", "a long one", "a leave"])
async def test_what_a_rotator_shapes_has_to_be_a_value(bench: Made, shape: str) -> None:
    wild = bench(f'shapes: "{shape}"')
    await create(wild)
    with pytest.raises(Problem, match=r"the rotator (shaped no value of 1 to 65536 bytes|can't use it)") as refused:
        await rotate(wild)
    assert refused.value.slug == "invalid-request"
    assert wild.document.secrets[NAME].under_way is None


@pytest.mark.parametrize("shape", ["text", "an empty one", "a leave"])
async def test_the_schedule_goes_on_for_others_where_a_rotator_shapes_no_value(bench: Made, shape: str) -> None:
    wild = bench(f'shapes: "{shape}"')
    await create(wild)
    await create(wild, "tame_key")
    wild.clock.advance(30 * DAY_MS)
    assert await wild.scheduler.tick()
    assert wild.document.secrets["tame_key"].current.version == 2
    await wild.carrier.until_settled([NAME], 10)
    assert wild.document.secrets[NAME].current.version == 2


async def test_bytes_that_a_rotator_shapes_are_given_out_as_base64(bench: Made) -> None:
    wild = bench('shapes: "bytes"')
    await create(wild)
    await rotate(wild)
    answer = await wild.service.read(wild.caller(), NAME, Selector(), if_none_match=None, min_generation=None)
    assert answer.value.body is not None
    assert (answer.value.body.encoding, base64.b64decode(answer.value.body.value)) == ("base64", b"\xff\x00")


def test_a_module_that_ends_the_process_at_its_import_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "leaving"
    folder.mkdir()
    install(folder, "raise SystemExit(1)", leaving="Leaving")
    monkeypatch.syspath_prepend(str(folder))
    with pytest.raises(Misconfigured, match="can't be loaded from leaving_rotators:Leaving: SystemExit"):
        configure({"kind": "leaving"})

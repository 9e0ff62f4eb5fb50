"""The other end, which is a dictionary here, and what the tests ask of the service about it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from secretsd.model import CreateSecret, Metadata, PutSecret, RotateRequest
from secretsd.service.answers import Answered, Selector
from secretsd.service.commits import Done
from tests.unit.support.core import Bench

NAME = "db_password"
FIRST = "the-first-password"
POLICY = """
clients:
  admin: {allow: ["*"], can: [read, write, rotate, delete, audit, admin]}
secrets:
  db_password: {type: password, grace_period: 2d, rotator: {kind: shelf, admin: root_password, retries: 2}}
  auto_password: {type: password, rotation: auto, rotation_period: 30d, rotator: {kind: shelf, retries: 0}}
  far_*: {type: password, rotator: {kind: shelf}}
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


def failing_for_new(shelf: Any) -> Any:
    async def test(self: Any, order: Any) -> None:
        if order.new.reveal() != FIRST.encode():
            raise shelf.Retryable("no login")

    return test


def passing(shelf: Any) -> Any:
    async def test(self: Any, order: Any) -> None:
        assert shelf.taken[order.name] == order.new.reveal()

    return test


async def begun(bench: Bench, *names: str, **members: Any) -> None:
    """Ask for a rotation and don't wait for it."""
    bench.service.until_settled = at_once
    await rotate(bench, *names, **members)
    bench.service.until_settled = bench.carrier.until_settled


async def at_once(names: Any, seconds: float) -> None:
    del names, seconds

"""What every rotator has to keep, as tests for pytest: ours pass them, and another distribution's can.

Subclass `Conformance` in a test module and give it a fixture `end`, an `OtherEnd` for your kind; docs/rotators.md has
an example. pytest is needed to run it; nothing of the daemon imports this module.
"""
# ruff: noqa: S101, D102 — these are tests: they assert, and their names are their promises

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final

import pytest
from secretsd_bus import SigningKey, Unchained, rfc3339

from secretsd.crypto.sensitive import Sensitive
from secretsd.rotators.errors import Refused, Retryable, RotatorError
from secretsd.rotators.interface import Order, Rotator
from secretsd.rotators.registry import Misconfigured, RotatorRule, configure

PATIENCE_SECS: Final = 60.0
"""After this a step hangs; on a loaded machine one may take seconds."""
INTERRUPTED_AFTER_SECS: Final = (0.0, 0.002, 0.01, 0.03, 0.1)
"""When `set` is cut off: before it began, on the way, and where it may have been through already."""


@dataclass(kw_only=True)
class OtherEnd(ABC):
    """A real other end under test, where the value `old` is in force.

    `members` is what stands under `rotator:` in the policy, `kind` included; `secrets` are those that its steps read.
    """

    members: Mapping[str, object]
    old: Sensitive
    secrets: Mapping[str, Sensitive] = field(default_factory=dict)
    name: str = "conformance_password"
    signing_key: SigningKey = field(default_factory=SigningKey.generate)
    """What `Order.sign` signs with, for an end that verifies."""
    old_works_after_set: bool = False
    """Whether both values work during the grace, as with two roles in turn."""

    @abstractmethod
    async def accepts(self, value: Sensitive) -> bool:
        """Tell whether a client can use the value there now."""

    @abstractmethod
    def log(self) -> str:
        """Return all that the other end wrote so far; empty where it keeps none."""

    @abstractmethod
    def unreachable(self) -> Mapping[str, object]:
        """Return the members of a rule whose other end is down."""

    @abstractmethod
    def refusing(self) -> Mapping[str, object]:
        """Return the members of a rule that the other end refuses for good: no right, no such account."""

    @abstractmethod
    def silent(self) -> Mapping[str, object]:
        """Return the members of a rule whose other end takes the request and never answers; `timeout` is 1s."""


class Harness:
    """Runs steps the way the daemon does: each with a rotator of its own, and with the rule's time limit."""

    def __init__(self, end: OtherEnd, members: Mapping[str, object] | None = None) -> None:
        self.end = end
        self.rule: RotatorRule = configure(end.members if members is None else members)
        self._sealer = Unchained(log_id="conformance", node="test", key=end.signing_key, session=1)
        generated = Sensitive(secrets.token_urlsafe(48).encode())
        self.order = Order(
            name=end.name,
            token=secrets.token_urlsafe(16),
            version=2,
            new=self.rotator.shape(generated, end.old),
            old=end.old,
            read=self._read,
            sign=self._sign,
        )

    @property
    def rotator(self) -> Rotator[Any]:
        """A new rotator: nothing is kept from one step to the next, as after a restart."""
        return self.rule.build()

    async def set(self) -> None:
        await self._limited(self.rotator.set(self.order))

    async def test(self) -> None:
        await self._limited(self.rotator.test(self.order))

    async def rollback(self) -> None:
        await self._limited(self.rotator.rollback(self.order))

    async def finish(self) -> None:
        await self._limited(self.rotator.finish(self.order))

    async def interrupted_set(self, after_secs: float) -> None:
        """Begin `set` and cut it off."""
        step = asyncio.ensure_future(self.rotator.set(self.order))
        await asyncio.wait({step}, timeout=after_secs)
        step.cancel()
        await asyncio.wait({step})

    async def _limited(self, step: Coroutine[Any, Any, None]) -> None:
        async with asyncio.timeout(self.rule.timeout_ms / 1000):
            await step

    async def _read(self, name: str) -> Sensitive:
        assert name in self.rule.config.reads(), f"the step reads {name}, which the settings' reads() doesn't name"
        return self.end.secrets[name]

    def _sign(self, kind: str, data: Mapping[str, Any]) -> bytes:
        return self._sealer.seal(kind, self.end.name, dict(data), rfc3339(int(time.time() * 1000))).raw


def run(steps: Coroutine[Any, Any, None]) -> None:
    """Run a test's steps on a loop of their own; one that hangs fails."""

    async def patient() -> None:
        async with asyncio.timeout(PATIENCE_SECS):
            await steps

    asyncio.run(patient())


class Conformance:
    """The tests. Each has a fresh `end`, or one whose value in force is `end.old` again."""

    silence_is_told: ClassVar[bool] = True
    """False for an end that can't be silent."""

    @pytest.fixture
    def end(self) -> OtherEnd:
        """Return the other end; a subclass overrides it."""
        raise NotImplementedError("give your subclass of Conformance a fixture `end`")

    def test_the_new_value_works_after_set_and_the_old_one_until_then(self, end: OtherEnd) -> None:
        async def steps() -> None:
            rotation = Harness(end)
            rotation.rotator.check(rotation.order.new)
            assert await end.accepts(end.old)
            assert not await end.accepts(rotation.order.new)
            await rotation.set()
            await rotation.test()
            assert await end.accepts(rotation.order.new)
            assert await end.accepts(end.old) == end.old_works_after_set

        run(steps())

    def test_set_done_again_with_the_same_token_changes_nothing_more(self, end: OtherEnd) -> None:
        async def steps() -> None:
            rotation = Harness(end)
            for _ in range(3):
                await rotation.set()
                await rotation.test()
            assert await end.accepts(rotation.order.new)
            assert await end.accepts(end.old) == end.old_works_after_set

        run(steps())

    def test_the_test_fails_for_a_value_that_was_never_set(self, end: OtherEnd) -> None:
        async def steps() -> None:
            with pytest.raises(RotatorError):
                await Harness(end).test()
            assert await end.accepts(end.old)

        run(steps())

    @pytest.mark.parametrize("sets", [0, 1, 2])
    def test_a_rollback_brings_the_old_value_back_however_far_it_came(self, end: OtherEnd, sets: int) -> None:
        async def steps() -> None:
            rotation = Harness(end)
            for _ in range(sets):
                await rotation.set()
            await rotation.rollback()
            await rotation.rollback()
            assert await end.accepts(end.old)

        run(steps())

    @pytest.mark.parametrize("after_secs", INTERRUPTED_AFTER_SECS)
    def test_a_set_that_was_cut_off_is_done_again_or_undone(self, end: OtherEnd, after_secs: float) -> None:
        async def steps() -> None:
            rotation = Harness(end)
            await rotation.interrupted_set(after_secs)
            await rotation.rollback()
            assert await end.accepts(end.old)
            await rotation.interrupted_set(after_secs)
            await rotation.set()
            await rotation.test()
            assert await end.accepts(rotation.order.new)

        run(steps())

    def test_finish_leaves_the_new_value_working_and_can_be_done_again(self, end: OtherEnd) -> None:
        async def steps() -> None:
            rotation = Harness(end)
            await rotation.set()
            await rotation.test()
            await rotation.finish()
            # The version before may be destroyed by then: its value is empty.
            rotation.order = replace(rotation.order, old=Sensitive(b""))
            await rotation.finish()
            assert await end.accepts(rotation.order.new)

        run(steps())

    def test_one_rotation_follows_another_and_says_which_value_it_takes_the_place_of(self, end: OtherEnd) -> None:
        async def steps() -> None:
            values = [end.old]
            for _ in range(3):
                rotation = Harness(end)
                new = rotation.order.new
                # With two accounts in turn it takes that of the value before the current one, never the current one's.
                assert not rotation.rotator.displaces(values[-1], new)
                if len(values) > 1:
                    assert rotation.rotator.displaces(values[-2], new) == end.old_works_after_set
                values.append(new)
                await rotation.set()
                await rotation.test()
                await rotation.finish()
                assert await end.accepts(rotation.order.new)
                end.old = rotation.order.new

        run(steps())

    @pytest.mark.parametrize("step", ["set", "test", "rollback"])
    def test_an_end_that_is_down_may_be_asked_again(self, end: OtherEnd, step: str) -> None:
        async def steps() -> None:
            rotation = Harness(end, end.unreachable())
            with pytest.raises(Retryable) as failed:
                await getattr(rotation, step)()
            _tells_no_value(str(failed.value), rotation)

        run(steps())

    def test_an_end_that_refuses_need_not_be_asked_again(self, end: OtherEnd) -> None:
        async def steps() -> None:
            rotation = Harness(end, end.refusing())
            with pytest.raises(Refused) as failed:
                await rotation.set()
            _tells_no_value(str(failed.value), rotation)

        run(steps())

    def test_an_end_that_never_answers_is_left_in_time(self, end: OtherEnd) -> None:
        if not self.silence_is_told:
            pytest.skip("this end answers always")

        async def left(rotation: Harness, step: str) -> None:
            with pytest.raises((TimeoutError, Retryable)) as failed:
                await getattr(rotation, step)()
            _tells_no_value(str(failed.value), rotation)

        async def steps() -> None:
            rotation = Harness(end, end.silent())
            await asyncio.gather(*(left(rotation, step) for step in ("set", "test", "rollback")))

        run(steps())

    def test_no_value_is_in_a_log_of_ours_or_theirs(self, end: OtherEnd, caplog: pytest.LogCaptureFixture) -> None:
        async def steps() -> None:
            rotation = Harness(end)
            with pytest.raises(RotatorError) as failed:
                await rotation.test()
            _tells_no_value(str(failed.value), rotation)
            await rotation.set()
            await rotation.test()
            await rotation.rollback()
            await rotation.set()
            await rotation.finish()
            _tells_no_value(caplog.text, rotation)
            _tells_no_value(end.log(), rotation)

        with caplog.at_level(logging.DEBUG):
            run(steps())

    def test_a_member_that_the_kind_does_not_know_is_refused(self, end: OtherEnd) -> None:
        with pytest.raises(Misconfigured, match="surplus"):
            configure({**end.members, "surplus": "x"})


def _tells_no_value(text: str, rotation: Harness) -> None:
    """Fail when a value of the order, or one that was read, is in `text`; the failure doesn't repeat it."""
    values = [rotation.order.new, rotation.order.old, *rotation.end.secrets.values()]
    assert not any(value.reveal().decode(errors="replace") in text for value in values), "a value is in it"

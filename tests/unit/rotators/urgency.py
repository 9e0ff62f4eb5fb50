"""What an urgent rotation does to the login before, wherever two accounts are used in turn."""

from __future__ import annotations

import pytest

from secretsd.rotators import Retryable
from secretsd.rotators.conformance import Harness, OtherEnd


async def check_the_login_before_is_ended(end: OtherEnd) -> None:
    """Rotate urgently: the old value works until the rotation is finished, and not a moment longer."""
    rotation = Harness(end)
    assert [rotation.rotator.finishes(urgent=urgent) for urgent in (False, True)] == [False, True]
    await rotation.set()
    assert await end.accepts(end.old)
    unreachable = Harness(end, end.unreachable())
    unreachable.order = rotation.order
    with pytest.raises(Retryable, match="still logs in with its old password"):
        await unreachable.finish()
    for _ in range(2):
        await rotation.finish()
        assert await end.accepts(rotation.order.new)
        assert not await end.accepts(end.old)
    end.old = rotation.order.new
    following = Harness(end)
    await following.set()
    await following.test()

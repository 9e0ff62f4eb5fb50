from __future__ import annotations

import asyncio

import pytest
from secretsd_bus import Message

from secretsd.outbox.inbox import MESSAGES_MOST, PAYLOAD_MOST, Inbox


def message(payload: bytes) -> Message:
    return Message("topic", payload, retain=False, duplicate=False)


async def test_messages_are_taken_in_the_order_in_which_they_came() -> None:
    inbox = Inbox()
    for number in range(3):
        inbox.put(message(b"%d" % number))
    assert [(await inbox.get()).payload for _ in range(3)] == [b"0", b"1", b"2"]


async def test_a_flood_is_lost_beyond_what_fits_and_the_first_messages_stay() -> None:
    inbox = Inbox()
    for number in range(3 * MESSAGES_MOST):
        inbox.put(message(b"%d" % number))
    kept = [(await inbox.get()).payload for _ in range(MESSAGES_MOST)]
    assert kept == [b"%d" % number for number in range(MESSAGES_MOST)]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await inbox.get()


@pytest.mark.parametrize(("size", "kept"), [(PAYLOAD_MOST, PAYLOAD_MOST), (PAYLOAD_MOST + 1, 1)])
async def test_a_message_that_is_too_long_is_noticed_and_not_kept(size: int, kept: int) -> None:
    inbox = Inbox()
    inbox.put(message(b"{" * size))
    assert len((await inbox.get()).payload) == kept

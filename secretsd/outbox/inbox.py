"""What arrived on the bus and was not looked at yet: never more than fits, however much a broker sends."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import Final

from secretsd_bus import Message

MESSAGES_MOST: Final = 1024
PAYLOAD_MOST: Final = 16 * 1024
"""Statuses and checkpoints have under a thousand bytes. What is longer is nobody's, and not parsed to find that out."""


class Inbox:
    """A queue for one reader. What doesn't fit is lost: nothing that the daemon relies on comes in such a flood."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[Message] = asyncio.Queue(MESSAGES_MOST)

    def put(self, message: Message) -> None:
        """Keep a message for `get`; of one that is too long only so much that it can't be taken for a whole one."""
        if len(message.payload) > PAYLOAD_MOST:
            message = replace(message, payload=message.payload[:1])
        with contextlib.suppress(asyncio.QueueFull):
            self._messages.put_nowait(message)

    async def get(self) -> Message:
        """Return the next message; wait for one."""
        return await self._messages.get()

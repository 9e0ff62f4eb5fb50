"""Connections to the broker that hear and say harmless things, on topics that nobody else uses."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, Self

from secretsd_bus import BusDenied, BusError, BusLost, BusSettings, Link, Message, Topics

CONNECT_SECS: Final = 5.0
HEAR_SECS: Final = 3.0
GRACE_SECS: Final = 0.3
"""How much longer is waited for what must not come, after the broker has passed on what was said later."""

PAYLOAD: Final = b"secretsctl doctor"


class Ear:
    """One connection, and all that it has heard."""

    def __init__(self) -> None:
        self.heard: list[Message] = []
        self._news = asyncio.Event()
        self.link: Link

    @classmethod
    async def connect(cls, settings: BusSettings) -> Self:
        """Connect under a random client id. Raises BusError."""
        ear = cls()
        ear.link = await Link.connect(
            settings,
            client_id=f"doctor-{secrets.token_hex(8)}",
            on_message=ear._take,
            timeout_secs=CONNECT_SECS,
        )
        return ear

    def _take(self, message: Message) -> None:
        self.heard.append(message)
        self._news.set()

    async def wait(self, done: Callable[[], bool], seconds: float) -> bool:
        """Wait until what was heard makes `done` true; tell whether it did in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not done():
                    self._news.clear()
                    await self._news.wait()
        return done()

    async def hears(self, topic: str, seconds: float = HEAR_SECS) -> bool:
        """Tell whether something comes on `topic`, or has come."""
        return await self.wait(lambda: any(message.topic == topic for message in self.heard), seconds)

    async def hears_count(self, count: int, seconds: float) -> bool:
        """Tell whether as many messages come, or have come."""
        return await self.wait(lambda: len(self.heard) >= count, seconds)

    async def say(self, topic: str) -> bool:
        """Publish a message without content or consequence; tell whether the broker acknowledged it."""
        try:
            async with asyncio.timeout(HEAR_SECS):
                await self.link.publish(topic, PAYLOAD)
        except (BusDenied, BusLost, TimeoutError):
            return False
        return True

    async def listen(self, filters: Sequence[str]) -> bool:
        """Subscribe; tell whether the broker grants it. That proves no right: Mosquitto grants what its ACL denies."""
        try:
            async with asyncio.timeout(HEAR_SECS):
                await self.link.subscribe(filters)
        except (BusDenied, BusLost, TimeoutError):
            return False
        return True


@contextlib.asynccontextmanager
async def connected(settings: BusSettings) -> AsyncIterator[Ear]:
    """Hold a connection. Raises BusError."""
    ear = await Ear.connect(settings)
    try:
        yield ear
    finally:
        await ear.link.disconnect()


async def can_connect(settings: BusSettings) -> BusError | None:
    """Return why no connection comes about, None when one does."""
    try:
        async with connected(settings):
            return None
    except BusError as error:
        return error


def canary_topic(prefix: str, what: str = "canary") -> str:
    """Return a topic under the prefix that nobody else speaks on or listens to."""
    return f"{prefix}/doctor/{what}/{secrets.token_hex(8)}"


async def retained(settings: BusSettings) -> Sequence[Message] | None:
    """Return what the broker keeps of checkpoints and statuses under the prefix.

    It is complete when what is published after the subscription comes back; None when it doesn't. Raises BusError.
    """
    topics = Topics(settings.topic_prefix)
    own = canary_topic(topics.prefix)
    async with connected(settings) as ear:
        await ear.listen([topics.checkpoint("+"), topics.status("+"), own])
        await ear.say(own)
        if not await ear.hears(own):
            return None
        return [message for message in ear.heard if message.topic != own]

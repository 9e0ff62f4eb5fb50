"""What the try-out watches: the live service's reports, and verified events from the bus."""

import asyncio
import os
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import msgspec
from secretsd_bus import (
    BusError,
    BusSettings,
    Event,
    KeyRing,
    Link,
    Message,
    Refused,
    Topics,
    Verifier,
    VerifyKey,
)

from demo.child import Child, running
from demo.errors import TryoutError
from demo.place import SERVICE, Place, client_environment

DEADLINE_SECS = 15.0
RETRY_SECS = 2.0

T = TypeVar("T")


class Report(msgspec.Struct, frozen=True):
    """A line of `demo.service`."""

    what: str
    version: int
    kid: str
    took_ns: int
    at_ns: int
    at_ms: int


@dataclass(frozen=True)
class Heard:
    """An event whose signature was checked, and when it arrived on the clock that all processes share."""

    event: Event
    topic: str
    at_ns: int


class Seen(Generic[T]):
    """A stream of things: each goes to who waits for it, and to `feed` when that is set."""

    def __init__(self) -> None:
        self.feed: Callable[[T], None] | None = None
        self._waiting: list[tuple[Callable[[T], bool], asyncio.Future[T]]] = []

    def offer(self, item: T) -> None:
        """One more was seen."""
        for matches, future in self._waiting:
            if not future.done() and matches(item):
                future.set_result(item)
        self._waiting = [waiting for waiting in self._waiting if not waiting[1].done()]
        if self.feed is not None:
            self.feed(item)

    def expect(self, matches: Callable[[T], bool]) -> asyncio.Future[T]:
        """Await the first that matches, from now on: call it before what causes it."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((matches, future))
        return future


async def within(future: asyncio.Future[T], what: str) -> T:
    """Await the result; raises TryoutError, naming what didn't come, after fifteen seconds."""
    try:
        async with asyncio.timeout(DEADLINE_SECS):
            return await future
    except TimeoutError:
        raise TryoutError(f"{what} did not come within {DEADLINE_SECS:.0f} s; the logs in .run say more") from None


class Ears:
    """A subscriber of the bus that believes signatures only."""

    def __init__(self, bus: BusSettings, public_key: Path) -> None:
        self.heard: Seen[Heard] = Seen()
        self.refused = 0
        self.listening = asyncio.Event()
        self._bus = bus
        self._topics = Topics(bus.topic_prefix)
        self._verifier = Verifier(self._topics, KeyRing([VerifyKey.from_pem(public_key.read_bytes())]))

    async def run(self) -> None:
        """Listen until cancelled, over every loss of the broker."""
        filters = [
            f"{self._bus.topic_prefix}/secret/+/+",
            self._topics.audit("secret", "read"),
            self._topics.audit("access", "denied"),
            self._topics.audit("access", "failed"),
        ]
        while True:
            try:
                link = await Link.connect(
                    self._bus, client_id=f"tryout-{os.getpid()}-{time.monotonic_ns()}", on_message=self._take
                )
                try:
                    await link.subscribe(filters)
                    self.listening.set()
                    await link.closed
                finally:
                    await link.disconnect()
            except BusError:
                pass  # the daemon's own log and /healthz tell about the broker
            await asyncio.sleep(RETRY_SECS)

    def _take(self, message: Message) -> None:
        at_ns = time.monotonic_ns()
        try:
            event = self._verifier.verify(message.topic, message.payload)
        except Refused:
            self.refused += 1
            return
        if event.type != "secret.state":
            self.heard.offer(Heard(event, message.topic, at_ns))


class LiveService:
    """The service in its own process."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.seen: Seen[Report] = Seen()

    async def run(self) -> None:
        """Take its reports until it ends."""
        stdout = self.child.process.stdout
        while stdout is not None and (line := await stdout.readline()):
            self.seen.offer(msgspec.json.decode(line, type=Report))

    async def read(self) -> Report:
        """Have it read its secret once more; what it got, without the value."""
        report = self.seen.expect(lambda report: report.what == "read")
        stdin = self.child.process.stdin
        if stdin is not None:
            stdin.write(b"\n")
            await stdin.drain()
        return await within(report, "a read by the live service")


async def open_service(stack: AsyncExitStack, place: Place, url: str, bus: BusSettings, name: str) -> LiveService:
    """Start the live service, holding one secret, in a process that ends with the stack."""
    child = await stack.enter_async_context(
        running(
            "the live service",
            [sys.executable, "-m", "demo.service", name],
            log=place.log("service"),
            env=client_environment(place, SERVICE, url, bus),
            talks=True,
        )
    )
    return LiveService(child)

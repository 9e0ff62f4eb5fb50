"""Publishes on their way: a window of unacknowledged ones, and behind it those that wait for their turn."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from secretsd_bus.errors import BusLost


@dataclass(frozen=True, slots=True)
class Publish:
    """One message, and whom to tell when it is acknowledged. `since` is the loop's time."""

    topic: str
    payload: bytes
    retain: bool
    content_type: str
    done: asyncio.Future[None]
    since: float


class Outgoing:
    """Keeps the broker's receive maximum: what goes beyond it may cost the connection."""

    def __init__(self, send: Callable[[Publish], int | None], window: int) -> None:
        """`send` writes one message and returns its number, None when there is no connection."""
        self._send = send
        self._sent: dict[int, Publish] = {}
        self._waiting: deque[Publish] = deque()
        self._changed = asyncio.Event()
        self._lost: str | None = None
        self.window = window

    def __len__(self) -> int:
        """How many are not acknowledged, those that wait included."""
        return len(self._sent) + len(self._waiting)

    @property
    def oldest(self) -> Publish | None:
        """The one that has waited longest for its acknowledgement."""
        return next(iter(self._sent.values()), None)

    @property
    def pending(self) -> list[asyncio.Future[None]]:
        """The futures of all that are not acknowledged."""
        return [publish.done for publish in (*self._sent.values(), *self._waiting)]

    def add(self, publish: Publish) -> None:
        """Send now when the window has room, else in turn."""
        if self._waiting or len(self._sent) >= self.window:
            self._waiting.append(publish)
        else:
            self._dispatch(publish)

    def acknowledged(self, number: int, refusal: Exception | None) -> None:
        """Settle the message of this number, and let the next ones go."""
        publish = self._sent.pop(number, None)
        if publish is None:
            return
        if not publish.done.done():
            if refusal is None:
                publish.done.set_result(None)
            else:
                publish.done.set_exception(refusal)
        while self._waiting and len(self._sent) < self.window:
            waiting = self._waiting.popleft()
            if not waiting.done.done():
                self._dispatch(waiting)
        self._changed.set()

    async def room(self) -> None:
        """Wait until a message would go out at once. Raises BusLost when the connection goes."""
        while len(self) >= self.window and self._lost is None:
            self._changed.clear()
            await self._changed.wait()
        if self._lost is not None:
            raise BusLost(self._lost)

    def lose(self, reason: str) -> None:
        """Fail everything: nothing is kept for another connection."""
        self._lost = reason
        for future in self.pending:
            fail(future, BusLost(reason))
        self._sent.clear()
        self._waiting.clear()
        self._changed.set()

    def _dispatch(self, publish: Publish) -> None:
        number = self._send(publish)
        if number is None:
            fail(publish.done, BusLost("the connection was lost"))
        else:
            self._sent[number] = publish


def fail(future: asyncio.Future[None], error: Exception) -> None:
    """Fail a future that nobody may be waiting for; that the connection is gone is said elsewhere too."""
    with contextlib.suppress(asyncio.InvalidStateError):
        future.set_exception(error)
        future.exception()  # marks it as seen

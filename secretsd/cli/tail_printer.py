"""tail's output: messages shown in order, held back while the history is read."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable

from secretsd_bus import Event, Message

from secretsd.cli.errors import Failed
from secretsd.cli.event_lines import event_line, forged_line, missing_line
from secretsd.cli.history import History
from secretsd.cli.output import console
from secretsd.cli.sieve import Missing, Shown, Sieve


class Printer:
    """Shows messages and counts the events among them. Made on the event loop that it is used on."""

    def __init__(self, sieve: Sieve, history: History | None, *, count: int | None, as_json: bool) -> None:
        self._sieve = sieve
        self._history = history
        self._left = count
        self._as_json = as_json
        self._held: list[Message] | None = None
        self.gap = asyncio.Event()
        """Lines are missing that the history has: nothing more is shown until `catch_up`."""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def hold(self) -> None:
        """Keep messages back until `catch_up`, where there is a history."""
        if self._history is not None and self._held is None:
            self._held = []

    async def catch_up(self) -> None:
        """Show what the history has beyond what was seen, then what was held back. Raises Failed, Unreachable."""
        if self._history is None:
            return
        async for line in self._history.lines(self._sieve.position):
            self._show(self._sieve.take_line(line))
        self.release()

    def release(self) -> None:
        """Show what was held back, and go on."""
        held, self._held = self._held or [], None
        self.gap.clear()
        for message in held:
            self._show(self._sieve.take(message.topic, message.payload))

    def __call__(self, message: Message) -> None:
        """Show one message. What printing raises ends it all: nobody reads any more."""
        if self._held is not None:
            self._held.append(message)
            return
        stop = self._history is not None
        shown = self._sieve.take(message.topic, message.payload, stop_at_gap=stop)
        if stop and any(isinstance(one, Missing) for one in shown):
            self._held = [message]
            self.gap.set()
        else:
            self._show(shown)

    def _show(self, shown: Iterable[Shown]) -> None:
        for one in shown:
            if self.done.done():
                return
            try:
                self._print(one)
            except (OSError, ValueError, Failed) as error:
                self.done.set_exception(error)
                return
            if self._left is not None and isinstance(one, Event):
                self._left -= 1
                if self._left == 0:
                    self.done.set_result(None)

    def _print(self, shown: Shown) -> None:
        if not isinstance(shown, Event):
            line = missing_line(shown) if isinstance(shown, Missing) else forged_line(shown)
            console(err=self._as_json).print(line)
        elif self._as_json:
            sys.stdout.buffer.write(shown.raw + b"\n")
            sys.stdout.buffer.flush()
        else:
            console().print(event_line(shown))
            sys.stdout.flush()

"""A man in the middle of TCP connections: passes bytes on, and can stop doing so."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Literal, Self, TypeVar

from tests.support.waiting import PATIENCE_SECS

T = TypeVar("T")
Direction = Literal["up", "down"]
"""Up goes to the real server, down comes from it."""


class Relay:
    """Listens on a port of its own and passes connections on to `target`. A context manager; runs on a thread."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self.accepted = 0
        """How many connections came so far."""
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)
        self._open: dict[Direction, asyncio.Event] = {"up": asyncio.Event(), "down": asyncio.Event()}
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(PATIENCE_SECS)
        self.thaw()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(PATIENCE_SECS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_SECS)
        self._loop.close()

    def freeze(self, *directions: Direction) -> None:
        """Pass nothing on in these directions (none given: in both); connections stay, and new ones are taken."""
        for direction in directions or ("up", "down"):
            self.call(self._open[direction].clear)

    def thaw(self) -> None:
        """Pass on again, first what came meanwhile."""
        for gate in self._open.values():
            self.call(gate.set)

    def cut(self) -> None:
        """End all connections; new ones are taken."""
        self.call(lambda: [connection.cancel() for connection in self._connections])

    def call(self, work: Callable[[], T]) -> T:
        """Do it on the relay's thread; return what it returns."""

        async def called() -> T:
            return work()

        return asyncio.run_coroutine_threadsafe(called(), self._loop).result(PATIENCE_SECS)

    async def converse(self, near: Peer, far: Peer) -> None:
        """Pass on what `near` (who connected to us) and `far` (the target) say until one of them ends."""
        ways = [asyncio.ensure_future(way) for way in (self.up(near, far), self.down(near, far))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def up(self, near: Peer, far: Peer) -> None:
        """Pass on what `near` says."""
        await self._copy("up", near, far)

    async def down(self, near: Peer, far: Peer) -> None:
        """Pass on what `far` says."""
        await self._copy("down", far, near)

    async def _copy(self, direction: Direction, source: Peer, sink: Peer) -> None:
        while chunk := await source.reader.read(65536):
            await self.passing(direction)
            await sink.send(chunk)

    async def passing(self, direction: Direction) -> None:
        """Wait while this direction is frozen."""
        await self._open[direction].wait()

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        connection = asyncio.ensure_future(self._serve(Peer(reader, writer)))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _serve(self, near: Peer) -> None:
        # Whichever side goes, or isn't there: the other one sees the connection end.
        with contextlib.suppress(OSError, EOFError):
            async with near.closing():
                far = Peer(*await asyncio.open_connection("127.0.0.1", self._target))
                async with far.closing():
                    await self.converse(near, far)


class Peer:
    """One end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        """Send, and wait while the peer is slow."""
        self._writer.write(data)
        await self._writer.drain()

    def send_now(self, data: bytes) -> None:
        """Send without waiting; a peer that is gone gets nothing."""
        if not self._writer.is_closing():
            self._writer.write(data)

    @contextlib.asynccontextmanager
    async def closing(self) -> AsyncIterator[None]:
        """Close at the end."""
        try:
            yield
        finally:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()

"""An answer that is too long to be in memory: it goes onto the wire piece by piece, at the pace the peer takes it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

from aiohttp.web import BaseRequest

from secretsd.api.answers import Answer


class StreamedAnswer(Answer):
    """A 200 whose length isn't known before its end: chunked, or up to the end of the connection for HTTP/1.0."""

    __slots__ = ("_pieces",)

    def __init__(self, pieces: AsyncGenerator[bytes, None], *, content_type: str, position: str | None) -> None:
        super().__init__(200, content_type=content_type, position=position)
        self._pieces = pieces

    @staticmethod
    async def of_pieces(pieces: AsyncGenerator[bytes, None], *, content_type: str, position: str | None) -> Answer:
        """Return the answer that holds `pieces`; a plain one where there is one piece at most."""
        first = await anext(pieces, b"")
        second = await anext(pieces, b"")
        if not second:
            return Answer(200, first, content_type=content_type, position=position)
        return StreamedAnswer(_joined([first, second], pieces), content_type=content_type, position=position)

    async def prepare(self, request: BaseRequest) -> None:
        """Note the request that is answered; one of HTTP/1.0 can be told the end only by a close."""
        await super().prepare(request)
        self.keep_alive = self.keep_alive and request.version.minor > 0

    async def write_eof(self) -> None:
        """Send head and pieces. Raises ConnectionError when the peer is gone, or the log can't be read on."""
        request = self.request
        if request is None:
            raise RuntimeError("an answer is prepared before it is written")
        self.request = None
        writer, chunked = request.writer, request.version.minor > 0
        await writer.write(self.head(request))
        if request.method == "HEAD":
            await self._pieces.aclose()
            return
        try:
            async for piece in self._pieces:
                await writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                await writer.drain()
        except OSError as error:
            # An end without the last chunk: whoever reads this knows that something is missing.
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("the answer could not be completed") from error
        finally:
            await self._pieces.aclose()
        if chunked:
            await writer.write(b"0\r\n\r\n")
            await writer.drain()

    def _framing(self, request: BaseRequest) -> str:
        return "Transfer-Encoding: chunked\r\n" if request.version.minor > 0 else ""


async def _joined(begun: list[bytes], pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with contextlib.aclosing(pieces):
        while begun:
            yield begun.pop(0)
        async for piece in pieces:
            yield piece

"""A page of the audit log, read from it a piece at a time: however long it is, little of it is in memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Generator
from typing import Final

from secretsd.audit.reader import LogReader
from secretsd.errors import Problem

PIECE_BYTES: Final = 256 * 1024


def pieces(
    reader: LogReader, *, after: int | None, since: str, limit: int, durable: int
) -> Generator[bytes, None, None]:
    """Yield up to `limit` lines, newlines included, in pieces of PIECE_BYTES and a line at most. Blocks.

    Raises Problem `history-gone` before the first piece where lines are missing at the page's beginning. A hole later
    on ends the page: the next one begins in it and is told so.
    """
    if after is not None:
        first = reader.first_sequence(after + 1)
        if first is not None and after + 1 < first:
            raise _gone(first)
    begin = reader.beginning(after or 0, since) if since else after or 0
    if begin is None:
        return
    piece = bytearray()
    count, last = 0, None if after is None else begin
    for place, line in reader.lines(begin):
        if count == limit or place.number > durable:
            break
        if last is not None and place.number != last + 1:
            if count == 0:
                raise _gone(place.number)
            break
        last, count = place.number, count + 1
        piece += line + b"\n"
        if len(piece) >= PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)


async def page(source: Generator[bytes, None, None]) -> AsyncGenerator[bytes, None]:
    """Return the pieces of `source`, each read in a thread when it is asked for, the first one now.

    Raises what `source` raises before its first piece.
    """
    first = await asyncio.to_thread(next, source, b"")
    return _rest(first, source)


async def _rest(first: bytes, source: Generator[bytes, None, None]) -> AsyncGenerator[bytes, None]:
    try:
        piece = first
        while piece:
            yield piece
            piece = await asyncio.to_thread(next, source, b"")
    finally:
        # Cancelled amid a piece the thread is still at it; the file is closed with the generator then.
        with contextlib.suppress(ValueError):
            source.close()


def _gone(first: int) -> Problem:
    return Problem("history-gone", f"The lines before {first} are no longer here: ask with after={first - 1}.")

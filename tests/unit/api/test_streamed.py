"""Answers that are too long for memory: framed so that their end is seen, and made no faster than they are taken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from tests.unit.api.conftest import Ask, Connect
from tests.unit.api.support import DEADLINE, FakeService, Wire, request

PIECES = [b'{"a":1}\n', b'{"b":2}\n{"b":3}\n', b'{"c":4}\n']


async def body(wire: Wire) -> bytes:
    """Return a chunked body up to its last chunk. Raises IncompleteReadError where that never comes."""
    found = b""
    async with asyncio.timeout(DEADLINE):
        while size := int(await wire.reader.readuntil(b"\r\n"), 16):
            found += await wire.reader.readexactly(size)
            assert await wire.reader.readexactly(2) == b"\r\n"
        assert await wire.reader.readexactly(2) == b"\r\n"
    return found


async def test_several_pieces_are_chunks_and_the_connection_stays(
    service: FakeService, port: int, connect: Connect
) -> None:
    service.audit_pieces = PIECES
    wire = await connect(port)
    for _ in range(2):
        await wire.send(request("GET", "/audit"))
        head = await wire.reply()
        assert head.headers["transfer-encoding"] == "chunked"
        assert "content-length" not in head.headers
        assert head.headers["content-type"] == "application/x-ndjson"
        assert await body(wire) == b"".join(PIECES)


async def test_one_piece_is_a_plain_answer(service: FakeService, ask: Ask) -> None:
    for pieces in (PIECES[:1], []):
        service.audit_pieces = pieces
        reply = await ask("GET", "/audit")
        assert (reply.headers["content-length"], reply.body) == (str(len(b"".join(pieces))), b"".join(pieces))


async def test_http_1_0_is_told_the_end_by_a_close(service: FakeService, port: int, connect: Connect) -> None:
    service.audit_pieces = PIECES
    wire = await connect(port)
    await wire.send(request("GET", "/audit").replace(b"HTTP/1.1", b"HTTP/1.0"))
    head = await wire.reply()
    assert "transfer-encoding" not in head.headers
    async with asyncio.timeout(DEADLINE):
        assert await wire.reader.read() == b"".join(PIECES)


async def test_head_has_no_body(service: FakeService, port: int, connect: Connect) -> None:
    service.audit_pieces = PIECES
    wire = await connect(port)
    await wire.send(request("HEAD", "/audit"))
    assert (await wire.reply(head_only=True)).headers["transfer-encoding"] == "chunked"
    await wire.send(request("GET", "/healthz"))
    assert (await wire.reply()).status == 200


async def test_a_reader_that_takes_nothing_has_little_made_for_it(
    service: FakeService, port: int, connect: Connect
) -> None:
    service.audit_pieces = [b"x" * 262_144] * 1000
    wire = await connect(port, limit=1024)
    wire.writer.transport.pause_reading()
    await wire.send(request("GET", "/audit"))
    other = await connect(port)
    for _ in range(200):
        await other.send(request("GET", "/healthz"))
        assert (await other.reply()).status == 200
    assert 2 <= service.audit_taken < 100


async def test_an_answer_that_breaks_off_is_seen_to(service: FakeService, port: int, connect: Connect) -> None:
    async def broken() -> AsyncGenerator[bytes, None]:
        yield PIECES[0]
        yield PIECES[1]
        raise OSError("the file is gone")

    service._audit_pieces = broken  # type: ignore[method-assign]
    wire = await connect(port)
    await wire.send(request("GET", "/audit"))
    assert (await wire.reply()).status == 200
    try:
        await body(wire)
    except (asyncio.IncompleteReadError, ConnectionError):
        return
    raise AssertionError("it looks complete")

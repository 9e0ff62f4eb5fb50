from __future__ import annotations

import asyncio
import logging

import pytest

from secretsd.api import problems
from secretsd.errors import PROBLEM_STATUS, Problem
from tests.unit.api.conftest import Ask, Connect
from tests.unit.api.support import POSITION, FakeService, request

PLANTED = "hunter2-planted"


def test_every_slug_has_a_title() -> None:
    assert problems.TITLES.keys() == PROBLEM_STATUS.keys()


@pytest.mark.parametrize("slug", PROBLEM_STATUS)
async def test_every_problem_is_rendered_as_rfc_9457_has_it(ask: Ask, service: FakeService, slug: str) -> None:
    service.fail = Problem(slug, "Do this.", headers={"Retry-After": "7"}, position=POSITION)
    reply = await ask("GET", "/secret/a")
    assert reply.status == PROBLEM_STATUS[slug]
    assert reply.problem == slug
    assert reply.json == {
        "type": slug,
        "title": problems.TITLES[slug],
        "status": PROBLEM_STATUS[slug],
        "detail": "Do this.",
        "request_id": reply.headers["x-request-id"],
    }
    assert reply.headers["retry-after"] == "7"
    assert reply.headers["vault-generation"] == POSITION
    assert reply.headers.get("www-authenticate") == ("Bearer" if reply.status == 401 else None)


async def test_an_unknown_path_is_404_and_an_unfit_method_405_with_allow(ask: Ask) -> None:
    for path in (
        "/",
        "/secret",
        "/secrets/",
        "/secret/",
        "/secret//restore",
        "/secret/a/b",
        "/secret/a/restore/",
        "//",
    ):
        assert (await ask("GET", path)).status == (405 if path == "/secret" else 404), path
    reply = await ask("PATCH", "/secret/a")
    assert (reply.status, reply.problem) == (405, "method-not-allowed")
    assert reply.headers["allow"] == "GET, HEAD, PUT, DELETE"
    assert (await ask("PUT", "/secrets", {}, b"{}")).headers["allow"] == "GET, HEAD, POST"
    assert (await ask("OPTIONS", "/rotate")).headers["allow"] == "POST"


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + PLANTED.encode() + b"\r\n\r\n",
        b"GET /" + PLANTED.encode() + b"\r\n\r\n",
        b"GET /secret/a HTTP/1.1\r\nHost: localhost\r\n" + PLANTED.encode() + b"\r\n\r\n",
        b"GET /secret/a HTTP/1.1\r\nHost: localhost\r\nX-Jarvis-Client: " + PLANTED.encode() + b"\x00\r\n\r\n",
        b"GET /" + PLANTED.encode() * 1000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: " + PLANTED.encode() * 1000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nA: " + PLANTED.encode() + b"\r\n" + b"B: x\r\n" * 100 + b"\r\n",
        b"POST /rotate HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + PLANTED.encode() + b"\r\n\r\n",
        b"POST /rotate HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
    ids=[
        "TLS",
        "no version",
        "no colon",
        "NUL",
        "long line",
        "long header",
        "many headers",
        "bad length",
        "both framings",
    ],
)
async def test_what_is_not_http_gets_a_problem_and_is_quoted_nowhere(
    port: int, caplog: pytest.LogCaptureFixture, data: bytes, connect: Connect
) -> None:
    caplog.set_level(logging.DEBUG)
    wire = await connect(port)
    await wire.send(data)
    reply = await wire.reply()
    assert (reply.status, reply.problem) == (400, "invalid-request")
    assert reply.headers["connection"] == "close"
    assert await wire.ended()
    assert PLANTED.encode() not in reply.raw
    assert PLANTED not in caplog.text


async def test_an_unexpected_error_is_a_500_that_tells_nothing(
    ask: Ask, service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    service.fail = RuntimeError(f"the value is {PLANTED}")
    reply = await ask("GET", "/secret/a")
    assert (reply.status, reply.problem) == (500, "internal-error")
    assert PLANTED.encode() not in reply.raw
    (record,) = [record for record in caplog.records if record.name == "secretsd.api"]
    assert "RuntimeError at " in record.getMessage()
    assert "support.py:" in record.getMessage()
    assert reply.headers["x-request-id"] in record.getMessage()
    assert PLANTED not in caplog.text
    assert record.exc_info is None


async def test_planted_values_are_in_no_answer_and_no_log(
    port: int, service: FakeService, caplog: pytest.LogCaptureFixture, connect: Connect
) -> None:
    caplog.set_level(logging.DEBUG)
    planted = PLANTED.encode()
    requests = [
        request("GET", f"/secret/{PLANTED}?{PLANTED}={PLANTED}"),
        request("GET", f"/{PLANTED}"),
        request("GET", f"/secret/a?version={PLANTED}"),
        request("GET", f"/secret/a?kid={PLANTED}"),
        request("GET", f"/changes?since={PLANTED}"),
        request("GET", "/secret/a", {"Authorization": f"Bearer {PLANTED}"}, client=PLANTED),
        request("GET", "/secret/a", {"Origin": PLANTED}),
        request("GET", "/secret/a", {"If-None-Match": f'"{PLANTED}"'}),
        request("GET", "/secret/a", host=f"{PLANTED}.example"),
        request("PUT", "/secret/a", {"If-Match": PLANTED}, b"{}"),
        request("PUT", "/secret/a", {"Idempotency-Key": PLANTED * 50}, b"{}"),
        request("PUT", "/secret/a", {"Content-Type": PLANTED}, b"{}"),
        request("PUT", "/secret/a", {}, planted),
        request("PUT", "/secret/a", {}, b'{"' + planted + b'":1}'),
        request("PUT", "/secret/a", {}, b'{"value":"v","encoding":"' + planted + b'"}'),
        request("PUT", "/secret/a", {}, b'{"value":"v","grace_period":"' + planted + b'"}'),
        request("PUT", "/secret/a", {}, b'{"value":"' + planted + b'","reason":1}'),
        request(PLANTED.upper(), "/secret/a"),
    ]
    for data in requests:
        wire = await connect(port)
        await wire.send(data)
        reply = await wire.reply()
        assert planted not in reply.raw
        assert PLANTED.upper().encode() not in reply.raw
    assert "GET /secret/{name} 200 in " in caplog.text
    assert PLANTED not in caplog.text
    assert PLANTED.upper() not in caplog.text


async def test_a_client_that_goes_away_does_not_undo_what_it_asked_for(
    port: int, service: FakeService, caplog: pytest.LogCaptureFixture, connect: Connect
) -> None:
    service.hold = asyncio.Event()
    wire = await connect(port)
    await wire.send(request("DELETE", "/secret/a"))
    async with asyncio.timeout(5):
        await service.entered.wait()
        await wire.close()
        service.hold.set()
        await service.metrics.counted.wait()
    assert service.metrics.requests == [("/secret/{name}", "DELETE", 204)]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []

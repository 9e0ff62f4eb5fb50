from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from secretsd.api import guards
from secretsd.api.connections import Peer
from secretsd.api.guards import GUARDS
from tests.unit.api.conftest import Ask, Connect, Launch
from tests.unit.api.support import KID, FakeService, request

OPEN = ("/healthz", "/metrics", "/openapi.json", "/keys", "/.well-known/jwks.json")
PUT_BODY = b'{"value":"v"}'

# A request that fails at every guard; taking the faults away one by one shows the order in which they are found.
FAULTS: list[tuple[str, str, dict[str, Any]]] = [
    (
        "headers_are_sane",
        "invalid-request",
        {"headers": [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]},
    ),
    ("came_directly", "foreign-request", {"headers": [("Origin", "http://evil.example")]}),
    ("host_is_ours", "foreign-request", {"host": "evil.example"}),
    ("body_fits", "too-large", {"headers": [("Content-Length", "1048577")]}),
    ("body_is_json", "unsupported-media-type", {"headers": [("Content-Type", "text/plain")]}),
    ("identify", "missing-client", {"client": None}),
]


def test_guards_stand_in_the_documented_order() -> None:
    assert [guard.__name__ for guard in GUARDS] == [
        "target_is_a_path",
        "headers_are_sane",
        "came_directly",
        "host_is_ours",
        "peer_is_near",
        "route_exists",
        "conditions_are_kept",
        "body_fits",
        "body_is_json",
    ]


@pytest.mark.parametrize("first", range(len(FAULTS)), ids=[name for name, _, _ in FAULTS])
async def test_of_several_faults_the_first_guards_is_answered(ask: Ask, first: int) -> None:
    headers: list[tuple[str, str]] = []
    named: dict[str, Any] = {}
    for _, _, fault in FAULTS[first:]:
        headers += fault.get("headers", [])
        named |= {key: value for key, value in fault.items() if key != "headers"}
    reply = await ask("PUT", "/secret/a", headers, PUT_BODY, **named)
    assert reply.problem == FAULTS[first][1]


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (("Origin", "http://127.0.0.1:8081"), "origin header"),
        (("Origin", "null"), "origin header"),
        (("Referer", "http://evil.example/"), "referer header"),
        (("Forwarded", "for=1.2.3.4"), "forwarded header"),
        (("X-Forwarded-For", "1.2.3.4"), "x-forwarded header"),
        (("x-forwarded-proto", "https"), "x-forwarded header"),
        (("X-Forwarded-Anything", ""), "x-forwarded header"),
        (("Via", "1.1 proxy"), "via header"),
        (("Sec-Fetch-Site", "cross-site"), "sec-fetch-site header"),
        (("Sec-Fetch-Site", "same-site"), "sec-fetch-site header"),
    ],
)
async def test_what_a_page_or_a_proxy_sends_is_refused_and_audited(
    ask: Ask, service: FakeService, header: tuple[str, str], reason: str
) -> None:
    reply = await ask("GET", "/secret/a", [header])
    assert (reply.status, reply.problem) == (403, "foreign-request")
    assert service.foreign == [("read", reason)]
    assert service.calls == []


async def test_a_site_that_is_named_twice_is_refused(ask: Ask, service: FakeService) -> None:
    reply = await ask("GET", "/secret/a", [("Sec-Fetch-Site", "none"), ("Sec-Fetch-Site", "cross-site")])
    assert (reply.status, reply.problem) == (400, "invalid-request")
    assert service.calls == []


@pytest.mark.parametrize("path", OPEN)
async def test_open_calls_refuse_foreign_requests_too(ask: Ask, path: str) -> None:
    assert (await ask("GET", path, {"Origin": "http://evil.example"}, client=None)).problem == "foreign-request"
    assert (await ask("GET", path, host="evil.example", client=None)).problem == "foreign-request"


@pytest.mark.parametrize("path", OPEN)
async def test_open_calls_need_no_client(ask: Ask, service: FakeService, path: str) -> None:
    reply = await ask("GET", path, client=None)
    assert reply.status == 200
    assert service.claims == []
    assert "vault-generation" not in reply.headers


async def test_a_page_asking_for_an_unknown_path_learns_nothing_of_paths(ask: Ask, service: FakeService) -> None:
    assert (await ask("GET", "/nothing", {"Origin": "null"})).problem == "foreign-request"
    assert service.foreign == [("unknown", "origin header")]


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8081",
        "localhost.",
        "127.0.0.1:1",
        "127.255.0.3",
        "localhost:",
        "[::1]",
        "[::1]:8081",
        "vault.lan:80",
    ],
)
async def test_loopback_and_allowed_hosts_are_served(ask: Ask, host: str) -> None:
    assert (await ask("GET", "/secret/a", host=host)).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "evil.example:8081",
        "10.0.0.1",
        "0.0.0.0",
        "2130706433",
        "127.1",
        "[::]",
        "vault.lan.evil.example",
        "user@localhost",
        "localhost:80:80",
    ],
)
async def test_other_hosts_are_foreign(ask: Ask, service: FakeService, host: str) -> None:
    assert (await ask("GET", "/secret/a", host=host)).problem == "foreign-request"
    assert service.foreign == [("read", "host header")]


async def test_a_missing_or_doubled_host_is_refused_on_tcp(ask: Ask, port: int, connect: Connect) -> None:
    reply = await ask("GET", "/secret/a", host=None)
    assert (reply.status, reply.problem, reply.json["detail"]) == (400, "invalid-request", "Send a Host header.")
    wire = await connect(port)
    await wire.send(b"GET /secret/a HTTP/1.0\r\nX-Jarvis-Client: backend\r\n\r\n")
    assert (await wire.reply()).problem == "invalid-request"
    assert (await ask("GET", "/secret/a", {"Host": "localhost"})).status == 400


async def test_the_unix_socket_is_exempt_from_the_host_rule_only(
    server: Any, service: FakeService, socket_path: Path, connect: Connect
) -> None:
    wire = await connect(socket_path)
    await wire.send(request("GET", "/secret/a", host="evil.example"))
    assert (await wire.reply()).status == 200
    await wire.send(request("GET", "/secret/a", {"Origin": "null"}))
    assert (await wire.reply()).problem == "foreign-request"
    await wire.send(b"GET /secret/a HTTP/1.0\r\nX-Jarvis-Client: backend\r\n\r\n")
    assert (await wire.reply()).status == 200
    assert {claims.peer for claims in service.claims} == {"unix"}


async def test_connections_prove_the_uid_of_their_owner(
    ask: Ask, service: FakeService, socket_path: Path, connect: Connect
) -> None:
    await ask("GET", "/secret/a")
    wire = await connect(socket_path)
    await wire.send(request("GET", "/secret/a"))
    await wire.reply()
    assert [(claims.peer, claims.peer_uid) for claims in service.claims] == [
        ("127.0.0.1", os.getuid()),
        ("unix", os.getuid()),
    ]


@pytest.mark.parametrize(("deny", "status"), [("true", 403), ("false", 200)])
async def test_peers_over_the_network_are_let_in_only_when_told(
    service: FakeService, launch: Launch, monkeypatch: pytest.MonkeyPatch, deny: str, status: int, connect: Connect
) -> None:
    far = Peer(address="10.1.2.3", uid=None, unix=False, loopback=False)
    monkeypatch.setattr("secretsd.api.connections.peer_of", lambda _transport, _trust: far)
    server = await launch(security=f"deny_network_remote = {deny}")
    wire = await connect(int(server.url.rpartition(":")[2]))
    await wire.send(request("GET", "/secret/a"))
    assert (await wire.reply()).status == status
    assert service.foreign == ([("read", "network peer")] if deny == "true" else [])


@pytest.mark.parametrize("target", ["http://127.0.0.1/secret/a", "*", "/secret/a#b", "/secret/ü"])
async def test_a_target_that_is_no_plain_path_is_refused(ask: Ask, target: str) -> None:
    reply = await ask("GET", target)
    assert (reply.status, reply.problem) == (400, "invalid-request")


@pytest.mark.parametrize(
    "headers",
    [
        [("X-Jarvis-Client", "admin")],
        [("Authorization", "Bearer a"), ("authorization", "Bearer b")],
        [("User-Agent", "größe")],
        [("Expect", "miracles")],
    ],
)
async def test_doubled_and_odd_headers_are_refused(ask: Ask, headers: list[tuple[str, str]]) -> None:
    reply = await ask("GET", "/secret/a", headers)
    assert (reply.status, reply.problem) == (400, "invalid-request")


@pytest.mark.parametrize(
    ("authorization", "bearer"),
    [
        (None, None),
        ("Bearer abc", "abc"),
        ("bearer  abc", "abc"),
        ("BEARER abc", "abc"),
        ("Bearer", ""),
        ("Bearer ", ""),
        ("Basic YTpi", ""),
        ("abc", ""),
    ],
)
async def test_credentials_are_a_bearer_token_or_never_right(
    ask: Ask, service: FakeService, authorization: str | None, bearer: str | None
) -> None:
    await ask("GET", "/secret/a", {} if authorization is None else {"Authorization": authorization})
    assert service.claims[0].bearer == bearer


async def test_the_request_id_is_ours_whatever_is_sent(ask: Ask, service: FakeService) -> None:
    reply = await ask("GET", "/secret/a", {"X-Request-Id": "chosen"})
    assert reply.headers["x-request-id"] == service.claims[0].request_id != "chosen"
    assert len(reply.headers["x-request-id"]) == 16


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        'application/json;charset="UTF-8"',
    ],
)
async def test_json_in_utf8_is_taken(ask: Ask, content_type: str) -> None:
    assert (await ask("PUT", "/secret/a", {"Content-Type": content_type}, PUT_BODY)).status == 200


@pytest.mark.parametrize(("coding", "status"), [("chunked", 200), ("Chunked", 200), ("gzip, chunked", 415)])
async def test_chunks_are_the_only_transfer_coding(ask: Ask, coding: str, status: int) -> None:
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(PUT_BODY), PUT_BODY)
    assert (await ask("PUT", "/secret/a", {"Transfer-Encoding": coding}, chunks)).status == status


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Type": "application/jsonp"},
        {"Content-Type": ""},
        {"Content-Encoding": "gzip"},
    ],
)
async def test_any_other_body_is_unsupported(ask: Ask, headers: dict[str, str]) -> None:
    reply = await ask("PUT", "/secret/a", headers, PUT_BODY)
    assert (reply.status, reply.problem) == (415, "unsupported-media-type")


@pytest.mark.parametrize(
    ("method", "path", "header"),
    [
        ("DELETE", "/secret/a", "If-Match"),
        ("POST", "/secret/a/restore", "If-Match"),
        ("POST", "/rotate", "If-Match"),
        ("POST", "/secret", "If-None-Match"),
        ("PUT", "/secret/a", "If-None-Match"),
    ],
)
async def test_a_change_is_not_made_past_a_condition_that_is_not_looked_at(
    ask: Ask, service: FakeService, method: str, path: str, header: str
) -> None:
    reply = await ask(method, path, {header: f'"{KID}"'}, None if method == "DELETE" else b"{}")
    assert (reply.status, reply.problem) == (400, "invalid-request")
    assert service.calls == []


async def test_a_call_without_a_body_refuses_one(ask: Ask) -> None:
    assert (await ask("GET", "/secrets", {}, b"{}")).problem == "invalid-request"
    assert (await ask("DELETE", "/secret/a", {}, b"{}")).problem == "invalid-request"
    assert (await ask("DELETE", "/secret/a", {"Content-Length": "0"})).status == 204


async def test_a_body_may_have_1_mib_and_8_for_a_rotation(ask: Ask) -> None:
    filler = b" " * (1024 * 1024)
    assert (await ask("PUT", "/secret/a", {}, PUT_BODY + filler[len(PUT_BODY) :])).status == 200
    assert (await ask("PUT", "/secret/a", {}, PUT_BODY + filler)).problem == "too-large"
    rotation = b'{"names":["a"]}'
    assert (await ask("POST", "/rotate", {}, rotation + filler * 7)).status == 200
    assert (await ask("POST", "/rotate", {}, rotation + filler * 8)).problem == "too-large"


async def test_a_chunked_body_is_measured_as_it_comes(ask: Ask) -> None:
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    body = chunk + b"1\r\n \r\n0\r\n\r\n"
    reply = await ask("PUT", "/secret/a", {"Transfer-Encoding": "chunked"}, body)
    assert (reply.status, reply.problem) == (413, "too-large")


@pytest.mark.parametrize("allowed", ["fd00:0:0::1", "FD00::1"])
@pytest.mark.parametrize("host", ["[fd00::1]", "[FD00:0:0:0:0:0:0:1]:8081"])
async def test_an_allowed_address_is_one_in_each_spelling(
    launch: Launch, connect: Connect, allowed: str, host: str
) -> None:
    server = await launch(f'allowed_hosts = ["{allowed}"]')
    wire = await connect(int(server.url.rpartition(":")[2]))
    await wire.send(request("GET", "/secret/a", host=host))
    assert (await wire.reply()).status == 200


def test_host_names_are_compared_without_port_case_and_final_dot() -> None:
    assert guards._host_name("Vault.LAN.:80") == ("vault.lan", False)
    assert guards._host_name("[::ffff:127.0.0.1]") == ("127.0.0.1", True)
    assert guards._host_name("a b") == ("", False)

"""Each call of the table reaches its method of the service, and its answer says what the service said."""

from __future__ import annotations

import json
from typing import Any

import pytest

from secretsd.model import UNSET, BatchEntry, CreateSecret, CreateSecrets, PutSecret, RestoreRequest, RotateRequest
from secretsd.service import Selector
from tests.unit.api.conftest import Ask, Connect
from tests.unit.api.support import KID, METADATA, POSITION, VALUE, FakeService, request


def asked(service: FakeService) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    (call,) = service.calls
    return call


async def test_a_secret_is_answered_with_value_position_and_etag(ask: Ask, service: FakeService) -> None:
    reply = await ask("GET", "/secret/brave_api_key")
    assert reply.status == 200
    assert reply.json == {**METADATA, "value": VALUE, "encoding": "utf-8"}
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["etag"] == f'"{KID}"'
    assert reply.headers["vault-generation"] == POSITION
    assert asked(service) == (
        "read",
        ("brave_api_key", Selector()),
        {"if_none_match": None, "min_generation": None, "head": False},
    )


async def test_the_published_keys_are_for_caches_and_are_not_sent_twice(ask: Ask) -> None:
    reply = await ask("GET", "/.well-known/jwks.json")
    assert reply.headers["cache-control"] == "public, max-age=1234"
    tag = reply.headers["etag"]
    again = await ask("GET", "/.well-known/jwks.json", {"If-None-Match": f'"other", {tag}'})
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
    assert again.headers["cache-control"] == "public, max-age=1234"
    assert (await ask("GET", "/.well-known/jwks.json", {"If-None-Match": '"other"'})).status == 200


@pytest.mark.parametrize(
    ("method", "target"),
    [("GET", "/secret/a"), ("GET", "/secrets"), ("GET", "/healthz"), ("GET", "/nothing"), ("PUT", "/secret/a")],
)
async def test_every_answer_keeps_out_of_caches_and_carries_an_id(ask: Ask, method: str, target: str) -> None:
    reply = await ask(method, target)
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["x-request-id"]
    assert reply.headers["date"].endswith(" GMT")
    assert reply.headers["server"] == "secretsd"


@pytest.mark.parametrize(
    ("query", "selector"),
    [
        ("", Selector()),
        ("?version=3", Selector(version=3)),
        ("?version=previous", Selector(previous=True)),
        (f"?kid={KID}", Selector(kid=KID)),
        (f"?k%69d={KID}", Selector(kid=KID)),
        ("?version=9007199254740991", Selector(version=2**53 - 1)),
    ],
)
async def test_a_version_is_chosen_by_the_query(ask: Ask, service: FakeService, query: str, selector: Selector) -> None:
    assert (await ask("GET", f"/secret/a{query}")).status == 200
    assert asked(service)[1] == ("a", selector)


@pytest.mark.parametrize(
    "target",
    [
        "/secret/a?version=0",
        "/secret/a?version=-1",
        "/secret/a?version=+1",
        "/secret/a?version=01",
        "/secret/a?version=1.0",
        "/secret/a?version=",
        "/secret/a?version=9007199254740992",
        "/secret/a?version=latest",
        "/secret/a?version=%D9%A3",
        "/secret/a?kid=short",
        f"/secret/a?kid={KID}&version=1",
        f"/secret/a?kid={KID}&version=previous",
        "/secret/a?version=1&version=1",
        "/secret/a?unknown=1",
        "/secret/a?version",
        "/secret/a?min_generation=-1",
        "/secret/a?version=%ff",
        "/secret/a?&",
        "/secrets?a=1",
        "/changes?since=",
        "/changes?since=epoch",
        "/changes?since=epoch:x",
        "/changes?since=epoch:9999999999999999999",
        "/changes?since=ep%0Aoch:1",
        "/audit?limit=0",
        "/audit?limit=10001",
        "/audit?after=x",
        "/audit?since=yesterday",
        "/audit?since=2026-11-23T17:00:00",
        "/audit?since=2026-11-23T17:00:00+01:00",
        "/audit?since=2026-13-23T17:00:00Z",
        "/healthz?a=1",
    ],
)
async def test_a_query_that_is_not_exactly_right_is_400(ask: Ask, service: FakeService, target: str) -> None:
    reply = await ask("GET", target)
    assert (reply.status, reply.problem) == (400, "invalid-request")
    assert service.calls == []


@pytest.mark.parametrize(
    ("target", "named"),
    [
        ("/audit", {"after": None, "since_ms": None, "limit": 1000}),
        ("/audit?after=0&limit=10000", {"after": 0, "since_ms": None, "limit": 10000}),
        ("/audit?since=1970-01-01T00:00:01.5Z", {"after": None, "since_ms": 1500, "limit": 1000}),
        ("/audit?since=1970-01-01t01:00:00%2B01:00", {"after": None, "since_ms": 0, "limit": 1000}),
        ("/audit?since=2026-11-23T17:00:00.123Z", {"after": None, "since_ms": 1795453200123, "limit": 1000}),
        # As a fraction of seconds in binary this one is a little less than its milliseconds.
        ("/audit?since=2026-11-23T17:00:00.057Z", {"after": None, "since_ms": 1795453200057, "limit": 1000}),
        ("/audit?since=2026-11-23T17:00:00.0561Z", {"after": None, "since_ms": 1795453200057, "limit": 1000}),
        ("/audit?since=9999-12-31T23:59:59-01:00", {"after": None, "since_ms": 253402300799999, "limit": 1000}),
        ("/audit?since=0001-01-01T00:00:00%2B01:00", {"after": None, "since_ms": -62135596800000, "limit": 1000}),
    ],
)
async def test_audit_lines_are_asked_for_by_sequence_and_time(
    ask: Ask, service: FakeService, target: str, named: dict[str, Any]
) -> None:
    reply = await ask("GET", target)
    assert asked(service)[2] == named
    assert reply.headers["content-type"] == "application/x-ndjson"
    assert reply.headers["vault-generation"] == POSITION
    assert reply.body == b'{"a":1}\n{"a":2}\n'


@pytest.mark.parametrize(
    "header",
    [f'"{KID}"', f'W/"{KID}"', "*", f'"other", "{KID}"', f'"other",W/"{KID}" , "third"', f', "{KID}" ,'],
)
async def test_a_version_that_the_caller_has_is_304_without_a_body(ask: Ask, header: str) -> None:
    reply = await ask("GET", "/secret/a", {"If-None-Match": header})
    assert (reply.status, reply.body) == (304, b"")
    assert reply.headers["etag"] == f'"{KID}"'
    assert reply.headers["vault-generation"] == POSITION
    assert "content-length" not in reply.headers


@pytest.mark.parametrize("header", ['"other"', '"*"', '"a", "b"', KID, '"unclosed', f'"{KID}" x', ""])
async def test_any_other_condition_gets_the_value(ask: Ask, header: str) -> None:
    assert (await ask("GET", "/secret/a", {"If-None-Match": header})).status == 200


async def test_conditions_on_several_lines_are_one_list(ask: Ask) -> None:
    lines = [("If-None-Match", '"other"'), ("If-None-Match", f'"{KID}"')]
    assert (await ask("GET", "/secret/a", lines)).status == 304


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/secret/a%2Fb", "a/b"),
        ("/secret/%2e%2e", ".."),
        ("/secret/..", ".."),
        ("/secret/%ff", "\ufffd"),
        ("/secret/a%00", "a\x00"),
        ("/secret/%C3%BC", "ü"),
        ("/secret/a+b", "a+b"),
    ],
)
async def test_a_name_is_passed_on_as_it_came(ask: Ask, service: FakeService, path: str, name: str) -> None:
    assert (await ask("GET", path)).status == 200
    assert asked(service)[1][0] == name


async def test_a_secret_is_made(ask: Ask, service: FakeService) -> None:
    body = {"name": "brave_api_key", "value": "v", "type": "api_key", "rotation_days": 3, "grace_period": "never"}
    reply = await ask("POST", "/secret", {"Idempotency-Key": "k 1"}, json.dumps(body).encode())
    assert (reply.status, reply.json) == (201, METADATA)
    assert reply.headers["location"] == "/secret/brave_api_key"
    assert reply.headers["etag"] == f'"{KID}"'
    assert asked(service) == ("create", (CreateSecret(**body),), {"idempotency_key": "k 1"})


async def test_secrets_are_made_all_at_once(ask: Ask, service: FakeService) -> None:
    body = {"secrets": [{"name": "a", "value": "v"}, {"name": "b", "value": "w", "replaces": "k" * 16}]}
    reply = await ask("POST", "/secrets", {"Idempotency-Key": "k 2"}, json.dumps(body).encode())
    assert reply.status == 201
    assert [one["name"] for one in reply.json["secrets"]] == ["brave_api_key"]
    entries = [BatchEntry(name="a", value="v"), BatchEntry(name="b", value="w", replaces="k" * 16)]
    assert asked(service) == ("create_all", (CreateSecrets(secrets=entries),), {"idempotency_key": "k 2"})


async def test_a_secret_without_a_value_is_to_be_generated(ask: Ask, service: FakeService) -> None:
    assert (await ask("POST", "/secret", {}, b'{"name":"a"}')).status == 201
    assert asked(service)[1][0].value is UNSET


@pytest.mark.parametrize(("header", "kid"), [(None, None), (f'"{KID}"', KID), ("*", "*")])
async def test_a_secret_is_updated_where_it_is_still_what_the_caller_saw(
    ask: Ask, service: FakeService, header: str | None, kid: str | None
) -> None:
    headers = {} if header is None else {"If-Match": header}
    reply = await ask("PUT", "/secret/a", headers, b'{"value":"v","urgent":true}')
    assert (reply.status, reply.json) == (200, METADATA)
    assert asked(service) == (
        "update",
        ("a", PutSecret(value="v", urgent=True)),
        {"if_match": kid, "idempotency_key": None},
    )


@pytest.mark.parametrize("header", [KID, f'W/"{KID}"', f'"{KID}", "b"', ""])
async def test_an_if_match_that_names_no_one_version_is_400(ask: Ask, service: FakeService, header: str) -> None:
    reply = await ask("PUT", "/secret/a", {"If-Match": header}, b'{"value":"v"}')
    assert (reply.status, reply.problem) == (400, "invalid-request")
    assert service.calls == []


@pytest.mark.parametrize("key", ["", "x" * 201, "a\tb"])
async def test_an_odd_idempotency_key_is_400(ask: Ask, key: str) -> None:
    assert (await ask("DELETE", "/secret/a", {"Idempotency-Key": key})).status == 400


async def test_secrets_are_rotated_restored_and_deleted(ask: Ask, service: FakeService) -> None:
    rotated = await ask("POST", "/rotate", {}, b'{"names":["a","b"],"reason":"leak"}')
    assert (rotated.status, rotated.json) == (200, {"rotated": [METADATA]})
    restored = await ask("POST", "/secret/a/restore", {}, b'{"version":2}')
    assert (restored.status, restored.json) == (200, METADATA)
    deleted = await ask("DELETE", "/secret/a")
    assert (deleted.status, deleted.body) == (204, b"")
    assert "content-length" not in deleted.headers
    assert {rotated.headers["vault-generation"], deleted.headers["vault-generation"]} == {POSITION}
    assert service.calls == [
        ("rotate", (RotateRequest(names=["a", "b"], reason="leak"),), {"idempotency_key": None}),
        ("restore", ("a", RestoreRequest(version=2)), {"idempotency_key": None}),
        ("delete", ("a",), {"idempotency_key": None}),
    ]


async def test_lists_changes_and_the_bus_are_answered(ask: Ask, service: FakeService) -> None:
    assert (await ask("GET", "/secrets")).json == {"secrets": [METADATA]}
    changes = await ask("GET", "/changes?since=ep-och_1:41")
    assert (changes.json["epoch"], changes.json["changes"][0]["status"]) == ("ep-och_1", "deleted")
    assert (await ask("GET", "/bus")).json == {"url": "mqtt://127.0.0.1:1883", "topic_prefix": "p", "node": "n"}
    assert service.calls == [("list", (), {}), ("changes", ("ep-och_1:41",), {})]


async def test_health_is_503_only_when_the_daemon_cannot_serve(ask: Ask, service: FakeService) -> None:
    assert (await ask("GET", "/healthz")).json["bus"] == "disabled"
    service.state = "unavailable"
    reply = await ask("GET", "/healthz")
    assert (reply.status, reply.json["status"]) == (503, "unavailable")


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("*/*", "text/plain"),
        ("application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5", "openmetrics-text"),
    ],
)
async def test_prometheus_gets_the_format_that_it_asks_for(ask: Ask, accept: str, content_type: str) -> None:
    reply = await ask("GET", "/metrics", {"Accept": accept, "X-Prometheus-Scrape-Timeout-Seconds": "10"}, client=None)
    assert reply.status == 200
    assert content_type in reply.headers["content-type"]
    assert b"fake_things_total 0.0" in reply.body


@pytest.mark.parametrize("kind", ["application/openmetrics-text", "text/plain"])
@pytest.mark.parametrize("version", ["planted", "1..0", "1.0.0.planted", "2.0.0", ""])
async def test_a_format_that_there_is_not_is_neither_an_error_nor_repeated(ask: Ask, kind: str, version: str) -> None:
    reply = await ask("GET", "/metrics", {"Accept": f"{kind}; version={version}"}, client=None)
    assert (reply.status, reply.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")


async def test_key_sets_are_answered(ask: Ask) -> None:
    assert (await ask("GET", "/keys")).json["keys"][0]["kid"] == "event"
    assert (await ask("GET", "/.well-known/jwks.json")).json["keys"][0]["kid"] == "published"


async def test_head_answers_as_get_without_the_body(ask: Ask, service: FakeService) -> None:
    whole = await ask("GET", "/secret/a")
    head = await ask("HEAD", "/secret/a")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == whole.headers["content-length"]
    assert [named["head"] for _, _, named in service.calls] == [False, True]


async def test_requests_are_counted_under_templates_never_paths(ask: Ask, service: FakeService) -> None:
    await ask("GET", "/secret/brave_api_key")
    await ask("GET", "/nothing/hunter2")
    await ask("TRACE", "/secret/hunter2")
    assert service.metrics.requests == [
        ("/secret/{name}", "GET", 200),
        ("unknown", "GET", 404),
        ("unknown", "other", 405),
    ]


async def test_requests_on_one_connection_are_answered_in_order(
    port: int, service: FakeService, connect: Connect
) -> None:
    wire = await connect(port)
    await wire.send(b"".join(request("GET", f"/secret/n{number}") for number in range(50)))
    assert [(await wire.reply()).status for _ in range(50)] == [200] * 50
    assert [call[1][0] for call in service.calls] == [f"n{number}" for number in range(50)]


async def test_http_1_0_closes_unless_it_asks_to_keep(port: int, connect: Connect) -> None:
    wire = await connect(port)
    head = b"GET /secret/a HTTP/1.0\r\nHost: localhost\r\nX-Jarvis-Client: backend\r\n"
    await wire.send(head + b"Connection: keep-alive\r\n\r\n")
    assert (await wire.reply()).headers["connection"] == "keep-alive"
    await wire.send(head + b"\r\n")
    assert (await wire.reply()).headers["connection"] == "close"
    assert await wire.ended()


async def test_an_offer_to_upgrade_is_declined(port: int, connect: Connect) -> None:
    wire = await connect(port)
    await wire.send(request("GET", "/secret/a", {"Connection": "Upgrade", "Upgrade": "websocket"}))
    assert (await wire.reply()).status == 200

"""What the daemon says of itself: health, metrics, OpenAPI, keys, where the bus is."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator

import pytest
from openapi_spec_validator import validate
from secretsd_bus import VerifyKey

from tests.support.broker import Broker
from tests.support.daemon import NODE, Daemon
from tests.support.http import Api

Unique = Callable[..., str]


@pytest.fixture(scope="module")
def daemon(broker: Broker, module_prefix: str) -> Iterator[Daemon]:
    with Daemon(bus=broker.url, prefix=module_prefix) as running:
        yield running


@pytest.fixture
def api(daemon: Daemon) -> Api:
    return daemon.api


def test_health_needs_no_client_and_has_the_old_fields_and_the_bus(daemon: Daemon, api: Api) -> None:
    daemon.wait_bus()
    health = api.as_(None).get("/healthz").ok()
    assert health["status"] == "ok"
    assert isinstance(health["version"], str)
    assert isinstance(health["uptime_secs"], int)
    assert isinstance(health["secrets_count"], int)
    assert health["bus"] == "connected"


def test_the_count_of_secrets_follows_creation_and_deletion(api: Api, unique: Unique) -> None:
    before = api.health()["secrets_count"]
    name = unique("x")
    api.create(name, "v")
    assert api.health()["secrets_count"] == before + 1
    api.delete(f"/secret/{name}").ok(204)
    assert api.health()["secrets_count"] == before


def test_metrics_are_prometheus_text_without_names(api: Api, unique: Unique) -> None:
    name = unique("metric_canary")
    api.create(name, "v")
    api.secret(name)
    answer = api.as_(None).get("/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    text = answer.body.decode()
    assert "# TYPE" in text
    assert name not in text
    assert '"admin"' not in text
    assert '"backend"' not in text


def test_openapi_is_valid_3_1_and_names_every_call(api: Api) -> None:
    document = api.as_(None).get("/openapi.json").ok()
    assert document["openapi"].startswith("3.1")
    validate(document)
    calls = {(method, path) for path, item in document["paths"].items() for method in item}
    assert calls >= {
        ("get", "/healthz"), ("get", "/metrics"), ("get", "/openapi.json"), ("get", "/keys"),
        ("get", "/.well-known/jwks.json"), ("get", "/bus"), ("get", "/secrets"), ("get", "/changes"),
        ("get", "/secret/{name}"), ("post", "/secret"), ("put", "/secret/{name}"), ("post", "/rotate"),
        ("post", "/secret/{name}/restore"), ("delete", "/secret/{name}"), ("get", "/audit"),
    }  # fmt: skip


FRAMING = {"server", "date", "content-type", "content-length", "x-content-type-options"}
"""What every answer of HTTP has."""


def test_every_status_and_header_that_is_seen_is_described(api: Api, unique: Unique) -> None:
    calls = api.get("/openapi.json").ok()["paths"]
    name, key = unique("x"), {"Idempotency-Key": unique("key")}
    by_path = f"/secret/{name}"
    made = api.post("/secret", {"name": name, "value": "v1"}, key)
    kid = {"If-None-Match": made.headers["ETag"]}
    seen = [
        ("post", "/secret", made),
        ("post", "/secret", api.post("/secret", {"name": name, "value": "v1"})),
        ("post", "/secret", api.call("POST", "/secret", raw=b"{")),
        ("get", "/secret/{name}", api.get(by_path)),
        ("get", "/secret/{name}", api.get(by_path, kid)),
        ("get", "/secret/{name}", api.get(f"{by_path}?min_generation=9007199254740991")),
        ("get", "/secret/{name}", api.as_(None).get(by_path)),
        ("get", "/secret/{name}", api.as_("backend").get(by_path)),
        ("put", "/secret/{name}", api.put(by_path, {"value": "v2"}, {"If-Match": '"another"'})),
        ("post", "/rotate", api.post("/rotate", {"names": [name]})),
        ("get", "/changes", api.get("/changes?since=another:1")),
        ("get", "/healthz", api.get("/healthz", {"Origin": "null"})),
        ("get", "/.well-known/jwks.json", api.get("/.well-known/jwks.json")),
        ("delete", "/secret/{name}", api.delete(by_path)),
        ("post", "/secret", api.post("/secret", {"name": name, "value": "v1"}, key)),
    ]
    assert {answer.status for _, _, answer in seen} == {200, 201, 204, 304, 400, 401, 403, 404, 409, 410, 412, 422}
    for method, path, answer in seen:
        described = calls[path][method]["responses"][str(answer.status)]
        assert answer.status < 400 or answer.slug in described["description"], (method, path)
        assert {header.lower() for header in answer.headers} - FRAMING <= {
            header.lower() for header in described["headers"]
        }, (method, path, answer.status)


def test_keys_hold_the_event_signing_key_under_its_keyid(daemon: Daemon, api: Api) -> None:
    keys = api.as_(None).get("/keys").ok()["keys"]
    raw = base64.urlsafe_b64decode(keys[0]["x"] + "=")
    assert keys[0]["kty"] == "OKP"
    assert keys[0]["crv"] == "Ed25519"
    assert keys[0]["kid"] == hashlib.sha256(raw).hexdigest()[:16]
    assert VerifyKey.from_pem(daemon.public_key_path.read_bytes()) == VerifyKey.from_jwk(keys[0])
    assert keys[0]["kid"] == daemon.lines()[0]["keyid"]
    assert "d" not in keys[0]


def test_bus_says_where_the_broker_is_and_no_credentials(daemon: Daemon, api: Api) -> None:
    answer = api.as_("backend").get("/bus").ok()
    assert answer == {"url": daemon.bus, "topic_prefix": daemon.prefix, "node": NODE}


def test_bus_needs_a_client(api: Api) -> None:
    api.as_(None).get("/bus").refused(401, "missing-client")


def test_without_a_bus_there_is_no_bus_to_name(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon().start()
    daemon.api.get("/bus").refused(404, "not-found")
    assert daemon.api.health()["bus"] == "disabled"

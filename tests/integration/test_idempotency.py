"""A change that may or may not have been made: the same Idempotency-Key makes asking again safe."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support.broker import Broker
from tests.support.daemon import Daemon
from tests.support.http import Answer, Api
from tests.support.waiting import eventually

Unique = Callable[..., str]
Change = Callable[[Api, str, str], Answer]
"""Makes a change to a secret with an Idempotency-Key."""


def keyed(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key}


CHANGES: dict[str, Change] = {
    "create": lambda api, name, key: api.post("/secret", {"name": f"{name}-new", "type": "generic"}, keyed(key)),
    "update": lambda api, name, key: api.put(f"/secret/{name}", {"value": "v3"}, keyed(key)),
    "rotate": lambda api, name, key: api.post("/rotate", {"names": [name]}, keyed(key)),
    "restore": lambda api, name, key: api.post(f"/secret/{name}/restore", {"version": 1}, keyed(key)),
    "delete": lambda api, name, key: api.delete(f"/secret/{name}", keyed(key)),
}
CHANGED = {"secret.created", "secret.updated", "secret.rotated", "secret.deleted"}


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon() as running:
        yield running


def made(daemon: Daemon) -> int:
    """How many changes the log knows of."""
    return sum(line["type"].removeprefix("jarvis.secretsd.") in CHANGED for line in daemon.lines())


@pytest.mark.parametrize("kind", CHANGES)
def test_a_repeated_change_is_answered_alike_and_made_once(daemon: Daemon, unique: Unique, kind: str) -> None:
    name, key = unique(kind), unique("key")
    daemon.api.create(name, type="generic")
    daemon.api.rotate(name)
    before = made(daemon)
    first = CHANGES[kind](daemon.api, name, key)
    assert first.status in {200, 201, 204}
    again = CHANGES[kind](daemon.api, name, key)
    assert (again.status, again.body, again.position) == (first.status, first.body, first.position)
    assert made(daemon) == before + 1


def test_a_repetition_is_known_after_a_kill(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon().start()
    daemon.api.create("x", type="generic")
    first = daemon.api.post("/rotate", {"names": ["x"]}, keyed("k")).ok()
    daemon.sigkill()
    daemon.start()
    assert daemon.api.post("/rotate", {"names": ["x"]}, keyed("k")).ok() == first
    assert daemon.api.secret("x")["version"] == 2


def test_a_key_is_one_requests_and_one_clients(daemon: Daemon, unique: Unique) -> None:
    name, key = unique("x"), unique("key")
    daemon.api.create(name, "v1")
    daemon.api.put(f"/secret/{name}", {"value": "v2"}, keyed(key)).ok()
    daemon.api.put(f"/secret/{name}", {"value": "v3"}, keyed(key)).refused(422, "invalid-request")
    other = daemon.api.create(unique("y"), "v1")["name"]
    daemon.api.put(f"/secret/{other}", {"value": "v2"}, keyed(key)).refused(422, "invalid-request")
    daemon.api.as_("backend").put(f"/secret/{name}", {"value": "v2"}, keyed(key)).refused(403, "forbidden")
    assert daemon.api.put(f"/secret/{name}", {"value": "v3"}, keyed(unique("key"))).ok()["version"] == 3


def test_a_request_on_another_condition_is_another_request(daemon: Daemon, unique: Unique) -> None:
    name, key = unique("x"), unique("key")
    kid = daemon.api.create(name, "v1")["kid"]
    on_first = {"If-Match": f'"{kid}"', **keyed(key)}
    first = daemon.api.put(f"/secret/{name}", {"value": "v2"}, on_first)
    assert daemon.api.put(f"/secret/{name}", {"value": "v2"}, on_first).ok() == first.ok()
    for other in ({}, {"If-Match": "*"}, {"If-Match": first.headers["ETag"]}):
        daemon.api.put(f"/secret/{name}", {"value": "v2"}, keyed(key) | other).refused(422, "invalid-request")


def test_a_repetition_names_its_own_version_so_that_a_condition_on_it_overwrites_nobody(
    daemon: Daemon, unique: Unique
) -> None:
    name, key = unique("x"), unique("key")
    daemon.api.create(name, "v1")
    first = daemon.api.put(f"/secret/{name}", {"value": "mine"}, keyed(key))
    daemon.api.put(f"/secret/{name}", {"value": "theirs"}).ok()
    again = daemon.api.put(f"/secret/{name}", {"value": "mine"}, keyed(key))
    assert (again.ok()["version"], again.headers["ETag"]) == (2, first.headers["ETag"])
    on_it = {"If-Match": again.headers["ETag"]}
    daemon.api.put(f"/secret/{name}", {"value": "mine too"}, on_it).refused(412, "precondition-failed")
    assert daemon.api.value(name) == "theirs"
    daemon.api.put(f"/secret/{name}", {"value": "leaked?", "urgent": True}).ok()
    daemon.api.put(f"/secret/{name}", {"value": "mine"}, keyed(key)).refused(404, "version-not-found")


def test_a_refused_change_leaves_its_key_free(daemon: Daemon, unique: Unique) -> None:
    name, key = unique("x"), unique("key")
    daemon.api.put(f"/secret/{name}", {"value": "v"}, keyed(key)).refused(404, "not-found")
    daemon.api.create(name, "v1")
    assert daemon.api.put(f"/secret/{name}", {"value": "v"}, keyed(key)).ok()["version"] == 2


@pytest.mark.parametrize("key", ["", "x" * 201, "a\tb", "\u00e4"])
def test_a_key_of_another_form_is_refused(daemon: Daemon, unique: Unique, key: str) -> None:
    daemon.api.post("/secret", {"name": unique("x"), "value": "v"}, keyed(key)).refused(400, "invalid-request")


def test_a_change_whose_line_can_not_be_written_is_unknown_unserved_and_untold_until_it_is_completed(
    broker: Broker, prefix: str, new_daemon: Callable[..., Daemon]
) -> None:
    daemon = new_daemon(bus=broker.url, prefix=prefix).start().wait_bus()
    daemon.api.create("x", "v1")
    folder = daemon.audit_path.parent
    away = folder.with_name("away")
    with daemon.tap() as tap:
        topic = tap.topics.secret_event("x", "updated")
        folder.rename(away)
        unknown = daemon.api.put("/secret/x", {"value": "v2"}, keyed("k"))
        unknown.refused(503, "outcome-unknown")
        assert "same Idempotency-Key" in unknown.json()["detail"]
        assert int(unknown.headers["Retry-After"]) > 0
        daemon.api.get("/secret/x").refused(503, "audit-unavailable")
        daemon.api.put("/secret/x", {"value": "v2"}, keyed("k")).refused(503, "audit-unavailable")
        assert daemon.api.get("/healthz").status == 503
        assert tap.on(topic) == []
        away.rename(folder)
        assert daemon.api.put("/secret/x", {"value": "v2"}, keyed("k")).ok()["version"] == 2
        assert daemon.api.value("x") == "v2"
        tap.wait_topic(topic)
        eventually(lambda: daemon.api.get("/healthz").status == 200, "it can serve again")
    versions = [event.data["version"] for event in daemon.verified_log() if event.type == "secret.updated"]
    assert versions == [2]

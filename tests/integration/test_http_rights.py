"""What each right of a client lets it do, and that a refusal tells nothing about names."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from tests.support.daemon import Daemon
from tests.support.http import Api

Unique = Callable[..., str]
POLICY = {
    "default_deny": True,
    "clients": {
        "admin": {"allow": ["*"], "deny": []},
        "backend": {"allow": ["postgres_password", "shared_*"], "deny": ["shared_private*"]},
        "writer": {"allow": ["*"], "can": ["write"]},
        "rotator": {"allow": ["*"], "can": ["read", "rotate"]},
        "remover": {"allow": ["*"], "can": ["delete"]},
        "auditor": {"allow": [], "can": ["audit"]},
    },
}


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon(policy=POLICY) as running:
        yield running


@pytest.fixture
def api(daemon: Daemon) -> Api:
    return daemon.api


def test_a_client_reads_what_its_globs_allow(api: Api, unique: Unique) -> None:
    name = unique("x", "shared_")
    api.create(name, "v")
    assert api.as_("backend").value(name) == "v"


def test_deny_beats_allow(api: Api, unique: Unique) -> None:
    name = unique("x", "shared_private")
    api.create(name, "v")
    api.as_("backend").get(f"/secret/{name}").refused(403, "forbidden")


def test_a_forbidden_name_looks_the_same_whether_it_exists_or_not(api: Api, unique: Unique) -> None:
    there, missing = unique("x"), unique("x")
    api.create(there, "v")
    backend = api.as_("backend")
    first, second = backend.get(f"/secret/{there}"), backend.get(f"/secret/{missing}")
    assert first.refused(403, "forbidden") == second.refused(403, "forbidden")
    hidden = {"request_id", "instance"}
    one, two = ({k: v for k, v in answer.json().items() if k not in hidden} for answer in (first, second))
    assert json.dumps(one).replace(there, "NAME") == json.dumps(two).replace(missing, "NAME")
    assert set(first.headers) == set(second.headers)


def test_a_missing_name_is_404_for_who_may_read_it(api: Api, unique: Unique) -> None:
    api.as_("backend").get(f"/secret/{unique('x', 'shared_')}").refused(404, "not-found")


@pytest.mark.parametrize("client", ["backend", "auditor", "rotator", "remover"])
def test_writing_needs_the_right_to_write(api: Api, unique: Unique, client: str) -> None:
    name = unique("x", "shared_")
    api.as_(client).post("/secret", {"name": name, "value": "v"}).refused(403, "forbidden")
    api.create(name, "v")
    api.as_(client).put(f"/secret/{name}", {"value": "v"}).refused(403, "forbidden")


@pytest.mark.parametrize("client", ["backend", "writer", "remover", "auditor"])
def test_rotating_and_restoring_need_the_right_to_rotate(api: Api, unique: Unique, client: str) -> None:
    name = unique("x", "shared_")
    api.create(name)
    api.as_(client).post("/rotate", {"names": [name]}).refused(403, "forbidden")
    api.as_(client).post(f"/secret/{name}/restore", {"version": 1}).refused(403, "forbidden")


def test_rotating_to_a_given_value_needs_the_right_to_write_too(api: Api, unique: Unique) -> None:
    name = unique("x")
    api.create(name)
    body = {"names": [name], "values": {name: "mine"}}
    api.as_("rotator").post("/rotate", body).refused(403, "forbidden")
    assert api.as_("rotator").rotate(name)[0]["version"] == 2


@pytest.mark.parametrize("client", ["backend", "writer", "rotator", "auditor"])
def test_deleting_needs_the_right_to_delete(api: Api, unique: Unique, client: str) -> None:
    name = unique("x", "shared_")
    api.create(name, "v")
    api.as_(client).delete(f"/secret/{name}").refused(403, "forbidden")
    api.as_("remover").delete(f"/secret/{name}").ok(204)


def test_a_writer_that_may_not_read_sees_no_value(api: Api, unique: Unique) -> None:
    name = unique("x")
    api.as_("writer").create(name, "v")
    api.as_("writer").get(f"/secret/{name}").refused(403, "forbidden")


@pytest.mark.parametrize("client", ["backend", "writer", "rotator", "remover"])
def test_the_audit_needs_the_right_to_audit(api: Api, client: str) -> None:
    api.as_(client).get("/audit").refused(403, "forbidden")

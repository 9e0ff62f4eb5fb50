"""What each call answers when it is used as it is meant: shapes, headers, selectors, conditions."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator

import pytest

from tests.support.broker import Broker
from tests.support.daemon import Daemon
from tests.support.http import Answer, Api

Unique = Callable[..., str]

METADATA = {
    "name", "version", "kid", "type", "status", "rotation", "created_at", "expires_at", "previous", "generation",
}  # fmt: skip
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
POLICY = {
    "default_deny": True,
    "clients": {
        "admin": {"allow": ["*"], "deny": []},
        "backend": {"allow": ["postgres_password", "shared_*"], "deny": ["shared_private*"]},
    },
}


@pytest.fixture(scope="module")
def daemon(broker: Broker, module_prefix: str) -> Iterator[Daemon]:
    with Daemon(bus=broker.url, prefix=module_prefix, policy=POLICY) as running:
        yield running


@pytest.fixture
def api(daemon: Daemon) -> Api:
    return daemon.api


# Reading


def test_a_secret_comes_with_metadata_value_encoding_etag_and_no_store(api: Api, unique: Unique) -> None:
    name = unique("x")
    created = api.create(name, "hello")
    assert set(created) == METADATA
    answer = api.get(f"/secret/{name}")
    secret = answer.ok()
    assert set(secret) == METADATA | {"value", "encoding"}
    assert {key: secret[key] for key in METADATA} == created
    assert secret["value"] == "hello"
    assert answer.headers["ETag"] == f'"{secret["kid"]}"'
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Type"].startswith("application/json")


def test_metadata_has_the_promised_forms(api: Api, unique: Unique) -> None:
    created = api.create(unique("x"), "v")
    assert created["version"] == 1
    assert re.fullmatch(r"[A-Za-z0-9_-]{16,64}", created["kid"])
    assert created["status"] == "active"
    assert created["rotation"] == "manual"
    assert created["previous"] is None
    assert TIME.fullmatch(created["created_at"])
    assert TIME.fullmatch(created["expires_at"])


def test_never_is_the_last_instant_of_the_calendar(api: Api, unique: Unique) -> None:
    created = api.create(unique("x"), "v", rotation_period="never")
    assert created["expires_at"] == "9999-12-31T23:59:59.999Z"


def test_kids_are_random_and_new_with_every_version(api: Api, unique: Unique) -> None:
    name, other = unique("x"), unique("y")
    kids = [
        api.create(name, "same")["kid"],
        api.create(other, "same")["kid"],
        api.update(name, "same")["kid"],
    ]
    assert len(set(kids)) == 3


@pytest.mark.parametrize(
    "value",
    [
        "v",
        "  spaces and\ttabs\r\n\n",
        "żółć 🗝️ \u2028",
        'quotes " and \\ slashes',
        "\x00\x01\x7f",
        "a" * 65536,
    ],
)
def test_text_values_come_back_exactly(api: Api, unique: Unique, value: str) -> None:
    name = unique("x")
    api.create(name, value)
    assert api.value(name) == value


def test_bytes_travel_as_base64(api: Api, unique: Unique) -> None:
    name = unique("x")
    value = base64.b64encode(bytes(range(256))).decode()
    api.create(name, value, encoding="base64")
    secret = api.secret(name)
    assert (secret["value"], secret["encoding"]) == (value, "base64")
    api.update(name, "plain")
    assert api.secret(name)["encoding"] != "base64"


def test_64_kib_of_bytes_are_a_value(api: Api, unique: Unique) -> None:
    name = unique("x")
    api.create(name, base64.b64encode(b"\xff" * 65536).decode(), encoding="base64")
    assert len(base64.b64decode(api.value(name))) == 65536


def test_versions_are_found_by_number_by_previous_and_by_kid(api: Api, unique: Unique) -> None:
    name = unique("x")
    first = api.create(name, "one")
    second = api.update(name, "two")
    third = api.update(name, "three")
    assert api.value(name) == "three"
    assert api.value(name, "?version=1") == "one"
    assert api.value(name, "?version=3") == "three"
    assert api.value(name, "?version=previous") == "two"
    assert api.value(name, f"?kid={first['kid']}") == "one"
    assert api.value(name, f"?kid={third['kid']}") == "three"
    assert third["previous"]["kid"] == second["kid"]
    assert third["previous"]["version"] == 2
    assert TIME.fullmatch(third["previous"]["grace_until"])


def test_an_old_versions_answer_names_that_version(api: Api, unique: Unique) -> None:
    name = unique("x")
    first = api.create(name, "one")
    api.update(name, "two")
    answer = api.get(f"/secret/{name}?version=1")
    assert answer.ok()["version"] == 1
    assert answer.ok()["kid"] == first["kid"]
    assert answer.headers["ETag"] == f'"{first["kid"]}"'


@pytest.mark.parametrize("query", ["?version=2", "?version=previous", "?kid=AAAAAAAAAAAAAAAAAAAAAA"])
def test_a_version_that_is_not_there_is_version_not_found(api: Api, unique: Unique, query: str) -> None:
    name = unique("x")
    api.create(name, "one")
    api.get(f"/secret/{name}{query}").refused(404, "version-not-found")


@pytest.mark.parametrize("query", ["?version=0", "?version=-1", "?version=x", "?version=", "?min_generation=x"])
def test_a_selector_that_makes_no_sense_is_refused(api: Api, unique: Unique, query: str) -> None:
    name = unique("x")
    api.create(name, "one")
    api.get(f"/secret/{name}{query}").refused((400, 422), "invalid-request")


def test_a_matching_etag_gives_304_with_the_position_and_no_body(daemon: Daemon, api: Api, unique: Unique) -> None:
    name = unique("x")
    kid = api.create(name, "one")["kid"]
    for given in (f'"{kid}"', f'"other", "{kid}"', f'W/"{kid}"'):
        answer = api.get(f"/secret/{name}", {"If-None-Match": given})
        assert answer.status == 304, given
        assert answer.body == b""
        assert answer.headers["ETag"] == f'"{kid}"'
        assert answer.position[1] >= 1
        assert answer.headers["X-Request-Id"]
        assert answer.headers["Cache-Control"] == "no-store"
    outcomes = [event["data"]["outcome"] for event in daemon.events("secret.read") if event["subject"] == name]
    assert outcomes == ["not-modified"] * 3
    assert api.get(f"/secret/{name}", {"If-None-Match": '"*"'}).status == 200


def test_a_superseded_etag_gives_the_new_value(api: Api, unique: Unique) -> None:
    name = unique("x")
    kid = api.create(name, "one")["kid"]
    api.update(name, "two")
    assert api.get(f"/secret/{name}", {"If-None-Match": f'"{kid}"'}).ok()["value"] == "two"


def test_min_generation_is_409_only_while_the_daemon_is_behind_it(api: Api, unique: Unique) -> None:
    name = unique("x")
    generation = api.create(name, "one")["generation"]
    assert api.value(name, f"?min_generation={generation}") == "one"
    behind = api.get(f"/secret/{name}?min_generation={generation + 1000}")
    behind.refused(409, "behind")
    assert behind.position[1] < generation + 1000


def test_percent_encoding_of_a_plain_character_changes_nothing(api: Api, unique: Unique) -> None:
    name = unique("x")
    api.create(name, "one")
    assert api.value("%" + f"{ord(name[0]):02X}" + name[1:]) == "one"


# Headers of every answer


def test_every_answer_has_a_request_id_of_its_own(api: Api) -> None:
    answers = [
        api.get("/healthz"), api.get("/secrets"), api.get("/secret/nothing"), api.get("/no/such/path"),
        api.as_(None).get("/secrets"), api.call("PATCH", "/secrets"), api.call("POST", "/secret", raw=b"{"),
        api.get("/secrets", {"Origin": "http://evil.example"}),
    ]  # fmt: skip
    identifiers = [answer.headers["X-Request-Id"] for answer in answers]
    assert all(identifiers)
    assert len(set(identifiers)) == len(identifiers)


def test_the_position_is_told_wherever_a_client_was_proven(daemon: Daemon, api: Api, unique: Unique) -> None:
    name = unique("x")
    created = api.create(name, "one")
    epoch, generation = api.get("/secrets").position
    assert generation == created["generation"]
    told = [
        api.get(f"/secret/{name}"), api.get("/secret/nothing"), api.get("/changes"), api.get("/bus"), api.get("/audit"),
        api.as_("backend").get(f"/secret/{name}"), api.post("/secret", {"name": name, "value": "x"}),
        api.get(f"/secret/{name}?version=9"),
    ]  # fmt: skip
    assert [answer.position for answer in told] == [(epoch, generation)] * len(told)
    updated = api.put(f"/secret/{name}", {"value": "two"})
    assert updated.position == (epoch, updated.ok()["generation"]) == (epoch, generation + 1)


def test_the_position_is_not_told_to_strangers(api: Api) -> None:
    for answer in (
        api.as_(None).get("/secrets"),
        api.as_("nobody").get("/secrets"),
        api.as_(None).get("/healthz"),
    ):
        assert "Vault-Generation" not in answer.headers


def test_an_unknown_path_is_a_problem(api: Api) -> None:
    api.get("/secretz").refused(404, "not-found")


def test_a_wrong_method_is_a_problem_that_names_the_right_ones(api: Api) -> None:
    answer = api.call("DELETE", "/secrets")
    assert answer.status == 405
    assert "GET" in answer.headers["Allow"]
    assert answer.slug


# Listing and changes


def test_the_list_holds_metadata_of_what_the_caller_may_read(api: Api, unique: Unique) -> None:
    mine, other, denied = unique("x", "shared_"), unique("x"), unique("x", "shared_private")
    for name in (mine, other, denied):
        api.create(name, "planted-value")
    everything = api.get("/secrets")
    assert {mine, other, denied} <= {entry["name"] for entry in everything.ok()["secrets"]}
    assert all(set(entry) == METADATA for entry in everything.ok()["secrets"])
    assert b"planted-value" not in everything.body
    names = {entry["name"] for entry in api.as_("backend").get("/secrets").ok()["secrets"]}
    assert mine in names
    assert not names & {other, denied}


def test_changes_without_since_are_the_whole_state(api: Api, unique: Unique) -> None:
    name = unique("x")
    created = api.create(name, "one")
    changes = api.changes()
    assert {"epoch", "generation", "session", "uptime_ms", "changes"} <= set(changes)
    assert changes["generation"] == created["generation"]
    entry = next(change for change in changes["changes"] if change["name"] == name)
    expected = {key: created[key] for key in ("name", "version", "kid", "status", "generation")}
    assert entry == expected


def test_changes_since_hold_only_what_changed_and_the_newest_of_it(api: Api, unique: Unique) -> None:
    name, other = unique("x"), unique("y")
    api.create(name, "one")
    api.create(other, "one")
    epoch, generation = api.get("/secrets").position
    assert api.changes(f"{epoch}:{generation}")["changes"] == []
    api.update(name, "two")
    last = api.update(name, "three")
    changes = api.changes(f"{epoch}:{generation}")
    assert [(c["name"], c["version"], c["generation"]) for c in changes["changes"]] == [(name, 3, last["generation"])]


def test_changes_name_deleted_secrets(api: Api, unique: Unique) -> None:
    name = unique("x")
    api.create(name, "one")
    epoch, generation = api.get("/secrets").position
    api.delete(f"/secret/{name}").ok(204)
    changes = api.changes(f"{epoch}:{generation}")["changes"]
    assert [(change["name"], change["status"]) for change in changes] == [(name, "deleted")]


def test_changes_show_a_client_only_its_own(api: Api, unique: Unique) -> None:
    mine, other = unique("x", "shared_"), unique("x")
    position = api.get("/secrets").headers["Vault-Generation"]
    api.create(mine, "v")
    api.create(other, "v")
    changes = api.as_("backend").changes(position)
    assert [change["name"] for change in changes["changes"]] == [mine]
    assert changes["generation"] == api.changes()["generation"]


def test_changes_of_another_epoch_or_the_future_are_gone(api: Api) -> None:
    epoch, generation = api.get("/secrets").position
    for since in (f"AAAAAAAAAAAAAAAA:{generation}", f"{epoch}:{generation + 1}"):
        api.get(f"/changes?since={since}").refused(410, "history-gone")


@pytest.mark.parametrize("since", ["", "x", "1", "a:b", ":", "a:-1"])
def test_a_since_that_is_no_position_is_refused(api: Api, since: str) -> None:
    api.get(f"/changes?since={since}").refused((400, 410, 422), "invalid-request", "history-gone")


# Writing


def test_post_creates_and_an_existing_name_is_409(api: Api, unique: Unique) -> None:
    name = unique("x")
    assert api.create(name, "one")["version"] == 1
    api.post("/secret", {"name": name, "value": "two"}).refused(409, "exists")
    assert api.value(name) == "one"


def test_put_makes_a_version_with_grace(api: Api, unique: Unique) -> None:
    name = unique("x")
    first = api.create(name, "one")
    second = api.update(name, "two")
    assert set(second) == METADATA
    assert (second["version"], second["previous"]["kid"]) == (2, first["kid"])
    assert second["generation"] > first["generation"]


def test_put_of_a_name_that_is_not_there_is_404(api: Api, unique: Unique) -> None:
    api.put(f"/secret/{unique('x')}", {"value": "v"}).refused(404, "not-found")


def test_if_match_lets_only_one_of_two_writers_win(api: Api, unique: Unique) -> None:
    name = unique("x")
    kid = api.create(name, "one")["kid"]
    api.put(f"/secret/{name}", {"value": "first"}, {"If-Match": f'"{kid}"'}).ok()
    lost = api.put(f"/secret/{name}", {"value": "second"}, {"If-Match": f'"{kid}"'})
    lost.refused(412, "precondition-failed")
    assert api.value(name) == "first"


def test_rotate_answers_with_the_metadata_of_all(api: Api, unique: Unique) -> None:
    names = [unique("a"), unique("b")]
    before = {name: api.create(name)["kid"] for name in names}
    rotated = api.rotate(*names)
    assert [entry["name"] for entry in rotated] == names
    assert all(set(entry) == METADATA and entry["version"] == 2 for entry in rotated)
    assert {entry["name"]: entry["previous"]["kid"] for entry in rotated} == before
    assert len({entry["generation"] for entry in rotated}) == 1


def test_restore_answers_with_the_new_versions_metadata(api: Api, unique: Unique) -> None:
    name = unique("x")
    api.create(name, "one")
    api.update(name, "two")
    restored = api.post(f"/secret/{name}/restore", {"version": 1}).ok()
    assert set(restored) == METADATA
    assert restored["version"] == 3
    assert api.value(name) == "one"


def test_delete_is_204_and_then_404(api: Api, unique: Unique) -> None:
    name = unique("x")
    api.create(name, "one")
    answer = api.delete(f"/secret/{name}")
    assert (answer.status, answer.body) == (204, b"")
    api.get(f"/secret/{name}").refused(404, "not-found")
    api.delete(f"/secret/{name}").refused(404, "not-found")


@pytest.mark.parametrize(
    "ask",
    [
        lambda api: api.get("/secret/nothing?version=abc"),
        lambda api: api.get("/secrets?x=1"),
        lambda api: api.get("/audit?limit=0"),
        lambda api: api.post("/secret", {"name": "empty", "value": ""}),
        lambda api: api.post("/rotate", {"names": ["a", "a"]}),
        lambda api: api.get("/secret/nothing"),
        lambda api: api.get("/changes?since=other:1"),
    ],
    ids=["version", "query", "limit", "value", "names", "absent", "epoch"],
)
def test_a_refusal_of_a_proven_client_says_where_the_vault_is(api: Api, ask: Callable[[Api], Answer]) -> None:
    answer = ask(api)
    assert 400 <= answer.status < 500
    assert answer.position == api.get("/secrets").position

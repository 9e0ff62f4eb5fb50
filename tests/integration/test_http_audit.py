"""What HTTP gives to verify with: the audit log in pages, the public halves of signing secrets."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from tests.support.daemon import Daemon
from tests.support.http import Api
from tests.support.log import verify_log

Unique = Callable[..., str]
POLICY = {
    "default_deny": True,
    "clients": {
        "admin": {"allow": ["*"], "deny": []},
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


# Audit


def test_audit_gives_the_signed_lines_as_they_stand(daemon: Daemon, api: Api) -> None:
    answer = api.as_("auditor").get("/audit?limit=10000")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("application/x-ndjson")
    assert answer.body.endswith(b"\n")
    assert daemon.audit_path.read_bytes().startswith(answer.body)


def test_audit_pages_by_sequence_and_limit(daemon: Daemon, api: Api) -> None:
    for _ in range(5):
        api.get("/secrets")
    lines = daemon.audit_path.read_bytes().splitlines(keepends=True)
    page = api.get("/audit?limit=3").body.splitlines(keepends=True)
    assert page == lines[:3]
    last = int(json.loads(page[-1])["sequence"])
    assert api.get(f"/audit?after={last}&limit=2").body.splitlines(keepends=True) == lines[3:5]


def test_a_missing_file_is_told_and_not_skipped() -> None:
    with Daemon(policy=POLICY) as daemon:
        rotated = [daemon.audit_path.with_name(f"audit.jsonl.{number}") for number in (2, 1)]
        for path in rotated:
            for _ in range(3):
                daemon.api.get("/secrets")
            daemon.audit_path.rename(path)
        daemon.api.get("/secrets")
        in_the_hole = [json.loads(line)["sequence"] for line in rotated[1].read_bytes().splitlines()]
        rotated[1].unlink()

        before = daemon.api.get("/audit?after=0").body.splitlines()
        assert json.loads(before[-1])["sequence"] < max(in_the_hole)
        after = int(json.loads(before[-1])["sequence"])
        daemon.api.get(f"/audit?after={after}").refused(410, "history-gone")


def test_audit_since_a_time_begins_there(daemon: Daemon, api: Api) -> None:
    api.get("/secrets")
    since = json.loads(daemon.audit_path.read_bytes().splitlines()[-1])["time"]
    times = [json.loads(line)["time"] for line in api.get(f"/audit?since={since}").body.splitlines()]
    assert times
    assert min(times) >= since


def test_audit_gives_a_thousand_lines_unless_told_otherwise(daemon: Daemon, api: Api) -> None:
    for _ in range(1002 - len(daemon.lines())):
        api.get("/secrets")
    assert len(api.get("/audit").body.splitlines()) == 1000
    assert len(api.get("/audit?limit=1001").body.splitlines()) == 1001


@pytest.mark.parametrize("query", ["?after=x", "?limit=x", "?limit=-1", "?since=yesterday", "?after=-1"])
def test_an_audit_query_that_makes_no_sense_is_refused(api: Api, query: str) -> None:
    api.get(f"/audit{query}").refused((400, 422), "invalid-request")


def test_audit_reaches_back_into_rotated_files_and_says_when_they_are_gone(
    new_daemon: Callable[..., Daemon],
) -> None:
    daemon = new_daemon().start()
    daemon.api.create("x", "v")
    rotated = daemon.audit_path.with_name("audit.jsonl.1")
    daemon.audit_path.rename(rotated)
    daemon.api.secret("x")
    assert len(verify_log([rotated, daemon.audit_path], daemon.keyring())) >= 3
    whole = (rotated.read_bytes() + daemon.audit_path.read_bytes()).splitlines()
    without_repeats = list(dict.fromkeys(whole))
    assert daemon.api.get("/audit").body.splitlines()[: len(without_repeats)] == without_repeats
    rotated.unlink()
    daemon.api.get("/audit?after=0").refused(410, "history-gone")
    first = daemon.lines()[0]
    assert daemon.api.get(f"/audit?after={int(first['sequence']) - 1}").status == 200


# Public keys of signing secrets


def public_x(pem: str) -> str:
    key = load_pem_private_key(pem.encode(), None)
    assert isinstance(key, Ed25519PrivateKey)
    raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def test_jwks_hold_the_current_key_and_those_in_grace_until_it_ends(
    new_daemon: Callable[..., Daemon],
) -> None:
    api = new_daemon().start().api
    created = api.create("jwt_signing_key")

    def jwks() -> dict[str, Any]:
        return {key["kid"]: key for key in api.as_(None).get("/.well-known/jwks.json").ok()["keys"]}

    assert {kid: key["x"] for kid, key in jwks().items()} == {created["kid"]: public_x(api.value("jwt_signing_key"))}
    key = jwks()[created["kid"]]
    assert (key["kty"], key["crv"], "d" in key) == ("OKP", "Ed25519", False)
    rotated = api.rotate("jwt_signing_key")[0]
    assert set(jwks()) == {created["kid"], rotated["kid"]}
    urgent = api.rotate("jwt_signing_key", urgent=True)[0]
    assert set(jwks()) == {urgent["kid"]}


def test_jwks_hold_only_what_the_rules_publish(api: Api, unique: Unique) -> None:
    api.create(unique("private_key"), type="jwt_signing_key")
    assert api.as_(None).get("/.well-known/jwks.json").ok() == {"keys": []}

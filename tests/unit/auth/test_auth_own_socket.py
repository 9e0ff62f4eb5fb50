"""A client's own Unix socket: who comes through it is that client or nobody."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from secretsd.auth import Claims, identify
from secretsd.errors import Problem
from secretsd.policy import parse

BACKEND = Path("/run/s/backend.sock")
REPORTS = Path("/run/s/reports.sock")
GONE = Path("/run/s/gone.sock")
TOKEN = "a-token-of-admin"
POLICY = parse(
    f"""
clients:
  backend: {{allow: [x], auth: [{{socket: {BACKEND}}}]}}
  reports: {{allow: [x], auth: [{{socket: {REPORTS}}}]}}
  plain: {{allow: [x]}}
  user: {{allow: [x], auth: [{{uid: 1001}}]}}
  admin: {{allow: ["*"], can: [read], auth: [{{token_sha256: "{hashlib.sha256(TOKEN.encode()).hexdigest()}"}}]}}
""".encode()
)
THROUGH = Claims(client="backend", bearer=None, peer_uid=20001, peer="unix", request_id="r1", own_socket=BACKEND)


def refused(claims: Claims, *, require_header: bool = True) -> str:
    with pytest.raises(Problem) as caught:
        identify(claims, POLICY, require_header=require_header, now_ms=0)
    assert caught.value.status == 401
    return caught.value.slug


def test_a_clients_own_socket_proves_it() -> None:
    assert identify(THROUGH, POLICY, require_header=True, now_ms=0).auth == "socket"


def test_the_socket_alone_names_its_client_where_no_header_is_required() -> None:
    caller = identify(replace(THROUGH, client=None), POLICY, require_header=False, now_ms=0)
    assert (caller.client, caller.auth) == ("backend", "socket")
    assert refused(replace(THROUGH, client=None)) == "missing-client"


@pytest.mark.parametrize(
    ("client", "bearer", "uid"),
    [("reports", None, 0), ("plain", None, 0), ("user", None, 1001), ("admin", TOKEN, 0)],
    ids=["by-name", "without-proof", "by-uid", "by-token"],
)
def test_nobody_else_comes_through_it_whatever_he_presents(client: str, bearer: str | None, uid: int) -> None:
    assert refused(replace(THROUGH, client=client, bearer=bearer, peer_uid=uid)) == "bad-credential"


def test_without_the_header_a_token_of_somebody_else_does_not_come_through_it_either() -> None:
    claims = replace(THROUGH, client=None, bearer=TOKEN)
    assert refused(claims, require_header=False) == "bad-credential"


def test_a_wrong_token_is_refused_on_the_right_socket() -> None:
    assert refused(replace(THROUGH, bearer="guessed")) == "bad-credential"


def test_elsewhere_the_client_has_no_proof() -> None:
    assert refused(replace(THROUGH, own_socket=None)) == "bad-credential"


@pytest.mark.parametrize("client", ["backend", "plain", None])
def test_a_connection_through_a_socket_that_the_policy_dropped_is_nobodys(client: str | None) -> None:
    slug = refused(replace(THROUGH, client=client, own_socket=GONE), require_header=False)
    assert slug == ("missing-client" if client is None else "bad-credential")

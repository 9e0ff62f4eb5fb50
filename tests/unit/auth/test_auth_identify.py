"""Who is asking."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from secretsd.auth import Caller, Claims, identify
from secretsd.errors import Problem
from secretsd.policy import parse

NOW = 1_800_000_000_000
OLD, NEW, GONE, SHARED = "old-token", "new-token", "gone-token", "shared-token"


def sha(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


POLICY = parse(
    f"""
clients:
  plain: {{allow: [x]}}
  tokens: {{allow: [x], auth: [
    {{token_sha256: "{sha(OLD)}", not_after: "2027-01-15T08:00:00.001Z"}},
    {{token_sha256: "{sha(NEW)}"}},
    {{token_sha256: "{sha(GONE)}", not_after: "2027-01-15T08:00:00Z"}}]}}
  user: {{allow: [x], auth: [{{uid: 1001}}]}}
  both: {{allow: [x], auth: [{{uid: 1002}}, {{token_sha256: "{sha("both-token")}"}}]}}
  twin: {{allow: [x], auth: [{{uid: 1002}}, {{token_sha256: "{sha(SHARED)}"}}]}}
  late: {{allow: [x], auth: [{{token_sha256: "{sha(SHARED)}", not_after: "2026-01-01T00:00:00Z"}}]}}
""".encode()
)
NOBODY = Claims(client=None, bearer=None, peer_uid=None, peer="127.0.0.1", request_id="r1")


def who(claims: Claims, *, require_header: bool = True) -> Caller:
    return identify(claims, POLICY, require_header=require_header, now_ms=NOW)


def refused(claims: Claims, *, require_header: bool = True) -> Problem:
    with pytest.raises(Problem) as caught:
        who(claims, require_header=require_header)
    problem = caught.value
    assert problem.status == 401
    assert problem.headers == {"WWW-Authenticate": "Bearer"}
    for sent in (claims.client, claims.bearer):
        assert not sent or len(sent) < 6 or sent not in problem.detail
    return problem


@pytest.mark.parametrize(
    ("client", "bearer", "uid", "auth"),
    [
        ("plain", None, None, "header"),
        ("plain", None, 1001, "header"),
        ("tokens", OLD, None, "token"),
        ("tokens", NEW, None, "token"),
        ("tokens", NEW, 1001, "token"),
        ("user", None, 1001, "uid"),
        ("both", None, 1002, "uid"),
        ("both", "both-token", None, "token"),
        ("both", "both-token", 1002, "token"),
        ("twin", None, 1002, "uid"),
    ],
)
def test_any_one_proof_is_enough_and_named(client: str, bearer: str | None, uid: int | None, auth: str) -> None:
    caller = who(replace(NOBODY, client=client, bearer=bearer, peer_uid=uid))
    assert caller == Caller(client=client, auth=auth, peer="127.0.0.1", request_id="r1")  # type: ignore[arg-type]  # parametrized


@pytest.mark.parametrize(
    ("client", "bearer", "uid"),
    [
        ("tokens", None, None),
        ("tokens", None, 1001),
        ("tokens", "guessed-token", None),
        ("tokens", "both-token", None),
        ("tokens", "", None),
        ("tokens", GONE, None),
        ("tokens", sha(NEW), None),
        ("tokens", NEW + " ", None),
        ("tokens", "\udcff\ud800", None),
        ("user", None, None),
        ("user", None, 0),
        ("user", None, 1002),
        ("user", "guessed-token", 1001),
        ("user", "", 1001),
        ("both", "guessed-token", 1002),
        ("plain", "guessed-token", None),
        ("plain", NEW, None),
        ("plain", "", None),
        ("late", SHARED, None),
    ],
)
def test_a_missing_or_wrong_proof_is_refused_even_where_another_would_fit(
    client: str, bearer: str | None, uid: int | None
) -> None:
    assert refused(replace(NOBODY, client=client, bearer=bearer, peer_uid=uid)).slug == "bad-credential"


def test_an_expired_token_is_told_to_be_expired_to_who_has_it() -> None:
    assert "expired" in refused(replace(NOBODY, client="tokens", bearer=GONE)).detail
    assert "expired" not in refused(replace(NOBODY, client="tokens", bearer="guessed-token")).detail


@pytest.mark.parametrize("client", ["stranger", "PLAIN", "plain ", "secretsd", "x" * 10_000, "\udcff\ud800", NEW])
@pytest.mark.parametrize("bearer", [None, NEW])
def test_a_name_that_the_policy_does_not_have_is_unknown_whatever_is_presented(client: str, bearer: str | None) -> None:
    assert refused(replace(NOBODY, client=client, bearer=bearer, peer_uid=1001)).slug == "unknown-client"


@pytest.mark.parametrize("client", [None, ""])
def test_without_the_header_nobody_is_named_where_it_is_required(client: str | None) -> None:
    problem = refused(replace(NOBODY, client=client, bearer=NEW, peer_uid=1001))
    assert problem.slug == "missing-client"
    assert "X-Jarvis-Client" in problem.detail
    assert "proof" not in problem.detail


def test_where_a_proof_may_name_the_client_who_has_none_is_told_so() -> None:
    assert "or come with a proof that names it" in refused(NOBODY, require_header=False).detail


@pytest.mark.parametrize(
    ("bearer", "uid", "client", "auth"),
    [
        (NEW, None, "tokens", "token"),
        (NEW, 1001, "tokens", "token"),
        (None, 1001, "user", "uid"),
        (SHARED, None, "twin", "token"),
    ],
)
def test_the_proof_alone_names_the_client_where_no_header_is_required(
    bearer: str | None, uid: int | None, client: str, auth: str
) -> None:
    caller = who(replace(NOBODY, bearer=bearer, peer_uid=uid), require_header=False)
    assert (caller.client, caller.auth) == (client, auth)


@pytest.mark.parametrize(
    ("bearer", "uid", "slug"),
    [
        (None, None, "missing-client"),
        (None, 4711, "missing-client"),
        (None, 1002, "missing-client"),
        ("guessed-token", None, "bad-credential"),
        ("guessed-token", 1001, "bad-credential"),
        ("", 1001, "bad-credential"),
        (GONE, None, "bad-credential"),
    ],
)
def test_a_proof_that_names_nobody_or_several_is_refused(bearer: str | None, uid: int | None, slug: str) -> None:
    assert refused(replace(NOBODY, bearer=bearer, peer_uid=uid), require_header=False).slug == slug


def test_an_ambiguous_proof_asks_for_the_header() -> None:
    problem = refused(replace(NOBODY, peer_uid=1002), require_header=False)
    assert "several clients" in problem.detail
    assert who(replace(NOBODY, client="twin", peer_uid=1002), require_header=False).client == "twin"


def test_the_header_names_the_client_also_where_it_is_not_required() -> None:
    assert who(replace(NOBODY, client="plain", peer_uid=1001), require_header=False).auth == "header"
    assert refused(replace(NOBODY, client="user", bearer=NEW), require_header=False).slug == "bad-credential"


def test_claims_do_not_show_what_was_sent() -> None:
    shown = repr(replace(NOBODY, client="a-token-typed-here", bearer="a-token"))
    assert "a-token" not in shown

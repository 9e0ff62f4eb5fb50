"""What a client certificate proves, and what it doesn't."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from secretsd.auth import Caller, Claims, ClientCertificate, identify, read_certificate
from secretsd.errors import Problem
from secretsd.policy import Policy, parse
from tests.support.certificates import Certified, certified

NOW = 1_800_000_000_000
DIGEST, OTHER = "ab" * 32, "cd" * 32
POLICY = parse(
    f"""
clients:
  plain: {{allow: [x]}}
  pinned: {{allow: [x], auth: [{{cert_sha256: "{DIGEST}"}}, {{token_sha256: "{OTHER}"}}, {{uid: 1001}}]}}
  named: {{allow: [x], auth: [{{cert_subject: "CN=named,O=home"}}]}}
  spiffe: {{allow: [x], auth: [{{cert_san: "URI:spiffe://home/a"}}]}}
  gone: {{allow: [x], auth: [{{cert_san: "DNS:gone.lan", not_after: "2027-01-15T08:00:00Z"}}]}}
""".encode()
)
NOBODY = Claims(client=None, bearer=None, peer_uid=None, peer="10.0.0.9", request_id="r1")
PINNED = ClientCertificate(frozenset({("sha256", DIGEST)}), 0, NOW + 1)
NAMED = replace(PINNED, marks=frozenset({("sha256", OTHER), ("subject", "CN=named,O=home")}))
GONE = replace(PINNED, marks=frozenset({("san", "DNS:gone.lan")}))


def who(claims: Claims, *, policy: Policy = POLICY, require_header: bool = True, now_ms: int = NOW) -> Caller:
    return identify(claims, policy, require_header=require_header, now_ms=now_ms)


def refused(claims: Claims, *, now_ms: int = NOW, require_header: bool = True) -> Problem:
    with pytest.raises(Problem) as caught:
        who(claims, now_ms=now_ms, require_header=require_header)
    return caught.value


def test_a_certificate_proves_the_client_that_the_policy_gives_it_to() -> None:
    assert who(replace(NOBODY, client="pinned", certificate=PINNED)).auth == "tls"
    assert who(replace(NOBODY, client="named", certificate=NAMED)).auth == "tls"
    spiffe = replace(PINNED, marks=frozenset({("san", "URI:spiffe://home/a")}))
    assert who(replace(NOBODY, client="spiffe", certificate=spiffe)).auth == "tls"


@pytest.mark.parametrize("client", ["named", "spiffe", "gone"])
def test_it_proves_nobody_else(client: str) -> None:
    assert refused(replace(NOBODY, client=client, certificate=PINNED)).slug == "bad-credential"


def test_it_comes_after_a_token_and_before_the_uid() -> None:
    assert who(replace(NOBODY, client="pinned", certificate=PINNED, peer_uid=1001)).auth == "tls"
    assert who(replace(NOBODY, client="pinned", certificate=NAMED, peer_uid=1001)).auth == "uid"
    assert refused(replace(NOBODY, client="pinned", certificate=PINNED, bearer="wrong")).slug == "bad-credential"


def test_a_client_without_a_proof_is_not_made_another_by_a_certificate() -> None:
    assert who(replace(NOBODY, client="plain", certificate=PINNED)).auth == "header"


@pytest.mark.parametrize("now_ms", [NOW + 1, NOW + 10, -1])
def test_it_proves_nothing_outside_of_its_own_time(now_ms: int) -> None:
    assert "expired" in refused(replace(NOBODY, client="pinned", certificate=PINNED), now_ms=now_ms).detail


def test_it_proves_nothing_after_the_time_that_the_policy_gives_it() -> None:
    assert "expired" in refused(replace(NOBODY, client="gone", certificate=GONE)).detail
    assert who(replace(NOBODY, client="gone", certificate=GONE), now_ms=NOW - 1).auth == "tls"


def test_one_that_the_policy_has_dropped_proves_nothing_from_then_on() -> None:
    without = parse(b"clients: {pinned: {allow: [x], auth: [{uid: 7}]}}")
    with pytest.raises(Problem):
        who(replace(NOBODY, client="pinned", certificate=PINNED), policy=without)


def test_alone_it_names_its_client_where_no_header_is_required() -> None:
    assert who(replace(NOBODY, certificate=NAMED), require_header=False).client == "named"
    several = replace(PINNED, marks=PINNED.marks | NAMED.marks)
    assert refused(replace(NOBODY, certificate=several), require_header=False).slug == "missing-client"
    assert "expired" in refused(replace(NOBODY, certificate=GONE), require_header=False).detail


def read(one: Certified, *, pinned: bool = False) -> ClientCertificate:
    digest = bytes.fromhex(one.sha256)
    found = read_certificate(one.certificate.public_bytes(Encoding.DER), frozenset({digest} if pinned else ()))
    assert found is not None
    return found


def test_a_certificate_is_called_by_its_hash_its_subject_and_its_alternative_names(tmp_path: Path) -> None:
    names = (x509.DNSName("Web.lan"), x509.UniformResourceIdentifier("spiffe://home/web"), x509.RFC822Name("a@b.c"))
    one = certified(tmp_path, "web", subject="CN=web\\, the one,O=home", sans=names)
    assert read(one).marks == {
        ("sha256", one.sha256), ("subject", "CN=web\\, the one,O=home"),
        ("san", "DNS:web.lan"), ("san", "URI:spiffe://home/web"),
    }  # fmt: skip


def test_the_names_in_one_that_is_trusted_as_itself_only_count_for_nothing(tmp_path: Path) -> None:
    one = certified(tmp_path, "web", subject="CN=backend")
    assert read(one, pinned=True).marks == {("sha256", one.sha256)}


def test_its_times_are_read(tmp_path: Path) -> None:
    one = read(certified(tmp_path, "web", lasts=dt.timedelta(minutes=5)))
    now_ms = int(dt.datetime.now(dt.UTC).timestamp() * 1000)
    assert one.valid(now_ms)
    assert not one.valid(now_ms + 301_000)
    assert not one.valid(now_ms - 3_700_000)


def test_what_is_no_certificate_proves_nothing() -> None:
    assert read_certificate(b"junk", frozenset()) is None

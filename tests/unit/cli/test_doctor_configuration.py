"""doctor: config.toml and policy.yaml, good and bad."""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path

import pytest

from secretsd.cli.checks.configuration import judge_patterns, judge_tokens
from secretsd.model import DAY_MS
from secretsd.policy import parse
from tests.support.broker import Broker
from tests.support.certificates import certified
from tests.support.tls import make_server_certificate
from tests.unit.cli.fake_daemon import FakeDaemon
from tests.unit.cli.installation import TOKEN_SHA256, Installation

JAN_2027_MS = 1_798_761_600_000
"""2027-01-01T00:00:00Z."""


@pytest.fixture
def place(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


def test_a_good_configuration_is_in_order(place: Installation) -> None:
    for name in ("config", "policy", "proofs", "tokens"):
        assert place.look(name).status == "ok", name


def test_a_configuration_that_does_not_load_fails_and_skips_what_needs_it(place: Installation) -> None:
    place.config_path.write_text("[server]\nbindaddr = 1\n")
    finding = place.look("config")
    assert (finding.status, "bindaddr" in finding.found) == ("failure", True)
    assert finding.fixes
    assert place.look("policy").status == place.look("modes").status == place.look("broker").status == "skipped"


def test_paths_of_which_one_would_be_written_over_fail(place: Installation) -> None:
    vault = place.state.vault
    place.configure({"paths": {"master_key_path": f"{vault}.lock"}})
    finding = place.look("config")
    assert finding.status == "failure"
    assert f"{vault}.lock" in finding.found


def test_a_missing_configuration_fails(place: Installation) -> None:
    place.config_path.unlink()
    assert place.look("config").status == "failure"


def test_a_policy_that_does_not_load_fails_with_its_line(place: Installation) -> None:
    place.write_policy("default_deny: true\nclients:\n  admin: {alow: ['*']}\n")
    finding = place.look("policy")
    assert finding.status == "failure"
    assert "line 3" in finding.found
    assert place.look("proofs").status == "skipped"


def test_what_is_doubtful_in_a_policy_is_a_warning(place: Installation) -> None:
    place.write_policy({"clients": {"admin": {"allow": ["*"], "auth": [{"uid": 0}]}}})
    assert place.look("policy").status == "warning"


def test_clients_without_a_proof_are_named_by_one_check_only(place: Installation) -> None:
    place.write_policy({"clients": {"admin": {"allow": ["*"], "can": ["read"]}}})
    assert place.look("policy").status == "ok"
    finding = place.look("proofs")
    assert (finding.status, "admin" in finding.found) == ("warning", True)
    assert "sha256sum" in finding.fixes[0]


@pytest.mark.parametrize(
    ("auth", "status"),
    [
        ([f"{{token_sha256: {TOKEN_SHA256}}}"], "ok"),
        ([f'{{token_sha256: {TOKEN_SHA256}, not_after: "2027-03-01T00:00:00Z"}}'], "ok"),
        ([f'{{token_sha256: {TOKEN_SHA256}, not_after: "2027-01-10T00:00:00Z"}}'], "warning"),
        ([f'{{token_sha256: {TOKEN_SHA256}, not_after: "2026-12-31T00:00:00Z"}}'], "failure"),
        ([f'{{token_sha256: {TOKEN_SHA256}, not_after: "2026-12-31T00:00:00Z"}}', "{uid: 7}"], "warning"),
        ([f'{{token_sha256: {TOKEN_SHA256}, not_after: "2027-01-10T00:00:00Z"}}', "{uid: 7}"], "ok"),
        (
            [f'{{token_sha256: {TOKEN_SHA256}, not_after: "2027-01-10T00:00:00Z"}}', f"{{token_sha256: {'cd' * 32}}}"],
            "ok",
        ),
        (["{uid: 7}"], "ok"),
        ([f"{{cert_sha256: {TOKEN_SHA256}}}"], "ok"),
        ([f'{{cert_sha256: {TOKEN_SHA256}, not_after: "2026-12-31T00:00:00Z"}}'], "failure"),
        ([f'{{token_sha256: {TOKEN_SHA256}, not_after: "2026-12-31T00:00:00Z"}}', '{cert_subject: "CN=a"}'], "warning"),
    ],
)
def test_tokens_are_judged_by_what_a_client_has_left(auth: list[str], status: str) -> None:
    policy = parse(f"clients:\n  app:\n    allow: [x]\n    auth: [{', '.join(auth)}]\n".encode())
    finding = judge_tokens(policy, JAN_2027_MS)
    assert finding.status == status
    assert TOKEN_SHA256 not in str(finding)


def test_lines_that_match_nothing_are_named_with_what_they_may_mean() -> None:
    policy = parse(
        b"clients:\n  app: {allow: [postgres_pasword, 'old_*'], deny: [gone]}\n"
        b"secrets:\n  'stripe_?': {type: external}\n"
    )
    finding = judge_patterns(policy, ["postgres_password"])
    assert finding.status == "warning"
    for pattern in ("postgres_pasword (clients.app.allow)", "old_*", "gone (clients.app.deny)", "stripe_? (secrets)"):
        assert pattern in finding.found
    assert "did you mean postgres_password?" in finding.fixes


def test_every_line_that_matches_is_in_order() -> None:
    policy = parse(b"clients:\n  app: {allow: ['postgres_*']}\nsecrets:\n  '*_password': {type: password}\n")
    assert judge_patterns(policy, ["postgres_password"]).status == "ok"


def test_patterns_need_a_client_who_may_read_all(place: Installation) -> None:
    with FakeDaemon() as daemon:
        daemon.plant("postgres_password", "v")
        daemon.plant("other", "v")
        assert place.look("patterns", url=daemon.url, client="admin").status == "ok"
        assert place.look("patterns", url=daemon.url).status == "skipped"
        daemon.hidden.add("other")
        finding = place.look("patterns", url=daemon.url, client="admin")
    assert (finding.status, "1 of 2 secrets" in finding.found) == ("skipped", True)


def test_nobody_is_asked_in_vain_without_a_client(place: Installation) -> None:
    with FakeDaemon() as daemon:
        place.look("patterns", url=daemon.url)
        assert not daemon.calls("GET", "/secrets")


def test_certificates_are_looked_at_before_they_run_out(place: Installation, tmp_path: Path) -> None:
    assert place.look("certificates").status == "skipped"
    files = make_server_certificate(tmp_path)
    place.configure({"server": {"tls_cert": str(files["certfile"]), "tls_key": str(files["keyfile"])}})
    finding = place.look("certificates")
    assert (finding.status, "runs out in" in finding.found) == ("warning", True)
    now = time.time_ns() // 1_000_000
    assert place.look("certificates", now_ms=lambda: now + 3 * DAY_MS).status == "failure"
    assert place.look("certificates", now_ms=lambda: now - 30 * DAY_MS).status == "ok"
    files["certfile"].write_text("nothing")
    assert place.look("certificates").status == "failure"


def test_the_certificates_of_clients_are_looked_at_too(place: Installation, tmp_path: Path) -> None:
    files = make_server_certificate(tmp_path)
    clients = tmp_path / "clients"
    clients.mkdir()
    certified(clients, "web", lasts=dt.timedelta(days=1))
    certified(clients, "app", lasts=dt.timedelta(days=90))
    place.configure(
        {
            "server": {
                "tls_cert": str(files["certfile"]), "tls_key": str(files["keyfile"]), "tls_client_certs": str(clients)
            }
        }
    )  # fmt: skip
    found = place.look("certificates").found
    assert "web.pem runs out in" in found
    assert "app.pem" not in found


def test_the_certificate_that_the_broker_shows_is_looked_at(place: Installation, tmp_path: Path) -> None:
    broker = Broker(tls=make_server_certificate(tmp_path)).start()
    try:
        place.configure({"bus": {"enabled": True, "url": broker.url}})
        now = time.time_ns() // 1_000_000
        for days, status in ((0, "warning"), (3, "failure"), (-30, "ok")):
            finding = place.look("certificates", now_ms=lambda days=days: now + days * DAY_MS)
            assert finding.status == status
            assert status == "ok" or "the broker" in finding.found
    finally:
        broker.close()

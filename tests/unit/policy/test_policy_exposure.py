"""Whether a policy is enough for where the daemon listens."""

from __future__ import annotations

from pathlib import Path

import pytest

from secretsd.config import Config, load
from secretsd.errors import PolicyError
from secretsd.policy import check_exposure, ended_proofs, parse

PROVEN = parse(b"clients: {a: {allow: [x], auth: [{uid: 1}]}}")
UNPROVEN = parse(b"clients: {a: {allow: [x], auth: [{uid: 1}]}, b: {allow: [x]}}")

NETWORK = """
[server]
bind_addr = "0.0.0.0:8081"
tls_cert = "c"
tls_key = "k"
[security]
deny_network_remote = false
"""


def config(tmp_path: Path, text: str) -> Config:
    file = tmp_path / "config.toml"
    file.write_text(text, encoding="utf-8")
    return load(file, {})


def test_on_this_machine_the_header_alone_may_name_a_client(tmp_path: Path) -> None:
    check_exposure(config(tmp_path, ""), UNPROVEN)


def test_on_the_network_every_client_needs_a_proof(tmp_path: Path) -> None:
    check_exposure(config(tmp_path, NETWORK), PROVEN)
    with pytest.raises(PolicyError, match=r"0\.0\.0\.0:8081.*: b$"):
        check_exposure(config(tmp_path, NETWORK), UNPROVEN)


def test_require_client_auth_refuses_clients_without_proof(tmp_path: Path) -> None:
    strict = config(tmp_path, "security.require_client_auth = true")
    check_exposure(strict, PROVEN)
    with pytest.raises(PolicyError, match="require_client_auth"):
        check_exposure(strict, UNPROVEN)


def test_proofs_whose_time_is_over_are_warned_about() -> None:
    policy = parse(
        b"""clients:
  a: {allow: [x], auth: [{token_sha256: "%b", not_after: "2027-01-01T00:00:00Z"}, {uid: 1}]}
  b: {allow: [x], auth: [{cert_subject: "CN=b", not_after: "2027-01-01T00:00:01Z"}]}
"""
        % (b"ab" * 32)
    )
    january = 1_798_761_600_000
    assert ended_proofs(policy, january - 1) == []
    assert [one.split(":")[0] for one in ended_proofs(policy, january)] == ["clients.a.auth"]
    assert [one.split(":")[0] for one in ended_proofs(policy, january + 1000)] == ["clients.a.auth", "clients.b.auth"]
    assert "2027-01-01T00:00:00.000Z" in ended_proofs(policy, january)[0]

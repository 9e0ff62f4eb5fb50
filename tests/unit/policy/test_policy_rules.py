"""What a policy answers: may this client do that, and what kind of secret is this."""

from __future__ import annotations

import pytest

from secretsd.model import Capability, SecretType
from secretsd.policy import Policy, parse, rules

POLICY = parse(
    b"""
clients:
  backend: {allow: [jwt_signing_key, "postgres_*"], deny: [postgres_root, "*_old"], can: [read, rotate]}
  auditor: {allow: [], can: [audit]}
  admin: {allow: ["*"], deny: [postgres_root]}
secrets:
  db_password: {rotation_period: 30d}
  "db_*": {type: api_key, rotation: auto}
  "*": {grace_period: 1h}
"""
)


@pytest.mark.parametrize(
    ("client", "capability", "name", "allowed"),
    [
        ("backend", "read", "jwt_signing_key", True),
        ("backend", "read", "postgres_password", True),
        ("backend", "rotate", "postgres_password", True),
        ("backend", "write", "postgres_password", False),
        ("backend", "read", "brave_api_key", False),
        ("backend", "read", "postgres_root", False),
        ("backend", "read", "postgres_password_old", False),
        ("backend", "read", "Postgres_password", False),
        ("Backend", "read", "jwt_signing_key", False),
        ("nobody", "read", "jwt_signing_key", False),
        ("admin", "delete", "brave_api_key", True),
        ("admin", "read", "postgres_root", False),
        ("admin", "read", "no name at all/..", True),
        ("backend", "read", "postgres_/../x", True),
        ("auditor", "read", "jwt_signing_key", False),
        ("auditor", "audit", None, True),
        ("backend", "audit", None, False),
        ("admin", "audit", None, True),
        ("admin", "admin", None, False),  # by default nobody has it
    ],
)
def test_a_client_may_what_is_allowed_not_denied_and_within_its_capabilities(
    client: str, capability: Capability, name: str | None, allowed: bool
) -> None:
    assert POLICY.may(client, capability, name) is allowed
    assert POLICY.may(client, capability, name) is allowed  # remembered, it is the same


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "_CACHED", 3)
    policy = Policy(clients=POLICY.clients, rules=POLICY.rules, sha256="")
    for number in range(20):
        assert policy.may("admin", "read", f"name-{number}")
        assert policy.rule_for(f"name-{number}").grace_ms == 3_600_000
        assert len(policy._reach) <= 3
        assert len(policy._found) <= 3


def test_only_names_are_remembered() -> None:
    policy = Policy(clients=POLICY.clients, rules=POLICY.rules, sha256="")
    policy.may("admin", "read", "x" * 100_000)
    policy.rule_for("x" * 100_000)
    assert (len(policy._reach), len(policy._found)) == (0, 0)


def test_the_first_matching_rule_wins() -> None:
    rule = POLICY.rule_for("db_token")
    assert (rule.pattern, rule.type, rule.rotation) == ("db_*", "api_key", "auto")


def test_a_rule_without_a_type_takes_only_the_type_from_the_next_one_that_has_it() -> None:
    rule = POLICY.rule_for("db_password")
    assert (rule.pattern, rule.type, rule.rotation, rule.rotation_ms) == (
        "db_password",
        "api_key",
        None,
        30 * 86_400_000,
    )
    assert POLICY.rule_for("postgres_password").type == "password"
    assert POLICY.rule_for("something").type is None


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("jwt_signing_key", "jwt_signing_key"),
        ("my_jwt_signing_key", None),
        ("postgres_password", "password"),
        ("password", None),
        ("jarvis_encryption_key", "encryption_key"),
        ("brave_api_key", "external"),
        ("home_assistant_token", "external"),
        ("home_assistant_url", "external"),
        ("something", None),
    ],
)
def test_names_without_a_rule_of_the_file_fall_under_the_built_in_ones(name: str, kind: SecretType | None) -> None:
    assert parse(b"clients: {}").rule_for(name).type == kind


def test_only_the_signing_key_rotates_by_itself_without_being_told() -> None:
    policy = parse(b"clients: {}")
    assert [rule.pattern for rule in policy.rules if rule.rotation == "auto"] == ["jwt_signing_key"]
    assert policy.rule_for("jwt_signing_key").jwks is True


def test_owners_of_proofs_are_found() -> None:
    token = f"{{token_sha256: '{'ab' * 32}'}}"
    text = f"clients: {{a: {{auth: [{{uid: 7}}, {{uid: 7}}]}}, b: {{auth: [{{uid: 7}}, {token}]}}}}"
    policy = parse(text.encode())
    assert policy.uid_owners == {7: ("a", "b")}
    assert policy.token_owners == {b"\xab" * 32: ("b",)}

"""config.toml and policy.yaml: what is refused, where the message points, what a reload does."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.daemon import OPEN_POLICY, Daemon, toml
from tests.support.waiting import eventually

New = Callable[..., Daemon]
BAD = 78


# Configuration


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"server": {"bind_adr": "127.0.0.1:1"}}, ["bind_adr"]),
        ({"servers": {"x": 1}}, ["servers"]),
        ({"server": {"bind_addr": 8081}}, ["bind_addr", "8081"]),
        ({"server": {"bind_addr": "nowhere"}}, ["bind_addr", "nowhere"]),
        ({"server": {"allow_unix_socket": "yes"}}, ["allow_unix_socket", "yes"]),
        ({"security": {"rotation_days": "90"}}, ["rotation_days"]),
        ({"security": {"grace_days": -1}}, ["grace_days"]),
        ({"crypto": {"aead": "rot13"}}, ["aead", "rot13", "aes-gcm-256"]),
        ({"crypto": {"kdf": "md5"}}, ["kdf", "md5", "argon2id"]),
        ({"crypto": {"jwt_sign_algo": "rs256"}}, ["jwt_sign_algo", "ed25519"]),
        ({"logging": {"level": "loud"}}, ["level", "loud", "info"]),
        ({"bus": {"audit": "some"}}, ["audit", "some", "changes"]),
        ({"bus": {"topic_prefix": "a/#"}}, ["topic_prefix"]),
        ({"bus": {"url": "http://127.0.0.1"}}, ["url", "mqtt"]),
        ({"bus": {"node": "a/b"}}, ["node"]),
        ({"server": {"allowed_hosts": "x"}}, ["allowed_hosts"]),
    ],
    ids=lambda given: json.dumps(given) if isinstance(given, dict) else "",
)
def test_a_bad_configuration_is_refused_with_the_file_the_key_and_what_is_allowed(
    new_daemon: New, changes: dict[str, dict[str, Any]], said: list[str]
) -> None:
    message = (daemon := new_daemon(config=changes)).refuses(BAD)
    for word in ("config.toml", *said):
        assert word in message
    assert not daemon.vault_path.exists()


def test_paths_of_which_one_would_be_written_over_are_refused_before_anything_is_made(new_daemon: New) -> None:
    daemon = new_daemon()
    folder = daemon.vault_path.parent
    daemon.configure({"paths": {"master_key_path": str(folder / "vault.json.lock")}})
    before = sorted(folder.glob("**/*"))
    message = daemon.refuses(BAD)
    assert "paths.master_key_path" in message
    assert "paths.vault_path" in message
    assert sorted(folder.glob("**/*")) == before


def test_a_configuration_that_is_no_toml_is_refused_with_the_line(new_daemon: New) -> None:
    daemon = new_daemon()
    daemon.config_path.write_text(toml(daemon.config) + "\n[server\n")
    line = daemon.config_path.read_text().splitlines().index("[server") + 1
    said = daemon.refuses(BAD)
    assert "config.toml" in said
    assert str(line) in said


def test_a_missing_configuration_is_named(new_daemon: New) -> None:
    daemon = new_daemon()
    daemon.config_path.unlink()
    assert str(daemon.config_path) in daemon.refuses(BAD)


def test_an_address_that_others_can_reach_is_refused_without_tls_and_proofs(new_daemon: New) -> None:
    daemon = new_daemon()
    daemon.configure({"server": {"bind_addr": f"0.0.0.0:{daemon.port}"}, "security": {"deny_network_remote": False}})
    assert "bind_addr" in daemon.refuses(BAD)


def test_clients_without_proof_are_refused_where_proof_is_required(new_daemon: New) -> None:
    said = new_daemon(config={"security": {"require_client_auth": True}}).refuses(BAD)
    assert "backend" in said
    assert "admin" in said


def test_rust_log_overrides_the_level(new_daemon: New) -> None:
    def levels(daemon: Daemon) -> set[str]:
        daemon.start().api.create("x", "v")
        daemon.terminate()
        return {json.loads(line)["level"] for line in daemon.output().splitlines()}

    assert not levels(new_daemon(env={"RUST_LOG": "error"})) & {"debug", "info"}
    assert {"debug", "info"} <= levels(new_daemon(env={"RUST_LOG": "debug"}, config={"logging": {"level": "error"}}))


def test_the_log_of_events_of_the_process_is_json_when_asked(new_daemon: New) -> None:
    daemon = new_daemon().start()
    daemon.terminate()
    lines = daemon.output().splitlines()
    assert lines
    for line in lines:
        assert isinstance(json.loads(line), dict)


# Policy


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({**OPEN_POLICY, "default_deny": False}, "default_deny"),
        ("default_deny: true\nclients:\n  a: {allow: [x]}\n  a: {allow: ['*']}\n", "a"),
        ("default_deny: true\nclients:\n  a: {allow: [x], allows: [y]}\n", "allows"),
        ("default_deny: true\nclients:\n  a: {allow: [x], can: [fly]}\n", "fly"),
        ("default_deny: true\nclients:\n  a: {allow: [x], auth: [{token_sha256: abc}]}\n", "token_sha256"),
        ("default_deny: true\nclients:\n  a: {allow: x}\n", "allow"),
        ("default_deny: true\nclients: {}\nsecrets: {x: {type: fruit}}\n", "fruit"),
        ("default_deny: true\nclients: {}\nsecrets: {x: {rotation_period: soon}}\n", "soon"),
        ("default_deny: true\nclients: [\n", "line"),
        ("", "policy.yaml"),
    ],
)
def test_a_bad_policy_is_refused_with_the_file_and_the_place(new_daemon: New, policy: Any, said: str) -> None:
    daemon = new_daemon()
    daemon.write_policy(policy)
    message = daemon.refuses(BAD)
    assert "policy.yaml" in message
    assert said in message


def test_a_reload_is_a_commit_that_sends_clients_to_start_over(new_daemon: New) -> None:
    daemon = new_daemon().start()
    daemon.api.create("other", "v")
    backend = daemon.api.as_("backend")
    before = backend.changes()
    backend.get("/secret/other").refused(403, "forbidden")
    clients = {**OPEN_POLICY["clients"], "backend": {"allow": ["other"]}}
    daemon.write_policy({**OPEN_POLICY, "clients": clients})
    daemon.reload()
    eventually(lambda: backend.get("/secret/other").status == 200, "the new policy holds")
    backend.get(f"/changes?since={before['epoch']}:{before['generation']}").refused(410, "history-gone")
    reloaded = daemon.events("policy.reloaded")[-1]["data"]
    assert reloaded["generation"] == before["generation"] + 1
    assert reloaded["epoch"] == before["epoch"]


def test_a_bad_policy_is_refused_whole_and_the_old_one_stays(new_daemon: New) -> None:
    daemon = new_daemon().start()
    daemon.api.create("shared_x", "v")
    before = daemon.api.get("/secrets").position
    daemon.write_policy("default_deny: true\nclients:\n  intruder: {allow: ['*'], can: [fly]}\n")
    daemon.reload()
    eventually(lambda: daemon.events("policy.rejected"), "the refusal is on record")
    assert daemon.api.as_("backend").value("shared_x") == "v"
    daemon.api.as_("intruder").get("/secrets").refused(401, "unknown-client")
    assert daemon.api.get("/secrets").position == before


def test_what_is_found_doubtful_at_a_start_is_told_and_no_obstacle(new_daemon: New) -> None:
    daemon = new_daemon().start()
    daemon.terminate()
    daemon.vault_path.parent.chmod(0o777)
    daemon.audit_path.chmod(0o644)
    proof = {"token_sha256": "ab" * 32, "not_after": "2020-01-01T00:00:00Z"}
    clients = {"admin": OPEN_POLICY["clients"]["admin"], "late": {"allow": ["x"], "auth": [proof]}}
    daemon.write_policy({"default_deny": True, "clients": clients, "secrets": {"x": {"jwks": True}}})
    daemon.start()
    said = daemon.output()
    assert f"{daemon.vault_path.parent} has mode 0777" in said
    assert f"{daemon.audit_path} has mode 0644" in said
    assert "clients.late.auth" in said
    assert "secrets.x: jwks: true" in said
    before = daemon.output().count("clients.late.auth")
    daemon.follow_policy()
    eventually(lambda: daemon.output().count("clients.late.auth") > before, "a reload tells it too")
    daemon.api.create("x", "v")

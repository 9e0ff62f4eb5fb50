"""policy test: what the recorded audit says of a policy that isn't in force yet."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from secretsd_bus import Chain, SigningKey

from tests.unit.cli.conftest import Ctl

TIME = "2026-11-23T17:00:00.123Z"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """backend has read db and was denied note; admin has rotated db; the schedule too; somebody failed."""
    key = SigningKey.generate()
    chain = Chain(log_id="log", node="host", key=key)
    told = [
        ("secret.read", {"client": "backend", "action": "read", "name": "db", "outcome": "ok"}),
        ("secret.read", {"client": "backend", "action": "read", "name": "db", "outcome": "ok"}),
        ("access.denied", {"client": "backend", "action": "read", "name": "note", "outcome": "denied"}),
        ("access.denied", {"client": "backend", "action": "read", "name": None, "outcome": "denied"}),
        ("secret.rotated", {"client": "admin", "name": "db"}),
        ("secret.rotated", {"client": "secretsd", "name": "db"}),
        ("access.failed", {"client": "backend", "action": "read", "name": "db", "outcome": "failed"}),
    ]
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"".join(chain.append(kind, None, data, TIME).raw + b"\n" for kind, data in told))
    path.with_name("audit.sign.pub").write_bytes(key.public.to_pem())
    return path


@pytest.fixture
def policy(tmp_path: Path) -> Callable[[str], str]:
    def write(backend: str) -> str:
        path = tmp_path / "policy.yaml"
        path.write_text(f"clients:\n  backend: {backend}\n  admin: {{allow: [db], can: [rotate]}}\n")
        return str(path)

    return write


def test_who_would_lose_or_gain_is_named_with_the_line(ctl: Ctl, log: Path, policy: Callable[[str], str]) -> None:
    result = ctl("policy", "test", policy("{allow: [note]}"), "--log", str(log), "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert told["uses"] == 3
    assert [(one["change"], one["client"], one["action"], one["name"], one["times"]) for one in told["changes"]] == [
        ("loses", "backend", "read", "db", 2),
        ("gains", "backend", "read", "note", 1),
    ]
    assert told["changes"][0]["line"] == 2


def test_a_policy_by_which_nobody_loses_ends_with_0(ctl: Ctl, log: Path, policy: Callable[[str], str]) -> None:
    same = ctl("policy", "test", policy("{allow: [db]}"), "--log", str(log))
    assert (same.exit_code, same.stdout) == (0, "nothing changes for the 3 kinds of access in the log\n")
    more = ctl("policy", "test", policy("{allow: [db, note]}"), "--log", str(log))
    assert more.exit_code == 0
    assert "gains" in more.stdout


def test_a_log_that_does_not_verify_proves_nothing(ctl: Ctl, log: Path, policy: Callable[[str], str]) -> None:
    log.write_bytes(log.read_bytes().replace(b'"backend"', b'"bookend"', 1))
    result = ctl("policy", "test", policy("{allow: [db]}"), "--log", str(log))
    assert result.exit_code == 1
    assert "line 1" in result.stderr

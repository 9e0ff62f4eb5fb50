"""why: the line of the policy that decides, from the file alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Ctl

POLICY = 'default_deny: true\nclients:\n  backend:\n    allow: ["db_*"]\n    can: [read]\n'


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return path


def test_what_is_allowed_ends_with_0_and_what_is_denied_with_1(ctl: Ctl, policy: Path) -> None:
    allowed = ctl("why", "backend", "read", "db_password", "--policy", str(policy))
    assert allowed.exit_code == 0
    assert allowed.stdout.startswith(f"allowed: backend may read db_password\n{policy}:4: ")
    denied = ctl("why", "backend", "update", "db_password", "--policy", str(policy), "--json")
    assert denied.exit_code == 1
    told = json.loads(denied.stdout)
    assert (told["allowed"], told["needs"], told["line"]) == (False, "write", 5)


def test_the_policy_is_the_configured_one(ctl: Ctl, policy: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'[security]\nrbac_policy_path = "{policy}"\n')
    assert ctl("why", "backend", "read", "db_password", "--config", str(config)).exit_code == 0


@pytest.mark.parametrize("arguments", [("read",), ("audit", "db_password"), ("dance", "db_password")])
def test_a_question_that_makes_no_sense_is_a_usage_error(ctl: Ctl, policy: Path, arguments: tuple[str, ...]) -> None:
    assert ctl("why", "backend", *arguments, "--policy", str(policy)).exit_code == 2


def test_a_broken_policy_is_refused_with_its_line(ctl: Ctl, policy: Path) -> None:
    policy.write_text("clients:\n  a: {alow: [x]}\n")
    result = ctl("why", "a", "read", "x", "--policy", str(policy))
    assert result.exit_code == 1
    assert "line 2" in result.stderr
    assert "did you mean" in result.stderr


def test_each_mistake_of_a_broken_policy_has_a_line_of_its_own(ctl: Ctl, policy: Path) -> None:
    policy.write_text("clients:\n  a: {alow: [x]}\n  b: {cann: [read]}\n")
    for arguments in (("why", "a", "read", "x", "--policy", str(policy)), ("policy", "test", str(policy))):
        first, second, third = ctl(*arguments).stderr.splitlines()
        assert first == f"error: {policy} can't be used; correct it:"
        assert second.startswith("  line 2: ")
        assert third.startswith("  line 3: ")

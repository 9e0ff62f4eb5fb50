"""Why the policy allows or denies: the answer is the policy's own, and the line is the one that decides."""

from __future__ import annotations

import re
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secretsd.model import Capability
from secretsd.policy.explain import Explained

POLICY = b"""\
default_deny: true
clients:
  backend:
    allow:
      - jwt_signing_key
      - "postgres_*"
    deny: [postgres_root]
    can:
      - read
      - rotate
  old:
    allow: ["*"]
  plain:
    allow: [note]
"""
EXPLAINED = Explained(POLICY, source="policy.yaml")


@pytest.mark.parametrize(
    ("client", "capability", "name", "allowed", "line", "words"),
    [
        ("backend", "read", "postgres_app", True, 6, r"allow holds postgres_\*, and can holds read \(line 9\)"),
        ("backend", "read", "postgres_root", False, 7, r"deny holds postgres_root, which beats postgres_\* of allow"),
        ("backend", "delete", "postgres_app", False, 8, "can holds read, rotate, not delete"),
        ("backend", "read", "other", False, 3, "nothing of allow matches other"),
        ("backend", "audit", None, False, 8, "not audit"),
        ("old", "delete", "other", True, 12, "allow is exactly"),
        ("old", "audit", None, True, 11, "allow is exactly"),
        ("plain", "write", "note", False, 13, "no can is given, which means read, not write"),
        ("plain", "read", "note", True, 14, "no can is given, which means read"),
        ("bakend", "read", "note", False, 2, "there is no client bakend; did you mean backend"),
    ],
)
def test_the_line_that_decides_is_named(
    client: str, capability: Capability, name: str | None, allowed: bool, line: int, words: str
) -> None:
    verdict = EXPLAINED.why(client, capability, name)
    assert (verdict.allowed, verdict.line) == (allowed, line)
    assert re.search(words, verdict.reason), verdict.reason


@given(
    client=st.sampled_from(["backend", "old", "plain", "nobody"]),
    capability=st.sampled_from(get_args(Capability)),
    name=st.none() | st.sampled_from(["note", "postgres_app", "postgres_root", "jwt_signing_key", "x"]),
)
def test_the_answer_is_the_policy_s_own(client: str, capability: Capability, name: str | None) -> None:
    assert EXPLAINED.why(client, capability, name).allowed == EXPLAINED.policy.may(client, capability, name)


def test_a_policy_without_clients_allows_nobody_anything() -> None:
    verdict = Explained(b"default_deny: true\n", source="policy.yaml").why("backend", "read", "note")
    assert (verdict.allowed, verdict.line) == (False, 1)

"""Names and globs in a policy."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secretsd.policy import NameSet
from secretsd.policy.names import is_pattern


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("postgres_password", "postgres_password", True),
        ("postgres_password", "postgres_password2", False),
        ("postgres_password", "Postgres_password", False),
        ("postgres_*", "postgres_password", True),
        ("postgres_*", "postgres_", True),
        ("postgres_*", "postgres", False),
        ("postgres_*", "a_postgres_x", False),
        ("*_password", "db_password", True),
        ("*_password", "db_password_old", False),
        ("*_PASSWORD", "db_password", False),
        ("db?", "db1", True),
        ("db?", "db", False),
        ("db?", "db12", False),
        ("a*b*c", "aXbYc", True),
        ("a*b*c", "acb", False),
        ("a.c", "abc", False),
        ("a.c", "a.c", True),
        ("a.*", "abc", False),
        ("*", "anything", True),
        ("a", "a\n", False),
        ("a?", "a\n", True),
    ],
)
def test_a_pattern_matches_whole_names_with_star_and_question_mark_only(pattern: str, name: str, matches: bool) -> None:
    assert (name in NameSet([pattern])) is matches


@pytest.mark.parametrize("text", ["a", "A.b-c_9", "*", "?", "*_x", "a" * 128, "?" * 128])
def test_names_and_globs_are_patterns(text: str) -> None:
    assert is_pattern(text)


@pytest.mark.parametrize(
    "text", ["", "a b", "a[0-9]", "!a", ".a", "_*", "a/b", "a\n", "ä", "a" * 129, "*" * 129, "{a,b}"]
)
def test_what_no_name_can_match_is_no_pattern(text: str) -> None:
    assert not is_pattern(text)


def test_no_pattern_makes_a_look_up_slow() -> None:
    names = NameSet(["a*" * 60 + "b"])
    started = time.process_time()
    assert "a" * 128 not in names
    assert time.process_time() - started < 0.1


@given(st.from_regex(r"[ab*?]{1,8}", fullmatch=True), st.from_regex(r"[ab]{1,8}", fullmatch=True))
def test_matching_agrees_with_its_definition(pattern: str, name: str) -> None:
    def defined(p: str, n: str) -> bool:
        if not p:
            return not n
        if p[0] == "*":
            return any(defined(p[1:], n[i:]) for i in range(len(n) + 1))
        return bool(n) and p[0] in ("?", n[0]) and defined(p[1:], n[1:])

    assert (name in NameSet([pattern])) is defined(pattern, name)

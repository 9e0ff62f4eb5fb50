from __future__ import annotations

import base64
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from secretsd.crypto.sensitive import Sensitive
from secretsd.errors import Problem
from secretsd.model import DAY_MS, MAX_VALUE_BYTES, CreateSecret, Encoding
from secretsd.policy import SecretRule
from secretsd.service.values import delivered, grace_asked, settled, supplied, wishes
from tests.unit.rotation.records import settings
from tests.unit.support.core import Bench


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=100))
def test_text_comes_back_as_it_was(text: str) -> None:
    assert delivered(supplied(text, "utf-8", "generic"), "utf-8") == text


@given(st.binary(min_size=1, max_size=100))
def test_bytes_come_back_as_they_were(data: bytes) -> None:
    text = base64.b64encode(data).decode()
    assert supplied(text, "base64", "external").reveal() == data
    assert delivered(Sensitive(data), "base64") == text


@pytest.mark.parametrize(
    ("text", "encoding", "slug"),
    [
        ("", "utf-8", "invalid-request"),
        ("", "base64", "invalid-request"),
        ("planted\ud800", "utf-8", "invalid-request"),
        ("planted!", "base64", "invalid-request"),
        ("cGxhbnRlZA", "base64", "invalid-request"),
        ("é", "base64", "invalid-request"),
        ("x" * (MAX_VALUE_BYTES + 1), "utf-8", "too-large"),
        ("é" * (MAX_VALUE_BYTES // 2 + 1), "utf-8", "too-large"),
        (base64.b64encode(bytes(MAX_VALUE_BYTES + 1)).decode(), "base64", "too-large"),
    ],
)
def test_what_can_be_no_value_is_refused_and_not_repeated(text: str, encoding: Encoding, slug: str) -> None:
    with pytest.raises(Problem) as problem:
        supplied(text, encoding, "generic")
    assert problem.value.slug == slug
    assert "planted" not in "".join(traceback.format_exception(problem.value))


def test_the_largest_and_the_smallest_value_are_taken() -> None:
    assert len(supplied("x" * MAX_VALUE_BYTES, "utf-8", "generic").reveal()) == MAX_VALUE_BYTES
    assert supplied("x", "utf-8", "password").reveal() == b"x"


def test_a_signing_key_of_another_kind_is_refused() -> None:
    with pytest.raises(Problem, match="Ed25519"):
        supplied("not a key", "utf-8", "jwt_signing_key")


async def test_a_rule_beats_a_wish_and_a_wish_the_default(bench: Bench) -> None:
    defaults = bench.config.security
    wished = wishes(CreateSecret(name="a", rotation="auto", rotation_period="5d", grace_period="never"))
    free = settled("password", wished, SecretRule("*"), defaults)
    assert (free.rotation, free.rotation_ms, free.grace_ms) == ("auto", 5 * DAY_MS, None)
    ruled = settled("password", wished, SecretRule("*", rotation="manual", rotation_ms=None, grace_ms=0), defaults)
    assert (ruled.rotation, ruled.rotation_ms, ruled.grace_ms) == ("manual", None, 0)
    unsaid = settled("password", wishes(CreateSecret(name="a")), SecretRule("*"), defaults)
    assert (unsaid.rotation, unsaid.rotation_ms, unsaid.grace_ms) == (
        "manual",
        defaults.rotation_ms,
        defaults.grace_ms,
    )


async def test_an_external_secret_never_rotates_by_itself(bench: Bench) -> None:
    wished = wishes(CreateSecret(name="a", rotation="auto"))
    assert settled("external", wished, SecretRule("*", rotation="auto"), bench.config.security).rotation == "manual"


def test_the_grace_of_one_change_is_what_is_asked_else_what_holds() -> None:
    holds = settings(grace_ms=7)
    assert grace_asked(UNSET, UNSET, holds) is UNSET
    assert grace_asked("0s", UNSET, holds) == 0
    assert grace_asked("never", UNSET, holds) is None
    assert grace_asked(UNSET, 2, holds) == 2 * DAY_MS


def test_a_grace_until_all_have_moved_on_is_never_without_end() -> None:
    holds = settings(grace_ms=7, converges=True)
    assert grace_asked(UNSET, UNSET, holds) is UNSET
    assert grace_asked("1d", UNSET, holds) == DAY_MS
    with pytest.raises(Problem):
        grace_asked("never", UNSET, holds)

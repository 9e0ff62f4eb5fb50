from __future__ import annotations

import pytest
from secretsd_bus import SECRET_VERBS, Chain, SigningKey, Topics

TOPICS = Topics("jarvis/secretsd")


def test_the_topics_are_those_of_the_contract() -> None:
    assert TOPICS.secret_event("a", "rotated") == "jarvis/secretsd/secret/a/rotated"
    assert TOPICS.secret_state("a") == "jarvis/secretsd/secret/a/state"
    assert TOPICS.audit("access", "denied") == "jarvis/secretsd/audit/access/denied"
    assert TOPICS.checkpoint("pi") == "jarvis/secretsd/checkpoint/pi"
    assert TOPICS.status("pi") == "jarvis/secretsd/status/pi"
    assert TOPICS.keys("pi") == "jarvis/secretsd/keys/pi"
    assert SECRET_VERBS == (
        "created",
        "updated",
        "rotated",
        "rotation_started",
        "rotation_failed",
        "key_published",
        "expiring",
        "expired",
        "retired",
        "deleted",
    )


@pytest.mark.parametrize(
    "prefix", ["", "/", "/a", "a/", "a//b", "a/+", "#", "$SYS/a", "a\x00", "a\nb", "a\x7f", "\ud800", "a" * 1025]
)
def test_a_prefix_that_would_not_be_one_is_a_value_error(prefix: str) -> None:
    with pytest.raises(ValueError, match="prefix"):
        Topics(prefix)


def test_a_prefix_may_be_in_any_script() -> None:
    assert Topics("zuhause/geheimnisse-ü").status("n") == "zuhause/geheimnisse-ü/status/n"


@pytest.mark.parametrize("name", [None, "", "a/b", "+", "a b", 5, "x" * 129, ".a", "aé"])
def test_a_secret_event_whose_name_is_none_counts_nowhere(name: object) -> None:
    chain = Chain(log_id="l", node="n", key=SigningKey.generate())
    event = chain.append("secret.rotated", None, {"name": name}, "2026-11-23T17:00:00.123Z")  # type: ignore[dict-item]
    assert TOPICS.of(event) == frozenset()

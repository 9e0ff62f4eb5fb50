"""tail's judgement: what is shown once, what is missing, what was said before, and how the history joins."""

from __future__ import annotations

from datetime import UTC, datetime

import click
import pytest
from secretsd_bus import Chain, Event, SigningKey, Topics, line_hash

from secretsd.cli.history import parse_since
from secretsd.cli.sieve import HISTORY, Filters, Forged, Missing, Sieve

TIME = "2026-11-23T17:00:00.123Z"
TOPICS = Topics("jarvis/secretsd")
READ = TOPICS.audit("secret", "read")


@pytest.fixture
def key() -> SigningKey:
    return SigningKey.generate()


@pytest.fixture
def sieve(key: SigningKey) -> Sieve:
    return Sieve(TOPICS, [key.public])


@pytest.fixture
def lines(key: SigningKey) -> list[Event]:
    """Lines 1 to 9 of a log: readings of a secret."""
    chain = Chain(log_id="log", node="host", key=key)
    return [chain.append("secret.read", "db", {"name": "db", "client": "app", "outcome": "ok"}, TIME) for _ in range(9)]


def test_lines_that_did_not_come_are_named(sieve: Sieve, lines: list[Event]) -> None:
    assert sieve.take(READ, lines[0].raw) == [lines[0]]
    assert sieve.take(READ, lines[3].raw) == [Missing(2, 3), lines[3]]
    assert sieve.take(READ, lines[4].raw) == [lines[4]]


def test_what_was_said_before_is_stale_and_a_redelivery_is_nothing(sieve: Sieve, lines: list[Event]) -> None:
    sieve.take(READ, lines[4].raw)
    assert sieve.take(READ, lines[4].raw) == []
    assert sieve.take(READ, lines[1].raw) == [Forged(READ, "stale", len(lines[1].raw))]


def test_a_signed_line_that_does_not_follow_is_a_broken_chain(
    sieve: Sieve, lines: list[Event], key: SigningKey
) -> None:
    sieve.take(READ, lines[1].raw)
    other = Chain(log_id="log", node="host", key=key, sequence=2, head=line_hash(lines[0].raw))
    forked = other.append("secret.read", "db", {"name": "db"}, TIME)
    assert sieve.take(READ, forked.raw)[0] == Forged(READ, "broken-chain", len(forked.raw))


def test_history_and_live_stream_join_without_a_double(sieve: Sieve, lines: list[Event]) -> None:
    shown = [one for line in lines[2:6] for one in sieve.take_line(line.raw)]
    shown += [one for line in lines[1:] for one in sieve.take(READ, line.raw)]
    assert shown == lines[2:]


def test_a_gap_can_be_filled_before_the_message_is_shown(sieve: Sieve, lines: list[Event]) -> None:
    sieve.take_line(lines[0].raw)
    assert sieve.take(READ, lines[3].raw, stop_at_gap=True) == [Missing(2, 3)]
    filled = [one for line in lines[1:5] for one in sieve.take_line(line.raw)]
    assert filled == lines[1:5]
    assert sieve.take(READ, lines[3].raw) == []
    assert sieve.take(READ, lines[5].raw) == [lines[5]]


def test_a_forged_or_missing_line_of_the_history_is_shown_as_such(sieve: Sieve, lines: list[Event]) -> None:
    sieve.take_line(lines[0].raw)
    assert sieve.take_line(b"{}") == [Forged(HISTORY, "not-canonical", 2)]
    assert sieve.take_line(lines[2].raw) == [Missing(2, 2), lines[2]]


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        (Filters(secrets=("d*",), clients=("app",), types=("secret.*",), outcomes=("ok",)), True),
        (Filters(secrets=("x*", "db")), True),
        (Filters(clients=("other",)), False),
        (Filters(types=("access.*",)), False),
        (Filters(outcomes=("denied",)), False),
    ],
)
def test_filters_all_have_to_match(lines: list[Event], filters: Filters, wanted: bool) -> None:
    assert filters.wants(lines[0]) is wanted


def test_since_is_a_time_or_a_duration_before_now() -> None:
    now = datetime(2026, 11, 23, 17, tzinfo=UTC)
    assert parse_since("2h", now=now) == "2026-11-23T15:00:00.000Z"
    assert parse_since(TIME, now=now) == TIME
    for nonsense in ("never", "yesterday", ""):
        with pytest.raises(click.UsageError):
            parse_since(nonsense, now=now)

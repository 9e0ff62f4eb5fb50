from __future__ import annotations

from typing import Any

import pytest
from secretsd_bus import SigningKey, Topics, Unchained

from secretsd.audit.eventkeys import EventKeys
from secretsd.outbox.witness import (
    FOREIGN_MOST,
    KnownLine,
    Position,
    Witness,
    another_log,
    known_line,
    older_than,
    session_of,
)
from tests.vectors.event_vectors import key

KEY, OTHER = key(1), key(2)
TOPICS = Topics("jarvis/secretsd")
TIME = "2026-11-23T17:00:00.123Z"
POSITION = Position(epoch="now", past_epochs=frozenset({"past"}), generation=10, sequence=100)


def sealer(key: SigningKey = KEY, log_id: str = "log", node: str = "pi", session: int = 3) -> Unchained:
    return Unchained(log_id=log_id, node=node, key=key, session=session)


def status(by: Unchained, **data: Any) -> bytes:
    return by.seal("daemon.status", None, {"state": "online", "session": 3} | data, TIME).raw


@pytest.fixture
def witness() -> Witness:
    return Witness(TOPICS, EventKeys(KEY), "log")


def checkpoint(**changes: Any) -> dict[str, Any]:
    return {"epoch": "now", "generation": 10, "sequence": 100} | changes


@pytest.mark.parametrize(
    ("remembered", "says"),
    [
        (checkpoint(), None),
        (checkpoint(generation=9, sequence=99), None),
        (checkpoint(generation=12), "vault.json is older than the broker's checkpoint by 2 commits"),
        (checkpoint(sequence=107), "the audit log is older than the broker's checkpoint by 7 lines"),
        (checkpoint(epoch="unknown", generation=1, sequence=1), "an epoch that this vault does not know"),
        (checkpoint(epoch="past", generation=99, sequence=999), None),
    ],
)
def test_the_brokers_memory_tells_what_is_older_and_by_how_much(remembered: dict[str, Any], says: str | None) -> None:
    found = older_than(POSITION, remembered)
    assert (found is None) == (says is None)
    assert says is None or says in (found or "")


@pytest.mark.parametrize("member", ["epoch", "generation", "sequence"])
@pytest.mark.parametrize("value", [None, [], 1.5, {}])
def test_a_checkpoint_of_another_form_says_nothing(member: str, value: object) -> None:
    assert older_than(POSITION, checkpoint(**{member: value})) is None


def test_a_checkpoint_of_this_epoch_vouches_for_a_line() -> None:
    assert known_line(POSITION, checkpoint(sequence=7, head="h")) == KnownLine(7, "h")
    for says_nothing in (checkpoint(), checkpoint(head="h", epoch="past"), checkpoint(head="h", sequence=0)):
        assert known_line(POSITION, says_nothing) is None


def test_a_log_that_went_another_way_since_is_noticed_though_it_is_longer() -> None:
    assert another_log(KnownLine(7, "h"), "h") is None
    assert another_log(KnownLine(7, "h"), None) is None
    assert "line 7 of the audit log is another" in (another_log(KnownLine(7, "h"), "other") or "")


def test_invented_topics_do_not_fill_the_memory(witness: Witness) -> None:
    for number in range(3 * FOREIGN_MOST):
        witness.own(f"jarvis/secretsd/status/n{number}", b"garbage")
    assert len(witness.foreign) == FOREIGN_MOST


def test_what_this_daemon_said_at_any_time_is_its_own(witness: Witness) -> None:
    event = witness.own(TOPICS.status("pi"), status(sealer(session=1), session=1))
    assert event is not None
    assert session_of(event) == 1
    assert witness.foreign == set()


@pytest.mark.parametrize("session", [None, "7", [7]])
def test_a_message_that_names_no_session_says_nothing_of_one(witness: Witness, session: object) -> None:
    event = witness.own(TOPICS.status("pi"), status(sealer(), session=session))
    assert event is None or session_of(event) == 0


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        (TOPICS.status("other"), status(sealer(OTHER, node="other"))),
        (TOPICS.status("pi"), status(sealer(OTHER))),
        (TOPICS.status("pi"), status(sealer(log_id="other"))),
        (TOPICS.status("pi"), status(sealer(node="other"))),
        (TOPICS.checkpoint("pi"), status(sealer())),
        (TOPICS.checkpoint("pi"), b"garbage"),
        (TOPICS.checkpoint("pi"), b"\xff"),
    ],
)
def test_anybody_else_under_the_prefix_is_noticed_and_not_believed(
    witness: Witness, topic: str, payload: bytes
) -> None:
    assert witness.own(topic, payload) is None
    assert witness.foreign == {topic}


def test_a_cleared_topic_is_nobody(witness: Witness) -> None:
    assert witness.own(TOPICS.checkpoint("other"), b"") is None
    assert witness.foreign == set()


def test_it_listens_to_all_nodes_under_the_prefix(witness: Witness) -> None:
    assert witness.filters == ["jarvis/secretsd/checkpoint/+", "jarvis/secretsd/status/+"]

from __future__ import annotations

from typing import Any

import pytest
from secretsd_bus import Message, SigningKey, Topics, Unchained

from secretsd.audit.eventkeys import EventKeys, PastKey
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
        (checkpoint(generation=11), "vault.json is older than the broker's checkpoint by 1 commits"),
        (checkpoint(generation=12), "vault.json is older than the broker's checkpoint by 2 commits"),
        (checkpoint(sequence=101), "the audit log is older than the broker's checkpoint by 1 lines"),
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


@pytest.mark.parametrize(
    "topic",
    [
        "jarvis/secretsd/status/a\n2026-11-28T00:00:00.000Z INFO secretsd: all is well",
        "jarvis/secretsd/status/" + "x" * 129,
        "jarvis/secretsd/status/a/b",
        "jarvis/secretsd/secret/x",
        "elsewhere/status/pi",
    ],
)
def test_what_comes_on_no_daemons_topic_is_not_named_in_the_log(witness: Witness, topic: str) -> None:
    assert witness.own(topic, b"garbage") is None
    assert witness.foreign == set()


def test_what_this_daemon_said_at_any_time_is_its_own(witness: Witness) -> None:
    event = witness.own(TOPICS.status("pi"), status(sealer(session=1), session=1))
    assert event is not None
    assert session_of(event) == 1
    assert witness.foreign == set()


def test_a_key_of_the_past_speaks_for_the_daemon_up_to_its_end_only() -> None:
    witness = Witness(TOPICS, EventKeys(KEY, (PastKey(OTHER.public, b"", 50),)), "log")
    for sequence, counts in ((50, True), (51, False)):
        said = sealer(OTHER).seal("audit.checkpoint", None, checkpoint(sequence=sequence), TIME)
        assert (witness.own(TOPICS.checkpoint("pi"), said.raw) is not None) == counts
    assert witness.foreign == {TOPICS.checkpoint("pi")}


@pytest.mark.parametrize("session", [None, "7", [7]])
def test_a_message_that_names_no_session_says_nothing_of_one(witness: Witness, session: object) -> None:
    event = witness.own(TOPICS.status("pi"), status(sealer(), session=session))
    assert event is not None
    assert session_of(event) == 0


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


def arrives(topic: str, payload: bytes, *, retain: bool = False) -> Message:
    return Message(topic, payload, retain, duplicate=False)


def place(by: Unchained, **data: Any) -> bytes:
    return by.seal("audit.checkpoint", None, {"session": by.session} | data, TIME).raw


@pytest.mark.parametrize(
    ("payload", "displaces"),
    [
        (status(sealer()), False),
        (status(sealer(session=2), state="offline", session=2), True),
        (status(sealer(), state="offline"), True),
        (status(sealer(session=2), session=2), True),
        (status(sealer(OTHER)), True),
        (b"garbage", True),
        (b"", True),
    ],
    ids=[
        "ours",
        "an older will",
        "a will of the same number",
        "an older online",
        "another key's",
        "garbage",
        "cleared",
    ],
)
def test_what_stands_in_the_place_of_our_status_is_noticed(witness: Witness, payload: bytes, displaces: bool) -> None:
    assert witness.displaces(arrives(TOPICS.status("pi"), payload), "pi", 3) == displaces
    assert not witness.displaces(arrives(TOPICS.checkpoint("pi"), payload), "pi", 3)
    assert witness.copies == set()


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        (TOPICS.status("other"), status(sealer(node="other"))),
        (TOPICS.checkpoint("other"), place(sealer(node="other", session=1))),
        (TOPICS.checkpoint("pi"), place(sealer(session=4))),
        (TOPICS.status("pi"), status(sealer(session=4), session=4)),
    ],
)
def test_a_copy_of_this_vault_that_is_served_elsewhere_is_noticed(witness: Witness, topic: str, payload: bytes) -> None:
    witness.displaces(arrives(topic, payload, retain=True), "pi", 3)
    assert witness.copies == set()  # it may be what an earlier process left there
    witness.displaces(arrives(topic, payload), "pi", 3)
    assert witness.copies == {topic}
    assert witness.foreign == set()


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        (TOPICS.status("other"), status(sealer(node="other", session=2), state="offline", session=2)),
        (TOPICS.checkpoint("pi"), place(sealer(session=2))),
        (TOPICS.checkpoint("pi"), place(sealer())),
    ],
    ids=["the will from when the node had another name", "an earlier connection's", "this connection's"],
)
def test_what_an_earlier_process_said_is_no_copy_however_late_it_comes(
    witness: Witness, topic: str, payload: bytes
) -> None:
    witness.displaces(arrives(topic, payload), "pi", 3)
    assert witness.copies == set()


def test_a_cleared_topic_is_nobody(witness: Witness) -> None:
    assert witness.own(TOPICS.checkpoint("other"), b"") is None
    assert witness.foreign == set()


def test_it_listens_to_all_nodes_under_the_prefix(witness: Witness) -> None:
    assert witness.filters == ["jarvis/secretsd/checkpoint/+", "jarvis/secretsd/status/+"]

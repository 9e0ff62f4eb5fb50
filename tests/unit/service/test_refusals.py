from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secretsd.audit.log import Entry
from secretsd.service.refusals import (
    BURST,
    DELAY_MOST_SECONDS,
    FORGET_SECONDS,
    FREE_FAILURES,
    KINDS_MOST,
    PEERS_MOST,
    WAITING_MOST,
    Brake,
    Refusal,
    RefusalFolder,
    peer_group,
)

REFUSAL = Refusal("access.denied", "backend", "token", "read", "db_password", "not allowed by policy", "127.0.0.1")


def spent() -> RefusalFolder:
    """A folder whose burst has just been used up, at second 100."""
    folder = RefusalFolder()
    assert all(folder.take(REFUSAL, 100.0) for _ in range(BURST))
    return folder


def written(folder: RefusalFolder) -> list[Entry]:
    """The lines for what was counted, as the gate writes them."""
    return [refusal.entry(count=count, request_id=None) for refusal, count in folder.drain().items()]


def test_what_could_not_be_written_is_counted_on() -> None:
    folder = spent()
    folder.take(REFUSAL, 100.0)
    folded = folder.drain()
    folder.take(REFUSAL, 100.0)
    folder.put_back(folded)
    assert folder.drain() == {REFUSAL: 2}


def test_the_first_refusals_get_a_line_each_and_then_they_are_counted() -> None:
    folder = spent()
    assert not any(folder.take(REFUSAL, 100.0) for _ in range(1000))
    [entry] = written(folder)
    assert (entry.type, entry.subject) == ("access.denied", "db_password")
    assert (entry.data["count"], entry.data["request_id"], entry.data["client"]) == (1000, None, "backend")
    assert folder.drain() == {}


def test_a_single_refusal_keeps_its_request_id() -> None:
    data = REFUSAL.entry(count=1, request_id="r1").data
    assert (data["count"], data["request_id"], data["outcome"]) == (1, "r1", "denied")
    assert replace(REFUSAL, type="access.failed").entry(count=1, request_id=None).data["outcome"] == "failed"


def test_lines_of_their_own_come_back_with_time() -> None:
    folder = spent()
    assert not folder.take(REFUSAL, 100.9)
    assert folder.take(REFUSAL, 101.0)
    assert not folder.take(REFUSAL, 101.5)
    assert [folder.take(REFUSAL, 10_000.0) for _ in range(BURST + 1)] == [True] * BURST + [False]


def test_a_clock_that_stands_or_runs_back_earns_nothing() -> None:
    folder = spent()
    assert not folder.take(REFUSAL, 50.0)
    assert not folder.take(REFUSAL, 50.5)


def test_different_refusals_are_counted_apart() -> None:
    folder = spent()
    for name in ("a", "b", "a"):
        folder.take(replace(REFUSAL, name=name), 100.0)
    assert [(entry.subject, entry.data["count"]) for entry in written(folder)] == [("a", 2), ("b", 1)]


@given(st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3), st.text(max_size=3)), max_size=200))
def test_what_is_sent_from_outside_never_decides_how_many_lines_there_are(sent: list[tuple[str, str, str]]) -> None:
    folder = spent()
    for name, action, peer in sent:
        folder.take(replace(REFUSAL, name=name, action=action, peer=peer), 100.0)
    entries = written(folder)
    assert len(entries) <= KINDS_MOST + 1
    assert sum(entry.data["count"] for entry in entries) == len(sent)


def test_what_is_beyond_the_kinds_shares_a_line_without_names() -> None:
    folder = spent()
    for number in range(KINDS_MOST + 50):
        folder.take(replace(REFUSAL, name=f"n{number}", peer=f"10.0.0.{number}"), 100.0)
    last = written(folder)[-1]
    assert last.data["count"] == 50
    assert (last.subject, last.data["client"], last.data["action"]) == (None, None, "any")


# The brake


def test_the_first_wrong_credentials_cost_nothing_and_then_the_time_doubles() -> None:
    brake = Brake()
    delays = [brake.failed("peer", 1.0) for _ in range(FREE_FAILURES + 8)]
    assert delays[:FREE_FAILURES] == [0.0] * FREE_FAILURES
    assert delays[FREE_FAILURES:] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, DELAY_MOST_SECONDS, DELAY_MOST_SECONDS]


def test_one_peer_does_not_slow_another() -> None:
    brake = Brake()
    for _ in range(50):
        brake.failed("guesser", 1.0)
    assert brake.failed("other", 1.0) == 0.0


@pytest.mark.parametrize(
    ("addresses", "group"),
    [
        (("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"), "loopback"),
        (("2001:db8::1", "2001:db8::ffff:1"), "2001:db8::/64"),
        (("192.0.2.7", "::ffff:192.0.2.7"), "192.0.2.7"),
        (("unix",), "unix"),
    ],
)
def test_all_addresses_that_one_sender_has_count_as_one_peer(addresses: tuple[str, ...], group: str) -> None:
    assert {peer_group(address) for address in addresses} == {group}


def test_a_peer_that_stopped_is_forgotten() -> None:
    brake = Brake()
    for _ in range(50):
        brake.failed("peer", 1.0)
    assert brake.failed("peer", 1.0 + FORGET_SECONDS) > 0
    assert brake.failed("peer", 2.0 + 2 * FORGET_SECONDS) == 0.0


@given(st.integers(0, 10**6))
def test_a_peer_waits_at_most_so_long_however_often_it_fails(count: int) -> None:
    brake = Brake()
    brake.failed("peer", 1.0)
    brake._peers["peer"].count = count
    assert 0 <= brake.failed("peer", 1.0) <= DELAY_MOST_SECONDS


def test_peers_that_come_and_go_do_not_fill_the_memory() -> None:
    brake = Brake()
    for number in range(PEERS_MOST * 3):
        brake.failed(f"peer-{number}", 1.0)
    assert len(brake._peers) == PEERS_MOST
    assert f"peer-{PEERS_MOST * 3 - 1}" in brake._peers


def test_only_so_many_wait_at_once() -> None:
    brake = Brake()
    assert all(brake.enter() for _ in range(WAITING_MOST))
    assert not brake.enter()
    brake.leave()
    assert brake.enter()

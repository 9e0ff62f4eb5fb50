from __future__ import annotations

from secretsd.outbox.backoff import HELD_SECONDS, MOST_SECONDS, Backoff


def longest(_: float, most: float) -> float:
    return most


def test_a_broker_that_does_not_answer_is_asked_less_and_less_often() -> None:
    backoff = Backoff(longest)
    assert [backoff.next(0) for _ in range(7)] == [0.2, 0.4, 0.8, 1.6, 3.2, MOST_SECONDS, MOST_SECONDS]


def test_so_is_one_that_ends_each_connection_at_once() -> None:
    backoff = Backoff(longest)
    assert [backoff.next(HELD_SECONDS / 2) for _ in range(4)] == [0.2, 0.4, 0.8, 1.6]


def test_after_a_connection_that_held_the_next_try_comes_soon() -> None:
    backoff = Backoff(longest)
    for _ in range(5):
        backoff.next(0)
    assert backoff.next(HELD_SECONDS) == 0.2


def test_several_daemons_spread() -> None:
    assert Backoff(lambda least, _: least).next(0) == 0.1

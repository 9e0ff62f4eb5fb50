from __future__ import annotations

from secretsd.outbox.retained import RetainedQueue


def drained(queue: RetainedQueue) -> tuple[list[str], list[str]]:
    changed, repeated = [], []
    while (name := queue.take_changed()) is not None:
        changed.append(name)
    while (name := queue.take_repeated()) is not None:
        repeated.append(name)
    return changed, repeated


def test_changed_states_come_before_repeated_ones_and_ask_for_a_checkpoint() -> None:
    queue = RetainedQueue()
    queue.repeat(["a", "b"])
    assert not queue.checkpoint_due
    queue.changed(["c"])
    assert queue.checkpoint_due
    assert drained(queue) == (["c"], ["a", "b"])


def test_a_name_is_due_once_and_as_changed_if_it_changed() -> None:
    queue = RetainedQueue()
    queue.repeat(["a", "b", "a"])
    queue.changed(["b", "b"])
    queue.repeat(["b"])
    assert drained(queue) == (["b"], ["a"])


def test_what_was_taken_can_become_due_again() -> None:
    queue = RetainedQueue()
    queue.changed(["a"])
    assert queue.take_changed() == "a"
    queue.changed(["a"])
    assert drained(queue) == (["a"], [])


def test_a_lost_connection_forgets_everything() -> None:
    queue = RetainedQueue()
    queue.changed(["a"])
    queue.repeat(["b"])
    queue.forget()
    assert (drained(queue), queue.checkpoint_due) == (([], []), False)

from __future__ import annotations

from secretsd.outbox.retained import STATUS_REST_SECONDS, RetainedQueue


def drained(queue: RetainedQueue) -> tuple[list[str], list[str]]:
    return list(iter(queue.take_changed, None)), list(iter(queue.take_repeated, None))


def test_changed_states_come_before_repeated_ones_and_ask_for_a_checkpoint() -> None:
    queue = RetainedQueue()
    queue.repeat(["a", "b"])
    before = queue.checkpoint_due
    queue.changed(["c"])
    assert (before, queue.checkpoint_due) == (False, True)
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
    assert drained(queue) == ([], [])
    assert not queue.checkpoint_due


def test_a_displaced_status_is_said_again_at_once_and_then_only_so_often() -> None:
    queue = RetainedQueue()
    assert not queue.take_status(0)
    said = []
    for second in range(int(2 * STATUS_REST_SECONDS) + 1):
        queue.status_due = True
        if queue.take_status(second):
            said.append(second)
    assert said == [0, STATUS_REST_SECONDS, 2 * STATUS_REST_SECONDS]
    queue.status_due = True
    queue.forget()
    assert not queue.take_status(1000)


def test_nothing_is_due_while_the_key_changes_and_all_of_it_is_kept() -> None:
    queue = RetainedQueue()
    queue.repeat(["a"])
    queue.changed(["b"])
    queue.status_due = queue.checkpoint_overdue = queue.held = True
    assert drained(queue) == ([], [])
    taken = [queue.take_status(0), queue.take_checkpoint(overdue=True), queue.take_checkpoint(overdue=False)]
    assert taken == [False, False, False]
    queue.held = False
    assert drained(queue) == (["b"], ["a"])
    assert (queue.take_status(0), queue.take_checkpoint(overdue=True)) == (True, True)


def test_one_checkpoint_answers_both_its_reasons() -> None:
    queue = RetainedQueue()
    queue.changed(["a"])
    assert not queue.take_checkpoint(overdue=True)
    queue.checkpoint_overdue = True
    taken = [queue.take_checkpoint(overdue=overdue) for overdue in (False, True, False)]
    assert taken == [True, False, False]

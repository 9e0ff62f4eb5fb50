"""Only the daemon's own answers say what was taken in (docs/client.md, rule 3)."""

import pytest
from secretsd_client._model import Changes

from tests.unit.client.world import EPOCH, changed, secret


def test_applied_is_set_by_changes_alone(world):
    world.begin(5)
    world.announce(9)
    world.fetch("kid-2", 9)
    world.checkpoint(9)
    assert world.state.history.applied == 5
    assert world.state.history.since == f"{EPOCH}:5"
    world.changes(9, changed(9, "kid-2"))
    assert world.state.history.applied == 9


def test_a_checkpoint_beyond_applied_asks_what_changed_after_a_random_part_of_the_spread(world):
    world.begin()
    world.checkpoint(6)
    assert not world.due().changes
    assert world.due().wake_at == pytest.approx(world.now + 0.1)
    world.now += 0.1
    assert world.due().changes


def test_what_changes_lists_is_superseded_and_fetched(world):
    world.begin()
    world.changes(8, changed(7, "kid-2"))
    assert world.value is None
    world.now += 0.2
    assert world.due().fetch == ("db",)


def test_a_change_that_a_fetch_was_already_past_fetches_nothing(world):
    world.begin()
    world.fetch("kid-2", 8)
    world.changes(8, changed(7, "kid-2"))
    assert world.value == secret("kid-2")


def test_only_one_question_is_under_way_and_a_checkpoint_meanwhile_asks_once_more(world):
    world.begin()
    world.checkpoint(6)
    world.now += 0.2
    assert world.due().changes
    world.checkpoint(7)
    world.now += 1
    assert not world.due().changes
    answer = Changes(EPOCH, 6, 1, world.uptime_ms, ())
    world.state.changes_answered(answer, complete=False, sent_at=world.now, now=world.now)
    world.now += 0.2
    assert world.due().changes


def test_a_checkpoint_during_a_question_whose_answer_covers_it_asks_no_more(world):
    world.begin()
    world.checkpoint(6)
    world.now += 0.2
    assert world.due().changes
    world.checkpoint(7)
    answer = Changes(EPOCH, 7, 1, world.uptime_ms, ())
    world.state.changes_answered(answer, complete=False, sent_at=world.now, now=world.now)
    world.now += 1
    assert not world.due().changes
    assert world.state.history.vouched_until > world.now


def test_a_daemon_that_answers_less_than_it_announced_is_not_asked_faster_than_it_announces(world):
    world.begin()
    world.checkpoint(9)
    world.now += 0.2
    assert world.due().changes
    asked = 0
    for _ in range(100):
        world.changes(5)
        world.checkpoint(9)
        world.now += 0.2
        asked += world.due().changes
    assert asked <= 4


@pytest.mark.parametrize(
    "said",
    [
        lambda world: world.state.history.session(2, world.now),
        lambda world: world.checkpoint(5, session=2),
        lambda world: world.checkpoint(5, epoch="epoch-two"),
    ],
    ids=["status", "checkpoint", "checkpoint of another epoch"],
)
def test_a_newer_session_or_another_epoch_asks_once_per_interval(world, said):
    world.begin()
    for asks in (True, False):
        said(world)
        said(world)
        world.now += 1
        assert world.due().changes == asks
        world.changes(5)
    world.now += 10
    said(world)
    world.now += 1
    assert world.due().changes


def test_an_older_session_asks_nothing(world):
    world.begin()
    world.checkpoint(5, session=0)
    assert not world.state.history.session(0, world.now)
    world.now += 1
    assert not world.due().changes


def test_an_answer_confirms_as_of_its_question(world):
    world.begin()
    world.state.history.begin(world.now)
    asked_at, world.now = world.now, world.now + 1
    world.state.changes_answered(
        Changes(EPOCH, 5, 1, world.uptime_ms, ()), complete=False, sent_at=asked_at, now=world.now
    )
    assert world.state.history.confirmed_at == asked_at

"""A checkpoint vouches for what is cached only as far as its time allows (docs/client.md, rule 5)."""

import pytest

from tests.unit.client.world import secret


def test_a_fresh_checkpoint_keeps_values_fresh_for_three_intervals(world):
    world.begin()
    world.now += 25
    world.checkpoint()
    world.now += 29.9
    assert world.value == secret()
    world.now += 0.2
    assert world.value is None


def test_a_checkpoint_that_was_held_back_vouches_from_when_it_was_made(world):
    world.begin()
    world.now += 60
    world.checkpoint(late=25)
    world.now += 4.9
    assert world.value == secret()
    world.now += 0.2
    assert world.value is None


@pytest.mark.parametrize(
    "seen",
    [
        {"late": 30},
        {"late": 3000},
        {"session": 0},
        {"session": 2},
        {"epoch": "epoch-two"},
        {"generation": 6},
    ],
    ids=[
        "three intervals old",
        "replayed",
        "older session",
        "newer session",
        "other epoch",
        "beyond applied",
    ],
)
def test_a_checkpoint_vouches_for_nothing_when(world, seen):
    world.begin()
    world.now += 60
    world.checkpoint(**seen)
    assert world.value is None
    assert world.state.counts["stale_checkpoints"] == (seen.get("late", 0) > 0 or seen.get("session") == 0)


def test_a_checkpoint_that_comes_after_a_younger_one_takes_nothing_back(world):
    world.begin()
    world.now += 60
    world.checkpoint()
    world.checkpoint(late=20)
    world.now += 29
    assert world.value == secret()


def test_a_checkpoint_from_before_the_first_answer_is_judged_when_that_has_come(world):
    world.checkpoint(5)
    world.begin()
    world.now += 29
    assert world.state.history.vouched_until == pytest.approx(5000 + 30)
    assert world.value == secret()


def test_a_clock_that_stood_still_buys_a_checkpoint_no_future(world):
    world.begin()
    world.checkpoint(late=-3600)
    assert world.state.history.vouched_until == world.now + 30


def test_a_silent_bus_makes_the_client_ask_once_per_time_to_live(world):
    world.state.bus_configured(True, world.now)
    world.begin()
    world.now += 29
    assert not world.due().changes
    world.now += 2
    assert world.due().changes


def test_a_vouching_bus_makes_no_questions(world):
    world.state.bus_configured(True, world.now)
    world.begin()
    for _ in range(60):
        world.checkpoint()
        world.now += 10
        assert not world.due().changes


def test_without_a_bus_nobody_asks_unless_somebody_watches(world):
    world.state.bus_configured(False, world.now)
    world.begin()
    world.now += 10_000
    assert not world.due().changes
    world.state.watch("db", world.now)
    world.now += 301
    assert world.due().changes

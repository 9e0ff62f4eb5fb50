"""What is cached holds for a while, and what is announced supersedes it (docs/client.md, rules 2 and 5)."""

import pytest
from secretsd_client._model import Fetched

from tests.unit.client.world import EPOCH, secret


def test_a_value_is_fresh_for_30_s_while_a_bus_is_silent(world):
    world.fetch()
    world.now += 29.9
    assert world.value == secret()
    world.now += 0.2
    assert world.value is None


def test_a_value_is_fresh_for_300_s_where_there_is_no_bus_also_one_fetched_before_that_was_known(world):
    world.fetch()
    world.state.bus_configured(False, world.now)
    world.now += 299
    assert world.value == secret()
    world.now += 2
    assert world.value is None


def test_a_value_counts_from_when_it_was_asked_for_not_from_when_the_answer_came(world):
    answer = Fetched(secret(), EPOCH, 5)
    world.state.fetched("db", answer, sent_at=world.now - 20, now=world.now)
    world.now += 11
    assert world.value is None


def test_not_modified_makes_the_value_fresh_again(world):
    world.fetch()
    world.now += 40
    assert world.state.order("db").etag == "kid-1"
    assert world.state.fetched("db", Fetched(None, EPOCH, 6), sent_at=world.now, now=world.now) == secret()
    assert world.value == secret()


def test_a_higher_generation_supersedes_and_the_refetch_is_spread(world):
    world.begin()
    world.announce(6)
    assert world.value is None
    assert world.due().fetch == ()
    world.now += 0.1
    assert world.due().fetch == ("db",)


@pytest.mark.parametrize("generation", [1, 5])
def test_a_generation_that_the_entry_has_reached_has_no_effect(world, generation):
    world.begin()
    world.announce(generation)
    assert world.value == secret()
    assert world.state.counts["repeated"] == 1


def test_a_redelivered_event_has_no_effect_once_the_new_value_is_there(world):
    world.begin()
    world.announce(6)
    world.fetch("kid-2", 6)
    world.announce(6)
    assert world.value == secret("kid-2")


def test_a_redelivered_event_has_no_effect_before_the_new_value_is_there_either(world):
    world.begin()
    world.announce(6)
    superseded = world.state.counts["superseded"]
    world.announce(6)
    assert (world.state.counts["superseded"], world.state.counts["repeated"]) == (superseded, 1)


@pytest.mark.parametrize("generation", [7, 8])
def test_an_event_that_a_fetch_was_already_past_has_no_effect(world, generation):
    world.begin()
    world.fetch("kid-2", 8)
    world.announce(generation)
    assert world.value == secret("kid-2")


def test_an_event_that_a_fetch_was_already_past_has_none_after_another_time_to_live_either(world):
    world.fetch("kid-2", 8)
    world.state.bus_configured(False, world.now)
    world.announce(7)
    assert world.value == secret("kid-2")


def test_an_answer_that_a_newer_one_overtook_does_not_bring_the_old_value_back(world):
    world.begin()
    world.fetch("kid-2", 8)
    assert world.fetch("kid-1", 7) == secret("kid-2")
    assert world.value == secret("kid-2")


def test_events_out_of_order_leave_the_highest_generation_announced(world):
    world.begin()
    world.announce(8)
    world.announce(7)
    assert world.state.order("db").min_generation == 8
    assert world.state.counts["repeated"] == 1


def test_an_answer_that_has_not_reached_the_announced_generation_is_not_current(world):
    world.begin()
    world.announce(7)
    assert world.fetch("kid-1", 6) is None
    assert world.value is None
    assert world.state.order("db").min_generation == 7
    assert world.fetch("kid-2", 7) == secret("kid-2")


def test_a_fetch_under_way_during_a_rotation_is_not_current_even_for_a_name_never_cached(world):
    world.changes(5, complete=True)
    world.announce(6)
    assert world.fetch("kid-1", 5) is None


def test_an_event_of_another_epoch_has_no_effect_but_one_question_per_interval(world):
    world.begin()
    for _ in range(5):
        world.announce(99, epoch="epoch-two")
    assert world.value == secret()
    world.now += 1
    assert world.due().changes
    world.changes(5)
    world.announce(100, epoch="epoch-two")
    world.now += 1
    assert not world.due().changes
    world.now += 10
    world.announce(101, epoch="epoch-two")
    world.now += 1
    assert world.due().changes


def test_an_event_of_a_name_that_nobody_asked_for_fetches_nothing(world):
    world.begin()
    world.announce(6, name="other")
    world.now += 10
    assert world.due().fetch == ()

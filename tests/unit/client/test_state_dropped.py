"""Rights withdrawn, names gone, other epochs: what is dropped, and what is asked for again."""

import math

from secretsd_client._model import Fetched
from secretsd_client._state import Due

from tests.unit.client.world import EPOCH, changed, secret


def test_a_withdrawn_right_drops_the_value_for_good(world):
    world.begin()
    world.state.denied("db")
    assert world.value is None
    assert world.stand_in is None


def test_a_client_that_is_not_known_any_more_has_nothing(world):
    world.begin()
    world.fetch(name="other")
    world.state.rejected(world.now)
    assert world.state.fresh == {}
    assert world.stand_in is None


def test_a_client_that_changes_is_refused_has_nothing_and_looks_again_after_a_while(world):
    world.begin()
    world.announce(6)
    world.fetch(name="other")
    world.state.changes_refused(world.now)
    assert (world.stand_in, world.state.lookup("other", world.now), world.state.names()) == (None, None, set())
    world.now += 29
    assert not world.due().changes
    world.now += 2
    assert world.due().changes


def test_a_refetch_that_a_401_ended_is_made_up_for_when_changes_answers_and_that_is_asked_after_a_while(world):
    world.begin()
    world.state.watch("db", world.now)
    world.announce(6)
    world.now += 1
    assert world.due().fetch == ("db",)
    world.state.rejected(world.now, "db")
    assert not world.due().changes
    world.now += 31
    assert world.due() == Due(changes=True, fetch=(), wake_at=None)
    world.changes(6, changed(6, "kid-2"))
    world.now += 1
    assert world.due().fetch == ("db",)


def test_a_refetch_that_waited_while_another_got_a_401_is_made_up_for_too(world):
    world.begin()
    world.state.watch("db", world.now)
    world.announce(6)
    world.state.rejected(world.now, "other")
    world.changes(6, changed(6, "kid-2"))
    world.now += 1
    assert world.due().fetch == ("db",)


def test_a_refetch_that_waited_while_changes_got_a_401_is_made_up_for_too(world):
    world.begin()
    world.state.watch("db", world.now)
    world.announce(6)
    world.state.changes_refused(world.now)
    world.now += 31
    assert world.due() == Due(changes=True, fetch=(), wake_at=None)
    world.changes(6, changed(6, "kid-2"))
    world.now += 1
    assert world.due().fetch == ("db",)


def test_news_of_a_watched_name_after_a_401_are_fetched_like_any(world):
    world.begin()
    world.state.watch("db", world.now)
    world.state.rejected(world.now, "db")
    world.announce(6)
    world.now += 1
    assert world.due().fetch == ("db",)


def test_after_a_401_nothing_is_asked_for_on_behalf_of_readers_only(world):
    world.begin()
    world.announce(6)
    world.state.rejected(world.now, "db")
    assert world.due() == Due(changes=False, fetch=(), wake_at=None)
    world.changes(6, changed(6, "kid-2"))
    world.now += 1
    assert world.due().fetch == ()


def test_a_missing_name_is_dropped(world):
    world.begin()
    assert world.state.missing("db", EPOCH, 6, sent_at=world.now, now=world.now)
    assert world.stand_in is None


def test_a_name_missing_as_of_before_it_was_announced_is_asked_for_again(world):
    world.begin()
    world.announce(7)
    assert not world.state.missing("db", EPOCH, 6, sent_at=world.now, now=world.now)


def test_a_history_that_is_gone_drops_everything_and_asks_for_everything(world):
    world.begin()
    world.state.history_gone(world.now)
    assert world.value is None
    assert world.stand_in is None
    assert world.state.history.since is None
    assert world.due().changes


def test_after_starting_over_what_is_still_listed_is_fetched_and_the_rest_is_not(world):
    world.begin()
    world.fetch(name="withdrawn")
    world.state.history_gone(world.now)
    world.changes(6, changed(5), complete=True)
    world.now += 1
    assert world.due().fetch == ("db",)


def test_a_complete_list_drops_what_it_does_not_name(world):
    world.fetch()
    world.fetch(name="withdrawn")
    world.changes(5, changed(5), complete=True)
    assert world.state.names() == {"db"}


def test_an_answer_of_another_epoch_drops_what_was_cached_and_asks_for_everything(world):
    world.begin()
    world.fetch("kid-9", 2, name="other", epoch="epoch-two")
    assert world.value is None
    assert world.stand_in is None
    assert world.state.lookup("other", world.now) is not None
    assert world.state.history.since is None
    assert world.due().changes


def test_what_vouched_for_one_epoch_vouches_for_nothing_of_another(world):
    world.begin()
    world.now += 10
    world.checkpoint()
    answer = Fetched(secret("kid-9"), "epoch-two", 2)
    world.state.fetched("db", answer, sent_at=world.now - 5, now=world.now)
    world.now += 26
    assert world.value is None


def test_an_answer_from_before_another_epoch_was_entered_is_asked_for_again(world):
    world.begin()
    asked_at = world.now
    world.now += 1
    world.fetch("kid-9", 2, name="other", epoch="epoch-two")
    late = Fetched(secret(), EPOCH, 5)
    assert world.state.fetched("db", late, sent_at=asked_at, now=world.now) is None
    assert world.value is None


def test_changes_of_another_epoch_add_to_nothing_and_everything_is_asked_for(world):
    world.begin()
    world.changes(9, changed(9), epoch="epoch-two")
    assert world.value is None
    assert world.state.history.since is None
    assert world.due().changes


def test_clearing_the_cache_keeps_what_was_announced(world):
    world.begin()
    world.announce(7)
    world.state.forget_values()
    assert world.value is None
    assert world.stand_in is None
    assert world.fetch("kid-1", 6) is None


def test_clearing_the_cache_leaves_the_refetch_of_a_watched_name_and_no_other(world):
    world.begin()
    world.fetch(name="other")
    world.state.watch("db", world.now)
    world.announce(6)
    world.announce(6, name="other")
    world.state.forget_values()
    world.now += 1
    assert world.due().fetch == ("db",)


def test_a_watched_name_is_fetched_at_once_and_again_when_it_changes(world):
    world.changes(5, changed(5), complete=True)
    world.state.watch("db", world.now)
    assert world.due().fetch == ("db",)
    world.fetch()
    world.announce(6)
    world.now += 1
    assert world.due().fetch == ("db",)


def test_nothing_due_means_waiting_for_something_to_happen(world):
    assert world.due().wake_at is None
    assert world.state.history.vouched_until == -math.inf

"""What stands in while the daemon is away, and for how long (docs/client.md, rule 6)."""

import pytest
from secretsd_client._state import RETRY_MOST

from tests.unit.client.world import HOUR_MS, NOON, changed, secret


def test_a_value_stands_in_marked_stale_for_an_hour_after_it_was_last_known_to_be_current(world):
    world.begin()
    world.now += 100
    world.checkpoint()
    world.now += 3599
    assert world.stand_in is not None
    assert world.stand_in.stale
    assert world.stand_in.value == secret().value
    world.now += 2
    assert world.stand_in is None


def test_a_superseded_value_stands_in_until_its_grace_ends(world):
    world.begin()
    world.announce(6)
    world.now += 1799
    assert world.stand_in is not None
    world.now += 2
    assert world.stand_in is None


def test_a_grace_longer_than_an_hour_does_not_lengthen_the_hour(world):
    world.begin()
    world.announce(6, grace_until_ms=NOON + 100 * HOUR_MS)
    world.now += 3601
    assert world.stand_in is None


def test_an_announcement_that_was_under_way_for_long_does_not_lengthen_the_grace(world):
    world.begin()
    world.state.daemon_time(NOON + HOUR_MS // 4, world.now)
    world.announce(6)
    world.now += 899
    assert world.stand_in is not None
    world.now += 2
    assert world.stand_in is None


def test_the_daemons_clock_goes_on_between_its_answers(world):
    world.begin()
    world.state.daemon_time(NOON, world.now)
    world.now += 600
    world.announce(6)
    world.now += 1199
    assert world.stand_in is not None
    world.now += 2
    assert world.stand_in is None


def test_news_that_come_later_do_not_lengthen_the_grace(world):
    world.begin()
    world.announce(6)
    world.now += 1000
    world.announce(7, status="expiring")
    world.now += 799
    assert world.stand_in is not None
    world.now += 2
    assert world.stand_in is None


@pytest.mark.parametrize(
    "details",
    [
        {"urgent": True},
        {"previous_kid": None, "grace_until_ms": None},
        {"previous_kid": "kid-0"},
        {"grace_until_ms": NOON},
        {"status": "deleted"},
        {"status": "deleted", "kid": "kid-1"},
    ],
    ids=["urgent", "no grace", "unknown grace", "grace over", "deleted", "deleted, same version"],
)
def test_a_superseded_value_never_stands_in_when(world, details):
    world.begin()
    world.announce(6, **details)
    assert world.value is None
    assert world.stand_in is None


def test_the_grace_is_that_of_the_version_held_through_several_rotations(world):
    world.begin()
    world.announce(6)
    world.announce(7, kid="kid-3", previous_kid="kid-2", grace_until_ms=NOON + HOUR_MS)
    world.now += 1799
    assert world.stand_in is not None
    world.now += 2
    assert world.stand_in is None


def test_a_version_that_was_never_heard_of_may_have_ended_the_grace(world):
    world.begin()
    world.announce(6)
    world.announce(8, kid="kid-4", previous_kid="kid-3", grace_until_ms=NOON + HOUR_MS)
    assert world.stand_in is None


def test_news_of_the_version_that_was_heard_of_last_leave_the_grace_known(world):
    world.begin()
    world.announce(6)
    world.announce(7, kid="kid-3", previous_kid="kid-2")
    world.announce(8, kid="kid-3", previous_kid="kid-2", status="expiring")
    world.announce(9, kid="kid-4", previous_kid="kid-3")
    assert world.stand_in is not None


def test_an_urgent_rotation_ends_the_grace_of_a_value_superseded_before(world):
    world.begin()
    world.announce(6)
    world.announce(7, kid="kid-3", urgent=True, previous_kid=None, grace_until_ms=None)
    assert world.stand_in is None


def test_a_grace_that_was_ended_early_ends_it_here_too(world):
    world.begin()
    world.announce(6)
    world.announce(7, previous_kid=None, grace_until_ms=None)
    assert world.stand_in is None


@pytest.mark.parametrize("details", [{"status": "expiring"}, {"urgent": True}], ids=["expiring", "rotation begun"])
def test_a_value_whose_state_alone_changed_stands_in(world, details):
    world.begin()
    world.announce(6, kid="kid-1", previous_kid=None, grace_until_ms=None, **details)
    assert world.value is None
    assert world.stand_in is not None


def test_the_grace_of_the_version_before_says_nothing_of_the_one_after_it(world):
    world.begin()
    world.announce(6)
    world.fetch("kid-2", 6)
    world.now += 2000
    world.announce(7, status="expiring")
    assert world.stand_in is not None
    assert world.stand_in.kid == "kid-2"


def test_an_unknown_grace_after_a_mere_change_of_state_never_stands_in(world):
    world.begin()
    world.announce(6, kid="kid-1", status="expiring", previous_kid=None, grace_until_ms=None)
    world.announce(8, kid="kid-3", previous_kid="kid-2")
    assert world.stand_in is None


def test_a_value_superseded_by_changes_alone_has_no_known_grace_and_never_stands_in(world):
    world.begin()
    world.changes(8, changed(7, "kid-2"))
    assert world.stand_in is None


def test_changes_that_tell_what_an_event_told_leave_the_grace_known(world):
    world.begin()
    world.announce(6)
    world.changes(6, changed(6, "kid-2"))
    assert world.stand_in is not None


def test_a_value_that_changes_lists_as_deleted_never_stands_in(world):
    world.begin()
    world.changes(7, changed(7, status="deleted"))
    assert world.value is None
    assert world.stand_in is None


def test_after_a_failure_the_daemon_is_left_alone_for_a_while_that_grows_to_seconds(world):
    world.state.unreachable(world.now)
    assert world.state.backing_off(world.now)
    first = world.state._retry_at - world.now
    for _ in range(20):
        world.now = world.state._retry_at
        world.state.unreachable(world.now)
    assert first < world.state._retry_at - world.now <= RETRY_MOST
    world.fetch()
    assert not world.state.backing_off(world.now)


def test_a_failed_question_is_asked_again_and_not_before_the_pause_is_over(world):
    world.begin()
    world.state.history.begin(world.now)
    world.state.changes_failed(world.now)
    world.checkpoint(9)
    pause = world.due().wake_at - world.now
    assert pause >= 0.2
    world.now += pause
    assert world.due().changes


def test_a_background_fetch_that_failed_is_tried_again(world):
    world.begin()
    world.announce(6)
    world.now += 1
    assert world.due().fetch == ("db",)
    world.state.unreachable(world.now)
    world.state.retry("db", world.now)
    assert world.due().fetch == ()
    world.now += RETRY_MOST
    assert world.due().fetch == ("db",)

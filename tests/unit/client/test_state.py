"""The client's rules, without network and with a clock that is told what time it is (docs/client.md)."""

import math
from dataclasses import dataclass, field

import pytest
from secretsd_client._model import Announcement, Change, Changes, Checkpoint, Fetched, Secret
from secretsd_client._state import RETRY_MOST, State, Times

EPOCH = "epoch-one"
HOUR_MS = 3_600_000
NOON = 1_800_000_000_000


def secret(kid: str = "kid-1", name: str = "db") -> Secret:
    return Secret(name, f"value of {kid}", kid, 1, "9999-12-31T23:59:59.999Z")


@dataclass
class World:
    """A state with a clock, a daemon's uptime that began 1,000 s before the clock, and answers to hand in."""

    now: float = 5000.0
    random: float = 0.5
    state: State = field(init=False)

    def __post_init__(self) -> None:
        self.state = State(random=lambda: self.random, times=Times())

    def fetch(self, kid: str = "kid-1", generation: int = 5, *, name: str = "db", epoch: str = EPOCH) -> Secret | None:
        answer = Fetched(secret(kid, name), epoch, generation)
        return self.state.fetched(name, answer, sent_at=self.now, now=self.now)

    def changes(
        self, generation: int, *changed: Change, session: int = 1, epoch: str = EPOCH, complete: bool = False
    ) -> None:
        answer = Changes(epoch, generation, session, self.uptime_ms, changed)
        self.state.history.begin(self.now)
        self.state.changes_answered(answer, complete=complete, sent_at=self.now, now=self.now)

    def begin(self, generation: int = 5) -> None:
        """A value is cached and the first /changes has answered."""
        self.fetch(generation=generation)
        self.changes(generation, changed(generation), complete=True)
        assert not self.due().fetch

    def checkpoint(
        self,
        generation: int = 5,
        *,
        session: int = 1,
        epoch: str = EPOCH,
        late: float = 0.0,
        interval: float = 10.0,
    ) -> None:
        uptime = self.uptime_ms - int(late * 1000)
        self.state.checkpoint(Checkpoint(epoch, generation, session, uptime, interval), self.now)

    def announce(self, generation: int, **details: object) -> None:
        self.state.announced(announcement(generation, **details), self.now)

    def due(self):
        return self.state.due(self.now)

    @property
    def uptime_ms(self) -> int:
        return int((self.now - 4000.0) * 1000)

    @property
    def value(self) -> Secret | None:
        return self.state.lookup("db", self.now)

    @property
    def stand_in(self) -> Secret | None:
        return self.state.stale("db", self.now)


def changed(generation: int, kid: str = "kid-1", *, name: str = "db", status: str = "active") -> Change:
    return Change(name, 1, kid, status, generation)


def announcement(generation: int, **details: object) -> Announcement:
    fields = {
        "name": "db",
        "epoch": EPOCH,
        "generation": generation,
        "kid": "kid-2",
        "status": "active",
        "urgent": False,
        "previous_kid": "kid-1",
        "grace_until_ms": NOON + HOUR_MS // 2,
        "time_ms": NOON,
        "spread_secs": 0.2,
    }
    return Announcement(**{**fields, **details})


@pytest.fixture
def world() -> World:
    return World()


# Time to live


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


# Rule 2: superseding


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


# Rule 3: applied


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


# Rule 5: freshness of the checkpoint


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


# Rule 6: the daemon away


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


# Rights withdrawn, names gone, other epochs


def test_a_withdrawn_right_drops_the_value_for_good(world):
    world.begin()
    world.state.denied("db")
    assert world.value is None
    assert world.stand_in is None


def test_a_client_that_is_not_known_any_more_has_nothing(world):
    world.begin()
    world.fetch(name="other")
    world.state.rejected()
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

//! The client's rules, without network and with a clock that is told what time it is (docs/client.md).

use super::*;
use crate::model::Change;
use crate::secret::tests::secret as version;

const EPOCH: &str = "epoch-one";
const HOUR_MS: i64 = 3_600_000;
const NOON: i64 = 1_800_000_000_000;

fn secret(kid: &str) -> Secret {
    version("db", kid, "value")
}

fn kid(secret: Option<Secret>) -> Option<String> {
    secret.map(|secret| secret.kid().to_owned())
}

fn changed(name: &str, generation: u64, kid: &str) -> Change {
    Change {
        name: name.into(),
        kid: kid.into(),
        status: "active".into(),
        generation,
    }
}

fn announcement(generation: u64) -> Announcement {
    Announcement {
        name: "db".into(),
        epoch: EPOCH.into(),
        generation,
        kid: "kid-2".into(),
        deleted: false,
        urgent: false,
        previous_kid: Some("kid-1".into()),
        grace_until_ms: Some(NOON + HOUR_MS / 2),
        time_ms: NOON,
        spread_secs: 0.2,
    }
}

fn position(epoch: &str, generation: u64) -> Position {
    Position {
        epoch: epoch.into(),
        generation,
    }
}

/// A state with a clock, a daemon's uptime that began 1,000 s before the clock, and answers to hand in.
struct World {
    now: f64,
    state: State,
}

impl World {
    fn new() -> Self {
        Self {
            now: 5000.0,
            state: State::new(Box::new(|| 0.5), Times::default(), Counts::default()),
        }
    }

    /// A value is cached and the first /changes has answered.
    fn begun() -> Self {
        let mut world = Self::new();
        world.fetch("kid-1", 5);
        world.changes(5, &[changed("db", 5, "kid-1")], true);
        assert!(world.due().fetch.is_empty());
        world
    }

    fn fetch(&mut self, kid: &str, generation: u64) -> Option<String> {
        self.fetch_of("db", kid, EPOCH, generation)
    }

    fn fetch_of(&mut self, name: &str, kid: &str, epoch: &str, generation: u64) -> Option<String> {
        let answer = Fetched {
            secret: Some(version(name, kid, "value")),
            at: position(epoch, generation),
        };
        super::tests::kid(self.state.fetched(name, answer, self.now, self.now))
    }

    fn answer(&self, epoch: &str, generation: u64, session: u64, changes: &[Change]) -> Changes {
        Changes {
            epoch: epoch.into(),
            generation,
            session,
            uptime_ms: self.uptime_ms(),
            changes: changes.to_vec(),
        }
    }

    fn changes(&mut self, generation: u64, changes: &[Change], complete: bool) {
        self.changes_of(EPOCH, generation, changes, complete);
    }

    fn changes_of(&mut self, epoch: &str, generation: u64, changes: &[Change], complete: bool) {
        let answer = self.answer(epoch, generation, 1, changes);
        self.state.history.begin(self.now);
        self.state.changes_answered(&answer, complete, self.now, self.now);
    }

    fn checkpoint(&mut self, generation: u64) {
        self.checkpoint_of(EPOCH, generation, 1, 0.0);
    }

    fn checkpoint_of(&mut self, epoch: &str, generation: u64, session: u64, late: f64) {
        let uptime_ms = (self.uptime_ms() as f64 - late * 1000.0) as u64;
        let seen = Checkpoint {
            epoch: epoch.into(),
            generation,
            session,
            uptime_ms,
            interval_secs: 10.0,
        };
        self.state.checkpoint(seen, self.now);
    }

    fn announce(&mut self, generation: u64) {
        self.announced(announcement(generation));
    }

    fn announced(&mut self, news: Announcement) {
        self.state.announced(&news, self.now);
    }

    fn due(&mut self) -> Due {
        self.state.due(self.now)
    }

    fn uptime_ms(&self) -> u64 {
        ((self.now - 4000.0) * 1000.0) as u64
    }

    fn value(&self) -> Option<String> {
        kid(self.state.lookup("db", self.now))
    }

    fn stand_in(&self) -> Option<String> {
        let secret = self.state.stale("db", self.now);
        assert!(secret.as_ref().is_none_or(Secret::stale));
        kid(secret)
    }

    fn vouched_until(&self) -> f64 {
        self.state.history.vouched.until()
    }
}

// Time to live

#[test]
fn a_value_is_fresh_for_30_s_while_a_bus_is_silent() {
    let mut world = World::new();
    world.fetch("kid-1", 5);
    world.now += 29.9;
    assert!(world.value().is_some());
    world.now += 0.2;
    assert!(world.value().is_none());
}

#[test]
fn a_value_is_fresh_for_300_s_where_there_is_no_bus_also_one_fetched_before_that_was_known() {
    let mut world = World::new();
    world.fetch("kid-1", 5);
    world.state.bus_configured(false, world.now);
    world.now += 299.0;
    assert!(world.value().is_some());
    world.now += 2.0;
    assert!(world.value().is_none());
}

#[test]
fn a_value_counts_from_when_it_was_asked_for_not_from_when_the_answer_came() {
    let mut world = World::new();
    let answer = Fetched {
        secret: Some(secret("kid-1")),
        at: position(EPOCH, 5),
    };
    world.state.fetched("db", answer, world.now - 20.0, world.now);
    world.now += 11.0;
    assert!(world.value().is_none());
}

#[test]
fn not_modified_makes_the_value_fresh_again() {
    let mut world = World::new();
    world.fetch("kid-1", 5);
    world.now += 40.0;
    assert_eq!(world.state.order("db").etag.as_deref(), Some("kid-1"));
    let unchanged = Fetched {
        secret: None,
        at: position(EPOCH, 6),
    };
    assert_eq!(
        kid(world.state.fetched("db", unchanged, world.now, world.now)).as_deref(),
        Some("kid-1")
    );
    assert!(world.value().is_some());
}

// Rule 2: superseding

#[test]
fn a_higher_generation_supersedes_and_the_refetch_is_spread() {
    let mut world = World::begun();
    world.announce(6);
    assert!(world.value().is_none());
    assert!(world.due().fetch.is_empty());
    world.now += 0.1;
    assert_eq!(world.due().fetch, ["db"]);
}

#[test]
fn a_generation_that_the_entry_has_reached_has_no_effect() {
    for generation in [1, 5] {
        let mut world = World::begun();
        world.announce(generation);
        assert!(world.value().is_some());
        assert_eq!(world.state.counts.get("repeated"), 1);
    }
}

#[test]
fn a_redelivered_event_has_no_effect_once_the_new_value_is_there() {
    let mut world = World::begun();
    world.announce(6);
    world.fetch("kid-2", 6);
    world.announce(6);
    assert_eq!(world.value().as_deref(), Some("kid-2"));
}

#[test]
fn events_out_of_order_leave_the_highest_generation_announced() {
    let mut world = World::begun();
    world.announce(8);
    world.announce(7);
    assert_eq!(world.state.order("db").min_generation, 8);
    assert_eq!(world.state.counts.get("repeated"), 1);
}

#[test]
fn an_answer_that_has_not_reached_the_announced_generation_is_not_current() {
    let mut world = World::begun();
    world.announce(7);
    assert!(world.fetch("kid-1", 6).is_none());
    assert!(world.value().is_none());
    assert_eq!(world.state.order("db").min_generation, 7);
    assert!(world.fetch("kid-2", 7).is_some());
}

#[test]
fn a_fetch_under_way_during_a_rotation_is_not_current_even_for_a_name_never_cached() {
    let mut world = World::new();
    world.changes(5, &[], true);
    world.announce(6);
    assert!(world.fetch("kid-1", 5).is_none());
}

#[test]
fn an_event_of_another_epoch_has_no_effect_but_one_question_per_interval() {
    let mut world = World::begun();
    let other = |generation| Announcement {
        epoch: "epoch-two".into(),
        ..announcement(generation)
    };
    for _ in 0..5 {
        world.announced(other(99));
    }
    assert!(world.value().is_some());
    world.now += 1.0;
    assert!(world.due().changes);
    world.changes(5, &[], false);
    world.announced(other(100));
    world.now += 1.0;
    assert!(!world.due().changes);
    world.now += 10.0;
    world.announced(other(101));
    world.now += 1.0;
    assert!(world.due().changes);
}

#[test]
fn an_event_of_a_name_that_nobody_asked_for_fetches_nothing() {
    let mut world = World::begun();
    world.announced(Announcement {
        name: "other".into(),
        ..announcement(6)
    });
    world.now += 10.0;
    assert!(world.due().fetch.is_empty());
}

// Rule 3: applied

#[test]
fn applied_is_set_by_changes_alone() {
    let mut world = World::begun();
    world.announce(9);
    world.fetch("kid-2", 9);
    world.checkpoint(9);
    assert_eq!(world.state.history.since().as_deref(), Some("epoch-one:5"));
    world.changes(9, &[changed("db", 9, "kid-2")], false);
    assert_eq!(world.state.history.since().as_deref(), Some("epoch-one:9"));
}

#[test]
fn a_checkpoint_beyond_applied_asks_what_changed_after_a_random_part_of_the_spread() {
    let mut world = World::begun();
    world.checkpoint(6);
    let due = world.due();
    assert!(!due.changes);
    assert!((due.wake_at.unwrap() - world.now - 0.1).abs() < 1e-6);
    world.now += 0.1;
    assert!(world.due().changes);
}

#[test]
fn what_changes_lists_is_superseded_and_fetched() {
    let mut world = World::begun();
    world.changes(8, &[changed("db", 7, "kid-2")], false);
    assert!(world.value().is_none());
    world.now += 0.2;
    assert_eq!(world.due().fetch, ["db"]);
}

#[test]
fn a_change_that_a_fetch_was_already_past_fetches_nothing() {
    let mut world = World::begun();
    world.fetch("kid-2", 8);
    world.changes(8, &[changed("db", 7, "kid-2")], false);
    assert_eq!(world.value().as_deref(), Some("kid-2"));
}

#[test]
fn only_one_question_is_under_way_and_a_checkpoint_meanwhile_asks_once_more() {
    let mut world = World::begun();
    world.checkpoint(6);
    world.now += 0.2;
    assert!(world.due().changes);
    world.checkpoint(7);
    world.now += 1.0;
    assert!(!world.due().changes);
    let answer = world.answer(EPOCH, 6, 1, &[]);
    world.state.changes_answered(&answer, false, world.now, world.now);
    world.now += 0.2;
    assert!(world.due().changes);
}

#[test]
fn a_checkpoint_during_a_question_whose_answer_covers_it_asks_no_more() {
    let mut world = World::begun();
    world.checkpoint(6);
    world.now += 0.2;
    assert!(world.due().changes);
    world.checkpoint(7);
    let answer = world.answer(EPOCH, 7, 1, &[]);
    world.state.changes_answered(&answer, false, world.now, world.now);
    world.now += 1.0;
    assert!(!world.due().changes);
    assert!(world.vouched_until() > world.now);
}

#[test]
fn a_daemon_that_answers_less_than_it_announced_is_not_asked_faster_than_it_announces() {
    let mut world = World::begun();
    world.checkpoint(9);
    world.now += 0.2;
    assert!(world.due().changes);
    let mut asked = 0;
    for _ in 0..100 {
        world.changes(5, &[], false);
        world.checkpoint(9);
        world.now += 0.2;
        asked += u32::from(world.due().changes);
    }
    assert!(asked <= 4, "{asked}");
}

#[test]
fn a_newer_session_asks_once_and_an_older_one_never() {
    let mut world = World::begun();
    world.checkpoint_of(EPOCH, 5, 0, 0.0);
    world.state.history.session(0, world.now);
    world.now += 1.0;
    assert!(!world.due().changes);
    world.state.history.session(2, world.now);
    world.checkpoint_of(EPOCH, 5, 2, 0.0);
    world.now += 1.0;
    assert!(world.due().changes);
}

// Rule 5: freshness of the checkpoint

#[test]
fn a_fresh_checkpoint_keeps_values_fresh_for_three_intervals() {
    let mut world = World::begun();
    world.now += 25.0;
    world.checkpoint(5);
    world.now += 29.9;
    assert!(world.value().is_some());
    world.now += 0.2;
    assert!(world.value().is_none());
}

#[test]
fn a_checkpoint_that_was_held_back_vouches_from_when_it_was_made() {
    let mut world = World::begun();
    world.now += 60.0;
    world.checkpoint_of(EPOCH, 5, 1, 25.0);
    world.now += 4.9;
    assert!(world.value().is_some());
    world.now += 0.2;
    assert!(world.value().is_none());
}

#[test]
fn a_checkpoint_vouches_for_nothing_when_it_is_old_of_another_session_or_epoch_or_beyond_applied() {
    for (epoch, generation, session, late) in [
        (EPOCH, 5, 1, 30.0),
        (EPOCH, 5, 1, 3000.0),
        (EPOCH, 5, 0, 0.0),
        (EPOCH, 5, 2, 0.0),
        ("epoch-two", 5, 1, 0.0),
        (EPOCH, 6, 1, 0.0),
    ] {
        let mut world = World::begun();
        world.now += 60.0;
        world.checkpoint_of(epoch, generation, session, late);
        assert!(world.value().is_none(), "{epoch} {generation} {session} {late}");
    }
}

#[test]
fn a_checkpoint_from_before_the_first_answer_is_judged_when_that_has_come() {
    let mut world = World::new();
    world.checkpoint(5);
    world.fetch("kid-1", 5);
    world.changes(5, &[changed("db", 5, "kid-1")], true);
    world.now += 29.0;
    assert!((world.vouched_until() - 5030.0).abs() < 1e-6);
    assert!(world.value().is_some());
}

#[test]
fn a_clock_that_stood_still_buys_a_checkpoint_no_future() {
    let mut world = World::begun();
    world.checkpoint_of(EPOCH, 5, 1, -3600.0);
    assert!((world.vouched_until() - world.now - 30.0).abs() < 1e-6);
}

#[test]
fn a_silent_bus_makes_the_client_ask_once_per_time_to_live() {
    let mut world = World::new();
    world.state.bus_configured(true, world.now);
    world.fetch("kid-1", 5);
    world.changes(5, &[changed("db", 5, "kid-1")], true);
    world.now += 29.0;
    assert!(!world.due().changes);
    world.now += 2.0;
    assert!(world.due().changes);
}

#[test]
fn a_vouching_bus_makes_no_questions() {
    let mut world = World::begun();
    world.state.bus_configured(true, world.now);
    for _ in 0..60 {
        world.checkpoint(5);
        world.now += 10.0;
        assert!(!world.due().changes);
    }
}

#[test]
fn without_a_bus_nobody_asks_unless_somebody_watches() {
    let mut world = World::begun();
    world.state.bus_configured(false, world.now);
    world.now += 10_000.0;
    assert!(!world.due().changes);
    world.state.watch("db", world.now);
    world.now += 301.0;
    assert!(world.due().changes);
}

// Rule 6: the daemon away

#[test]
fn a_value_stands_in_marked_stale_for_an_hour_after_it_was_last_known_to_be_current() {
    let mut world = World::begun();
    world.now += 100.0;
    world.checkpoint(5);
    world.now += 3599.0;
    assert_eq!(world.stand_in().as_deref(), Some("kid-1"));
    world.now += 2.0;
    assert!(world.stand_in().is_none());
}

#[test]
fn a_superseded_value_stands_in_until_its_grace_ends() {
    let mut world = World::begun();
    world.announce(6);
    world.now += 1799.0;
    assert!(world.stand_in().is_some());
    world.now += 2.0;
    assert!(world.stand_in().is_none());
}

#[test]
fn a_grace_longer_than_an_hour_does_not_lengthen_the_hour() {
    let mut world = World::begun();
    world.announced(Announcement {
        grace_until_ms: Some(NOON + 100 * HOUR_MS),
        ..announcement(6)
    });
    world.now += 3601.0;
    assert!(world.stand_in().is_none());
}

#[test]
fn an_announcement_that_was_under_way_for_long_does_not_lengthen_the_grace() {
    let mut world = World::begun();
    world.state.daemon_time((NOON + HOUR_MS / 4) as f64, world.now);
    world.announce(6);
    world.now += 899.0;
    assert!(world.stand_in().is_some());
    world.now += 2.0;
    assert!(world.stand_in().is_none());
}

#[test]
fn a_superseded_value_never_stands_in_when_urgent_deleted_or_without_a_grace_that_is_known_and_left() {
    for news in [
        Announcement {
            urgent: true,
            ..announcement(6)
        },
        Announcement {
            previous_kid: None,
            grace_until_ms: None,
            ..announcement(6)
        },
        Announcement {
            previous_kid: Some("kid-0".into()),
            ..announcement(6)
        },
        Announcement {
            grace_until_ms: Some(NOON),
            ..announcement(6)
        },
        Announcement {
            deleted: true,
            ..announcement(6)
        },
        Announcement {
            deleted: true,
            kid: "kid-1".into(),
            ..announcement(6)
        },
    ] {
        let mut world = World::begun();
        world.announced(news.clone());
        assert_eq!((world.value(), world.stand_in()), (None, None), "{news:?}");
    }
}

#[test]
fn the_grace_is_that_of_the_version_held_through_several_rotations() {
    let mut world = World::begun();
    world.announce(6);
    world.announced(Announcement {
        kid: "kid-3".into(),
        previous_kid: Some("kid-2".into()),
        grace_until_ms: Some(NOON + HOUR_MS),
        ..announcement(7)
    });
    world.now += 1799.0;
    assert!(world.stand_in().is_some());
    world.now += 2.0;
    assert!(world.stand_in().is_none());
}

#[test]
fn an_urgent_rotation_and_a_grace_ended_early_end_the_grace_of_a_value_superseded_before() {
    for news in [
        Announcement {
            kid: "kid-3".into(),
            urgent: true,
            previous_kid: None,
            grace_until_ms: None,
            ..announcement(7)
        },
        Announcement {
            previous_kid: None,
            grace_until_ms: None,
            ..announcement(7)
        },
    ] {
        let mut world = World::begun();
        world.announce(6);
        world.announced(news);
        assert!(world.stand_in().is_none());
    }
}

fn expiring() -> Announcement {
    Announcement {
        kid: "kid-1".into(),
        previous_kid: None,
        grace_until_ms: None,
        ..announcement(6)
    }
}

#[test]
fn a_value_whose_state_alone_changed_stands_in() {
    let mut world = World::begun();
    world.announced(expiring());
    assert!(world.value().is_none());
    assert!(world.stand_in().is_some());
}

#[test]
fn an_unknown_grace_after_a_mere_change_of_state_never_stands_in() {
    let mut world = World::begun();
    world.announced(expiring());
    world.announced(Announcement {
        kid: "kid-3".into(),
        previous_kid: Some("kid-2".into()),
        ..announcement(8)
    });
    assert!(world.stand_in().is_none());
}

#[test]
fn a_value_superseded_by_changes_alone_has_no_known_grace_and_never_stands_in() {
    let mut world = World::begun();
    world.changes(8, &[changed("db", 7, "kid-2")], false);
    assert!(world.stand_in().is_none());
}

#[test]
fn after_a_failure_the_daemon_is_left_alone_for_a_while_that_grows_to_seconds() {
    let mut world = World::begun();
    world.state.unreachable(world.now);
    assert!(world.state.backing_off(world.now));
    let first = world.state.retry_at - world.now;
    for _ in 0..20 {
        world.now = world.state.retry_at;
        world.state.unreachable(world.now);
    }
    let last = world.state.retry_at - world.now;
    assert!(first < last && last <= RETRY_MOST);
    world.fetch("kid-1", 5);
    assert!(!world.state.backing_off(world.now));
}

#[test]
fn a_failed_question_is_asked_again_and_not_before_the_pause_is_over() {
    let mut world = World::begun();
    world.state.history.begin(world.now);
    world.state.changes_failed(world.now);
    world.checkpoint(9);
    let pause = world.due().wake_at.unwrap() - world.now;
    assert!(pause >= 0.2);
    world.now += pause;
    assert!(world.due().changes);
}

#[test]
fn a_background_fetch_that_failed_is_tried_again() {
    let mut world = World::begun();
    world.announce(6);
    world.now += 1.0;
    assert_eq!(world.due().fetch, ["db"]);
    world.state.unreachable(world.now);
    world.state.retry("db", world.now);
    assert!(world.due().fetch.is_empty());
    world.now += RETRY_MOST;
    assert_eq!(world.due().fetch, ["db"]);
}

// Rights withdrawn, names gone, other epochs

#[test]
fn a_withdrawn_right_drops_the_value_for_good() {
    let mut world = World::begun();
    world.state.denied("db");
    assert_eq!((world.value(), world.stand_in()), (None, None));
}

#[test]
fn a_client_that_is_not_known_any_more_has_nothing() {
    let mut world = World::begun();
    world.fetch_of("other", "kid-1", EPOCH, 5);
    world.state.rejected();
    assert_eq!(world.state.readers().len(), 0);
    assert!(world.stand_in().is_none());
}

#[test]
fn a_missing_name_is_dropped_unless_that_is_older_news_than_announced() {
    let mut world = World::begun();
    assert!(world.state.missing("db", &position(EPOCH, 6), world.now, world.now));
    assert!(world.stand_in().is_none());
    let mut world = World::begun();
    world.announce(7);
    assert!(!world.state.missing("db", &position(EPOCH, 6), world.now, world.now));
}

#[test]
fn a_history_that_is_gone_drops_everything_and_asks_for_everything() {
    let mut world = World::begun();
    world.state.history_gone(world.now);
    assert_eq!((world.value(), world.stand_in()), (None, None));
    assert!(world.state.history.since().is_none());
    assert!(world.due().changes);
}

#[test]
fn after_starting_over_what_is_still_listed_is_fetched_and_the_rest_is_not() {
    let mut world = World::begun();
    world.fetch_of("withdrawn", "kid-1", EPOCH, 5);
    world.state.history_gone(world.now);
    world.changes(6, &[changed("db", 5, "kid-1")], true);
    world.now += 1.0;
    assert_eq!(world.due().fetch, ["db"]);
}

#[test]
fn a_complete_list_drops_what_it_does_not_name() {
    let mut world = World::new();
    world.fetch("kid-1", 5);
    world.fetch_of("withdrawn", "kid-1", EPOCH, 5);
    world.changes(5, &[changed("db", 5, "kid-1")], true);
    assert_eq!(world.state.names(), HashSet::from(["db".into()]));
}

#[test]
fn an_answer_of_another_epoch_drops_what_was_cached_and_asks_for_everything() {
    let mut world = World::begun();
    world.fetch_of("other", "kid-9", "epoch-two", 2);
    assert_eq!((world.value(), world.stand_in()), (None, None));
    assert!(world.state.lookup("other", world.now).is_some());
    assert!(world.state.history.since().is_none());
    assert!(world.due().changes);
}

#[test]
fn an_answer_from_before_another_epoch_was_entered_is_asked_for_again() {
    let mut world = World::begun();
    let asked_at = world.now;
    world.now += 1.0;
    world.fetch_of("other", "kid-9", "epoch-two", 2);
    let late = Fetched {
        secret: Some(secret("kid-1")),
        at: position(EPOCH, 5),
    };
    assert!(world.state.fetched("db", late, asked_at, world.now).is_none());
    assert!(world.value().is_none());
}

#[test]
fn changes_of_another_epoch_add_to_nothing_and_everything_is_asked_for() {
    let mut world = World::begun();
    world.changes_of("epoch-two", 9, &[changed("db", 9, "kid-1")], false);
    assert!(world.value().is_none());
    assert!(world.state.history.since().is_none());
    assert!(world.due().changes);
}

#[test]
fn clearing_the_cache_keeps_what_was_announced() {
    let mut world = World::begun();
    world.announce(7);
    world.state.forget_values();
    assert_eq!((world.value(), world.stand_in()), (None, None));
    assert!(world.fetch("kid-1", 6).is_none());
}

#[test]
fn a_watched_name_is_fetched_at_once_and_again_when_it_changes() {
    let mut world = World::new();
    world.changes(5, &[changed("db", 5, "kid-1")], true);
    world.state.watch("db", world.now);
    assert_eq!(world.due().fetch, ["db"]);
    world.fetch("kid-1", 5);
    world.announce(6);
    world.now += 1.0;
    assert_eq!(world.due().fetch, ["db"]);
}

#[test]
fn nothing_due_means_waiting_for_something_to_happen() {
    let mut world = World::new();
    assert_eq!(
        world.due(),
        Due {
            changes: false,
            fetch: vec![],
            wake_at: None
        }
    );
    assert_eq!(world.vouched_until(), f64::NEG_INFINITY);
}

//! Rights withdrawn, names gone, other epochs.

use super::*;

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
    world.state.rejected(None, world.now);
    assert_eq!(world.state.readers().len(), 0);
    assert!(world.stand_in().is_none());
}

/// A name is watched, and news of it were heard.
fn watched() -> World {
    let mut world = World::begun();
    world.state.watch("db", world.now);
    world.announce(6);
    world
}

fn waits_for_changes() -> Due {
    Due {
        changes: true,
        fetch: vec![],
        wake_at: None,
    }
}

#[test]
fn a_refetch_that_a_401_ended_is_made_up_for_when_changes_answers_and_that_is_asked_after_a_while() {
    let mut world = watched();
    world.now += 1.0;
    assert_eq!(world.due().fetch, ["db"]);
    world.state.rejected(Some("db"), world.now);
    assert!(!world.due().changes);
    world.now += 31.0;
    assert_eq!(world.due(), waits_for_changes());
    world.changes(6, &[changed("db", 6, "kid-2")], false);
    world.now += 1.0;
    assert_eq!(world.due().fetch, ["db"]);
}

#[test]
fn a_refetch_that_waited_while_another_question_got_a_401_is_made_up_for_too() {
    for refuse in [
        |state: &mut State, now| state.rejected(Some("other"), now),
        |state: &mut State, now| state.changes_refused(now),
    ] {
        let mut world = watched();
        refuse(&mut world.state, world.now);
        world.now += 31.0;
        assert_eq!(world.due(), waits_for_changes());
        world.changes(6, &[changed("db", 6, "kid-2")], false);
        world.now += 1.0;
        assert_eq!(world.due().fetch, ["db"]);
    }
}

#[test]
fn news_of_a_watched_name_after_a_401_are_fetched_like_any() {
    let mut world = World::begun();
    world.state.watch("db", world.now);
    world.state.rejected(Some("db"), world.now);
    world.announce(6);
    world.now += 1.0;
    assert_eq!(world.due().fetch, ["db"]);
}

#[test]
fn after_a_401_nothing_is_asked_for_on_behalf_of_readers_only() {
    let mut world = World::begun();
    world.announce(6);
    world.state.rejected(Some("db"), world.now);
    world.changes(6, &[changed("db", 6, "kid-2")], false);
    world.now += 1.0;
    assert!(world.due().fetch.is_empty());
}

#[test]
fn clearing_the_cache_leaves_the_refetch_of_a_watched_name_and_no_other() {
    let mut world = watched();
    world.fetch_of("other", "kid-1", EPOCH, 5);
    world.announced(Announcement {
        name: "other".into(),
        ..announcement(6)
    });
    world.state.forget_values();
    world.now += 1.0;
    assert_eq!(world.due().fetch, ["db"]);
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

//! Rule 3: *applied* is set by `/changes` alone.

use super::*;

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

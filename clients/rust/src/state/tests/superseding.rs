//! Rule 2: an event of a higher generation supersedes, and an answer has to reach it.

use super::*;

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

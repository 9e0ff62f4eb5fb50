//! Rule 5: which checkpoint vouches.

use super::*;

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

//! How long a value is fresh by itself.

use super::*;

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

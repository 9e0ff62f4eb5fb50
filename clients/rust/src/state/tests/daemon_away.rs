//! Rule 6: the daemon can't be reached.

use super::*;

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
fn a_version_that_was_never_heard_of_may_have_ended_the_grace() {
    let mut world = World::begun();
    world.announce(6);
    world.announced(Announcement {
        kid: "kid-4".into(),
        previous_kid: Some("kid-3".into()),
        grace_until_ms: Some(NOON + HOUR_MS),
        ..announcement(8)
    });
    assert!(world.stand_in().is_none());
}

#[test]
fn news_of_the_version_that_was_heard_of_last_leave_the_grace_known() {
    let mut world = World::begun();
    world.announce(6);
    for (generation, kid, previous_kid) in [(7, "kid-3", "kid-2"), (8, "kid-3", "kid-2"), (9, "kid-4", "kid-3")] {
        world.announced(Announcement {
            kid: kid.into(),
            previous_kid: Some(previous_kid.into()),
            ..announcement(generation)
        });
    }
    assert!(world.stand_in().is_some());
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

//! What a broker or a neighbour may do to single messages: the client serves the right value, and is told once.

use secretsd_client::ExposeSecret;
use serde_json::json;

use crate::stage::{counts, read, serves, settle, Follower, Stage, PATIENCE, QUICK};

/// A generation that the daemon of the test never comes to.
const AHEAD: u64 = 1_000_000;

#[tokio::test]
async fn a_rotation_drops_the_value_and_is_told_once() {
    let mut stage = Stage::new();
    let builder = stage.builder();
    let mut db = Follower::of(&mut stage, "db", builder).await;
    stage.update("db", "two");
    db.told("two").await;
    db.counts("repeated", 1).await; // the state says the same as the event
    db.counts("callbacks", 1).await;
    assert_eq!(
        (db.stat("superseded"), db.stat("fetches"), db.stat("callbacks")),
        (1, 2, 1)
    );
    stage.call(json!({ "do": "delete", "name": "db" }));
    crate::stage::eventually("it is gone", || async {
        match read(&db.client, "db").await {
            Err(secretsd_client::SecretsError::SecretNotFound(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn a_version_that_came_between_a_read_and_the_watch_is_told_and_so_is_a_secret_that_comes_to_be() {
    let mut stage = Stage::new();
    stage.create("db", "one");
    let client = stage.builder().build().unwrap();
    assert_eq!(read(&client, "db").await.unwrap(), "one");
    assert!(client.wait_ready(PATIENCE).await);
    settle(&client).await;
    stage.update("db", "two");
    counts(&client, "fetches", 2).await; // in the background: nobody was given it
    settle(&client).await;
    for name in ["db", "late"] {
        let watch = client.watch(name).await.unwrap();
        let (client, name) = (client.clone(), name.to_owned());
        let mut follower = Follower { client, name, watch };
        if follower.name == "late" {
            stage.create("late", "two");
        }
        follower.told("two").await;
    }
    let mut again = client.watch("db").await.unwrap();
    stage.update("db", "three");
    assert_eq!(again.changed().await.unwrap().value().expose_secret(), "three");
}

#[tokio::test]
async fn a_dropped_event_is_healed_by_the_checkpoint() {
    let mut stage = Stage::new();
    let builder = stage.builder();
    let mut db = Follower::of(&mut stage, "db", builder).await;
    let dropped = stage.drop_messages(&["*/secret/db/*"]);
    stage.update("db", "two");
    db.told("two").await;
    stage.met(&dropped, 2);
    assert_eq!(db.stat("superseded"), 1);
    // The checkpoint of the change is lost as well: the next one heals it.
    let all = stage.drop_messages(&["*"]);
    stage.update("db", "three");
    stage.met(&all, 3);
    stage.stop(&all);
    db.told("three").await;
}

#[tokio::test]
async fn a_delayed_repeated_and_reordered_event_changes_nothing() {
    let mut stage = Stage::new();
    let builder = stage.builder();
    let mut db = Follower::of(&mut stage, "db", builder).await;
    let held = stage.drop_messages(&["*/secret/db/*"]);
    for value in ["two", "three"] {
        stage.update("db", value);
        db.told(value).await;
    }
    stage.met(&held, 4);
    let (fetches, repeated) = (db.stat("fetches"), db.stat("repeated"));
    stage.call(json!({ "do": "release", "number": held, "backwards": true }));
    db.counts("repeated", repeated + 4).await;
    let said = stage.call(json!({ "do": "replay", "topics": ["*/secret/db/*"], "times": 5 }));
    db.counts("repeated", repeated + 4 + said.as_u64().unwrap()).await;
    assert_eq!(db.stat("fetches"), fetches);
    assert_eq!(read(&db.client, "db").await.unwrap(), "three");
}

#[tokio::test]
async fn forged_messages_have_no_effect_but_a_counter() {
    let mut stage = Stage::new();
    let builder = stage.builder();
    let mut db = Follower::of(&mut stage, "db", builder).await;
    let fetches = db.stat("fetches");
    for (how, counter) in [
        ("unsigned", "refused_not_canonical"),
        ("foreign", "refused_unknown_key"),
        ("claimed", "refused_bad_signature"),
        ("altered", "refused_bad_signature"),
        ("noise", "refused_not_json"),
    ] {
        let before = db.stat(counter);
        let forged = if how == "noise" {
            json!({ "do": "forge", "name": "db", "how": how })
        } else {
            json!({ "do": "forge", "name": "db", "how": how, "generation": AHEAD, "kid": "anotherkidanotherkid", "urgent": true })
        };
        stage.call(forged);
        db.counts(counter, before + 1).await;
        assert!(db.client.cached("db").is_some(), "{how}");
    }
    assert_eq!((db.stat("superseded"), db.stat("fetches")), (0, fetches));
    stage.update("db", "two");
    db.told("two").await;
}

#[tokio::test]
async fn a_message_moved_to_another_topic_is_refused() {
    let mut stage = Stage::new();
    stage.create("other", "one");
    let builder = stage.builder();
    let mut db = Follower::of(&mut stage, "db", builder).await;
    read(&db.client, "other").await.unwrap();
    db.counts("verified", 4).await;
    stage.call(json!({ "do": "misplace", "name": "db", "other": "other" }));
    db.counts("refused_wrong_topic", 1).await;
    let moved = stage
        .call(json!({ "do": "move", "topics": ["*/secret/db/updated"], "to": "jarvis/secretsd/secret/other/updated" }));
    stage.update("db", "two");
    stage.met(&moved, 1);
    db.told("two").await;
    db.counts("refused_wrong_topic", 2).await;
    assert!(db.client.cached("other").is_some());
}

#[tokio::test]
async fn a_slow_replay_of_an_earlier_session_looks_like_silence() {
    let mut stage = Stage::new();
    let builder = stage.builder().ttl_silent(QUICK);
    let mut db = Follower::of(&mut stage, "db", builder).await;
    for value in ["two", "three"] {
        stage.update("db", value);
        db.told(value).await;
    }
    stage.call(json!({ "do": "heard", "topics": ["*/checkpoint/*"], "count": 4 }));
    stage.run("restart");
    serves(&db.client, "db", "three").await;
    // Only a client that knows the new session can tell the former one.
    settle(&db.client).await;
    stage.drop_messages(&["*"]);
    let stale = db.stat("stale_checkpoints");
    stage.update("db", "four");
    stage.call(json!({ "do": "replay", "topics": ["*/checkpoint/*", "*/status/*", "*/secret/*"] }));
    db.told("four").await;
    db.counts("stale_checkpoints", stale + 1).await;
}

/// Restored from a backup: another epoch, whose generations begin further back.
#[tokio::test]
async fn a_daemon_restored_from_a_backup_is_followed_and_its_former_events_are_not() {
    let mut stage = Stage::new();
    stage.create("kept", "kept");
    stage.create("db", "one");
    stage.run("back_up");
    stage.update("db", "two");
    stage.create("lost", "lost");
    let builder = stage.builder().ttl_silent(QUICK);
    let mut db = Follower::existing("db", builder).await;
    assert_eq!(read(&db.client, "kept").await.unwrap(), "kept");
    assert_eq!(read(&db.client, "lost").await.unwrap(), "lost");
    stage.update("db", "three");
    db.told("three").await;

    stage.run("restore");
    serves(&db.client, "db", "one").await;
    db.told("one").await;
    assert_eq!(read(&db.client, "kept").await.unwrap(), "kept");
    assert!(read(&db.client, "lost").await.is_err());
    assert!(db.stat("started_over") >= 1);

    assert!(db.client.wait_ready(crate::stage::PATIENCE).await);
    let before = db.stat("other_epoch");
    stage.call(json!({ "do": "replay", "topics": ["*/secret/db/updated"] }));
    db.counts("other_epoch", before + 1).await;
    assert_eq!(read(&db.client, "db").await.unwrap(), "one");
    stage.update("db", "four");
    db.told("four").await;
}

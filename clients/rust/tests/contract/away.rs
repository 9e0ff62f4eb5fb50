//! The daemon dead: what is served marked stale and how long, and what is not served at any price.

use std::net::TcpListener;
use std::time::Duration;

use secretsd_client::{ExposeSecret, SecretsClient, SecretsError};
use serde_json::{json, Value};
use tokio::time::timeout;

use crate::stage::{counts, eventually, read, serves, settle, stat, Follower, Stage, HEARD_ONLY, PATIENCE, QUICK};

async fn is_stale(client: &SecretsClient, name: &str) {
    eventually("the value is marked stale", || async {
        match client.get(name).await {
            Ok(secret) if secret.stale() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

async fn is_unavailable(client: &SecretsClient, name: &str) {
    eventually("nothing is served", || async {
        match client.get(name).await {
            Err(SecretsError::SecretsUnavailable(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn what_nothing_newer_is_known_of_is_served_stale_and_the_rest_is_unavailable() {
    let mut stage = Stage::new();
    stage.create("unread", "never read");
    let builder = stage.builder().ttl_silent(QUICK);
    let mut db = Follower::of(&mut stage, "db", builder).await;
    stage.run("kill");
    is_stale(&db.client, "db").await;
    assert_eq!(read(&db.client, "db").await.unwrap(), "one");
    assert!(db.stat("served_stale") >= 1);
    assert!(matches!(
        read(&db.client, "unread").await,
        Err(SecretsError::SecretsUnavailable(_))
    ));
    stage.run("begin");
    eventually("the daemon is found again", || async {
        match db.client.get("db").await {
            Ok(secret) if !secret.stale() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    stage.update("db", "two");
    db.told("two").await;
}

#[tokio::test]
async fn a_daemon_that_goes_on_failing_by_not_answering_holds_up_no_read_that_has_a_stale_value() {
    let mut stage = Stage::new();
    let builder = stage.builder().ttl_silent(QUICK).timeout(HEARD_ONLY);
    let db = Follower::of(&mut stage, "db", builder).await;
    stage.run("kill");
    is_stale(&db.client, "db").await;
    // The kernel takes the connections; nobody answers them.
    let _hangs = TcpListener::bind(format!("127.0.0.1:{}", stage.at["port"])).unwrap();
    let fetches = db.stat("fetches");
    let asked = eventually("the daemon is asked, and the value is stale", || async {
        match db.client.get("db").await {
            Ok(secret) if secret.stale() && db.stat("fetches") > fetches => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    timeout(PATIENCE, asked).await.expect("no read waits for it");
}

#[tokio::test]
async fn after_max_stale_nothing_is_served() {
    let mut stage = Stage::new();
    let builder = stage
        .builder()
        .ttl_silent(Duration::from_millis(500))
        .max_stale(Duration::from_secs(4));
    let db = Follower::of(&mut stage, "db", builder).await;
    stage.run("kill");
    is_stale(&db.client, "db").await;
    is_unavailable(&db.client, "db").await;
}

/// Makes a change, ends the daemon, and lets the client hear of it without being able to ask.
async fn superseded(stage: &mut Stage, client: &SecretsClient, change: Value, names: &[&str]) {
    assert!(client.wait_ready(PATIENCE).await);
    counts(client, "verified", 2 + names.len() as u64).await;
    settle(client).await;
    let held = stage.drop_messages(&["*"]);
    stage.call(change);
    stage.met(&held, 2 * names.len() as u64 + 1);
    stage.run("kill");
    let before = stat(client, "superseded");
    stage.call(json!({ "do": "release", "number": held }));
    counts(client, "superseded", before + names.len() as u64).await;
}

#[tokio::test]
async fn a_superseded_value_is_served_within_its_grace_and_not_after() {
    let mut stage = Stage::new();
    let names = ["long_db", "brief_db"];
    let client = stage.builder().build().unwrap();
    for name in names {
        stage.create(name, "old");
        assert_eq!(read(&client, name).await.unwrap(), "old");
    }
    superseded(&mut stage, &client, json!({ "do": "rotate", "names": names }), &names).await;
    is_unavailable(&client, "brief_db").await;
    let secret = client.get("long_db").await.unwrap();
    assert_eq!(
        (secret.value().expose_secret(), secret.version(), secret.stale()),
        ("old", 1, true)
    );
    stage.run("begin");
    eventually("the new version is served", || async {
        match client.get("long_db").await {
            Ok(secret) if secret.version() == 2 && !secret.stale() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn a_rotation_is_told_although_the_cache_is_cleared_before_the_daemon_is_back() {
    let mut stage = Stage::new();
    let builder = stage.builder();
    let mut db = Follower::of(&mut stage, "db", builder).await;
    let change = json!({ "do": "update", "name": "db", "value": "two" });
    superseded(&mut stage, &db.client, change, &["db"]).await;
    db.client.clear_cache().await;
    is_unavailable(&db.client, "db").await;
    stage.run("begin");
    db.told("two").await;
}

async fn never_serves(change: Value, gone: &str) {
    let mut stage = Stage::new();
    let client = stage.builder().build().unwrap();
    for name in [gone, "kept"] {
        stage.create(name, "old");
        assert_eq!(read(&client, name).await.unwrap(), "old");
    }
    superseded(&mut stage, &client, change, &[gone]).await;
    for _ in 0..20 {
        assert!(matches!(
            client.get(gone).await,
            Err(SecretsError::SecretsUnavailable(_))
        ));
    }
    serves(&client, "kept", "old").await;
}

#[tokio::test]
async fn a_value_superseded_urgently_is_never_served() {
    never_serves(
        json!({ "do": "rotate", "names": ["long_db"], "urgent": true }),
        "long_db",
    )
    .await;
}

#[tokio::test]
async fn a_value_superseded_without_grace_is_never_served() {
    never_serves(json!({ "do": "rotate", "names": ["none_db"] }), "none_db").await;
}

#[tokio::test]
async fn a_deleted_value_is_never_served() {
    never_serves(json!({ "do": "delete", "name": "long_db" }), "long_db").await;
}

//! The event-signing key rotated under the client: followed when it is told, survived when it isn't.

use serde_json::json;

use crate::stage::{read, serves, Follower, Stage, PATIENCE, QUICK};

#[tokio::test]
async fn a_key_that_the_daemon_rotates_is_followed_with_and_without_a_pinned_one() {
    for pinned in [true, false] {
        let mut stage = Stage::new();
        // The PEM of before, whatever the daemon writes in its place.
        let pem = std::fs::read_to_string(stage.text("pubkey")).unwrap();
        let pem = stage.write("pinned.pub", &pem);
        let plain = secretsd_client::SecretsClient::builder()
            .url(format!("http://127.0.0.1:{}", stage.at["port"]))
            .client_id("service")
            .mqtt_url(stage.text("proxy"))
            .ttl_silent(crate::stage::HEARD_ONLY);
        let builder = if pinned { plain.pubkey(&pem) } else { plain };
        let mut db = Follower::of(&mut stage, "db", builder.clone()).await;
        stage.run("rotate_signing_key");
        db.counts("keys_followed", 1).await;
        stage.update("db", "two");
        db.told("two").await;
        assert_eq!(db.stat("refused"), 0, "{:?}", db.client.stats());

        // Off while it was rotated: the published lines lead from the pinned key to the new one.
        let mut late = Follower::existing("db", builder.client_id("service")).await;
        let refused = late.stat("refused");
        stage.update("db", "three");
        late.told("three").await;
        if !pinned {
            assert_eq!(refused, 0, "{:?}", late.client.stats());
        }
    }
}

#[tokio::test]
async fn a_key_that_does_not_agree_to_be_the_next_one_is_not_followed() {
    let mut stage = Stage::new();
    let builder = stage.builder().ttl_silent(QUICK);
    let mut db = Follower::of(&mut stage, "db", builder).await;
    stage.call(json!({ "do": "sign_with_new_key", "announced": true, "agreed": false }));
    db.counts("keys_not_followed", 1).await;
    stage.update("db", "two");
    db.told("two").await;
    db.counts("refused_unknown_key", 1).await;
    assert_eq!(db.stat("keys_followed"), 0);
}

#[tokio::test]
async fn a_key_rotated_unheard_costs_the_hints_and_no_correctness() {
    let mut stage = Stage::new();
    let builder = stage.builder().ttl_silent(QUICK);
    let mut db = Follower::of(&mut stage, "db", builder).await;
    stage.call(json!({ "do": "sign_with_new_key", "announced": false }));
    stage.update("db", "two");
    db.counts("refused_unknown_key", 1).await;
    serves(&db.client, "db", "two").await;
    db.told("two").await;
    assert!(db.client.wait_ready(PATIENCE).await);
    assert_eq!(read(&db.client, "db").await.unwrap(), "two");
}

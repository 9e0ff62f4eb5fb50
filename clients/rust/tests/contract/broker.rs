//! A broker that is silent, dead, or speaks the older version: staleness is bounded whoever fails.

use serde_json::json;

use crate::stage::{counts, read, serves, Follower, Stage, PATIENCE, QUICK};

#[tokio::test]
async fn a_silent_broker_bounds_staleness_by_the_time_to_live() {
    let mut stage = Stage::new();
    let builder = stage.builder().ttl_silent(QUICK);
    let mut db = Follower::of(&mut stage, "db", builder).await;
    stage.run("freeze_broker");
    stage.update("db", "two");
    db.told("two").await;
    stage.update("db", "three");
    serves(&db.client, "db", "three").await;
    db.told("three").await;
    stage.run("thaw_broker");
    stage.update("db", "four");
    db.told("four").await;
}

#[tokio::test]
async fn a_dead_broker_costs_the_hints_only_and_is_found_again() {
    let mut stage = Stage::new();
    let builder = stage.builder().ttl_silent(QUICK);
    let mut db = Follower::of(&mut stage, "db", builder).await;
    stage.run("kill_broker");
    stage.update("db", "two");
    db.told("two").await;
    let connects = db.stat("bus_connects");
    stage.run("start_broker");
    db.counts("bus_connects", connects + 1).await;
    assert!(db.client.wait_ready(PATIENCE).await);
    stage.update("db", "three");
    db.told("three").await;
}

#[tokio::test]
async fn a_broker_that_was_never_there_costs_nothing_but_the_hints() {
    let mut stage = Stage::new();
    stage.create("db", "one");
    let client = stage
        .builder()
        .mqtt_url("mqtt://127.0.0.1:1")
        .ttl_silent(QUICK)
        .build()
        .unwrap();
    assert_eq!(read(&client, "db").await.unwrap(), "one");
    stage.update("db", "two");
    serves(&client, "db", "two").await;
    assert!(!client.wait_ready(std::time::Duration::from_millis(50)).await);
}

#[tokio::test]
async fn a_broker_that_refuses_version_5_is_spoken_to_in_3_1_1() {
    let mut stage = Stage::new();
    stage.call(json!({ "do": "refuse_version_5" }));
    let builder = stage.builder();
    let mut db = Follower::of(&mut stage, "db", builder).await;
    assert_eq!(db.stat("bus_connects"), 1);
    stage.update("db", "two");
    db.told("two").await;
    assert_eq!((db.stat("refused"), db.stat("superseded")), (0, 1));
}

#[tokio::test]
async fn a_refused_subscription_costs_the_hints_about_it() {
    let mut stage = Stage::new();
    stage.call(json!({ "do": "refuse_subscriptions" }));
    stage.create("db", "one");
    let client = stage.builder().ttl_silent(QUICK).build().unwrap();
    assert_eq!(read(&client, "db").await.unwrap(), "one");
    counts(&client, "subscriptions_refused", 1).await;
    stage.update("db", "two");
    serves(&client, "db", "two").await;
}

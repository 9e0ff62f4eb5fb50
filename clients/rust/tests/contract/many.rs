//! A thousand names changed at once, on a Mosquitto with its default limits: it loses messages and says nothing.

use std::collections::HashMap;

use serde_json::json;

use crate::stage::{counts, eventually, read, stat, Stage, PATIENCE};

const NAMES: usize = 1000;

#[tokio::test]
async fn a_thousand_names_at_once_heal_within_a_checkpoint() {
    let mut stage = Stage::with(json!({ "do": "start", "broker": { "default_limits": true } }));
    let names: Vec<String> = (0..NAMES).map(|number| format!("many{number}")).collect();
    stage.call(json!({ "do": "create", "names": names }));
    let client = stage.builder().build().unwrap();
    for name in &names {
        read(&client, name).await.unwrap();
    }
    assert!(client.wait_ready(PATIENCE).await);
    stage.call(json!({ "do": "heard", "topics": ["*/state"], "count": NAMES }));
    let (fetches, asked) = (stat(&client, "fetches"), stat(&client, "changes_asked"));
    stage.run("freeze_broker");
    let rotated: HashMap<String, String> =
        serde_json::from_value(stage.call(json!({ "do": "rotate", "names": names }))).unwrap();
    stage.run("owes_nothing");
    stage.run("thaw_broker");
    counts(&client, "superseded", NAMES as u64).await;
    counts(&client, "fetches", fetches + NAMES as u64).await;
    eventually("all are cached anew", || async {
        let cached = names
            .iter()
            .filter(|name| client.cached(name).is_some_and(|secret| secret.version() == 2))
            .count();
        if cached == NAMES {
            Ok(())
        } else {
            Err(format!("{cached}; {:?}", client.stats()))
        }
    })
    .await;
    for (name, value) in &rotated {
        assert_eq!(read(&client, name).await.unwrap(), *value);
    }
    assert_eq!(stat(&client, "fetches"), fetches + NAMES as u64);
    assert!(stat(&client, "changes_asked") <= asked + 3, "{:?}", client.stats());
}

//! First reads, names that aren't there, rights, tokens, sockets, and how a client ends.

use std::time::Duration;

use secretsd_client::{ExposeSecret, SecretsClient, SecretsError};
use serde_json::json;

use crate::stage::{counts, eventually, read, serves, stat, Follower, Stage, PATIENCE, QUICK};

#[tokio::test]
async fn a_first_read_fetches_and_the_next_ones_come_from_memory() {
    let mut stage = Stage::new();
    stage.create("db", "hunter2hunter2");
    let client = stage.builder().build().unwrap();
    assert!(client.cached("db").is_none());
    let secret = client.get("db").await.unwrap();
    assert_eq!((secret.name(), secret.version(), secret.stale()), ("db", 1, false));
    assert_eq!(secret.value().expose_secret(), "hunter2hunter2");
    assert!(!format!("{secret:?} {client:?}").contains("hunter2"));
    for _ in 0..100 {
        assert_eq!(read(&client, "db").await.unwrap(), "hunter2hunter2");
    }
    assert_eq!(stat(&client, "fetches"), 1);
    assert_eq!(client.cached("db").unwrap().kid(), secret.kid());
    client.clear_cache().await;
    assert!(client.cached("db").is_none());
    assert_eq!(read(&client, "db").await.unwrap(), "hunter2hunter2");
    assert_eq!(stat(&client, "fetches"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_readers_at_once_make_one_request() {
    let mut stage = Stage::new();
    stage.create("db", "one");
    let client = stage.builder().build().unwrap();
    let readers: Vec<_> = (0..200)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { read(&client, "db").await.unwrap() })
        })
        .collect();
    for reader in readers {
        assert_eq!(reader.await.unwrap(), "one");
    }
    assert_eq!(stat(&client, "fetches"), 1);
}

#[tokio::test]
async fn what_isnt_there_is_not_found_and_what_isnt_allowed_is_denied() {
    let mut stage = Stage::new();
    stage.create("db", "one");
    let client = stage.builder().build().unwrap();
    assert!(matches!(
        read(&client, "nothing").await,
        Err(SecretsError::SecretNotFound(_))
    ));
    assert!(matches!(
        read(&client, "no/name").await,
        Err(SecretsError::SecretNotFound(_))
    ));
    let unknown = stage.builder().client_id("nobody").build().unwrap();
    assert!(matches!(
        read(&unknown, "db").await,
        Err(SecretsError::AuthenticationFailed(_))
    ));

    assert_eq!(read(&client, "db").await.unwrap(), "one");
    stage.call(json!({ "do": "allow", "client": "service", "clause": { "allow": ["other"], "can": ["read"] } }));
    eventually("the right is withdrawn, and the value dropped", || async {
        match read(&client, "db").await {
            Err(SecretsError::AccessDenied(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    stage.call(json!({ "do": "allow", "client": "service", "clause": null }));
    eventually("the client is not known any more", || async {
        match read(&client, "db").await {
            Err(SecretsError::AuthenticationFailed(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn a_token_file_that_is_replaced_is_read_again() {
    let mut stage = Stage::new();
    stage.create("db", "one");
    let proof = |token: &str| json!({ "allow": ["db"], "can": ["read"], "auth": [{ "token_sha256": sha256(token) }] });
    let old = "the-old-token-the-old-token-the-old-token";
    let new = "the-new-token-the-new-token-the-new-token";
    let path = stage.write("token", old);
    stage.call(json!({ "do": "allow", "client": "service", "clause": proof(old) }));
    let client = stage.builder().token_file(&path).ttl_silent(QUICK).build().unwrap();
    serves(&client, "db", "one").await; // the line of the reload is written before it is in force
    stage.write("token", new);
    stage.call(json!({ "do": "allow", "client": "service", "clause": proof(new) }));
    client.clear_cache().await;
    serves(&client, "db", "one").await; // the line of the reload is written before it is in force
    stage.update("db", "two");
    serves(&client, "db", "two").await;
}

#[tokio::test]
async fn a_rotation_heard_while_the_daemon_does_not_take_the_token_is_told_once_it_does() {
    let mut stage = Stage::new();
    stage.create("db", "one");
    let (wrong, right) = ("the-wrong-token-the-wrong-token", "the-right-token-the-right-token");
    let proof = json!({ "allow": ["db"], "can": ["read"], "auth": [{ "token_sha256": sha256(right) }] });
    let path = stage.write("token", wrong);
    stage.call(json!({ "do": "allow", "client": "service", "clause": proof }));
    let client = stage.builder().token_file(&path).build().unwrap();
    is_refused(&client).await; // the line of the reload is written before it is in force
    stage.write("token", right);
    let mut db = Follower::existing("db", stage.builder().token_file(&path).ttl_silent(QUICK)).await;
    stage.write("token", wrong);
    let superseded = db.stat("superseded");
    stage.update("db", "two");
    db.counts("superseded", superseded + 1).await;
    is_refused(&db.client).await;
    stage.write("token", right);
    db.told("two").await;
}

async fn is_refused(client: &SecretsClient) {
    eventually("the token is refused", || async {
        match client.get("db").await {
            Err(SecretsError::AuthenticationFailed(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

fn sha256(text: &str) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn the_unix_socket_is_used_when_its_owner_can_be_trusted() {
    let mut stage = Stage::new();
    stage.create("db", "one");
    let socket = stage.text("socket");
    let client = stage.builder().url(format!("unix://{socket}")).build().unwrap();
    assert_eq!(read(&client, "db").await.unwrap(), "one");
    assert!(client.wait_ready(PATIENCE).await);

    let not_a_socket = stage.write("plain", "");
    let client = stage.builder().url(format!("unix://{not_a_socket}")).build().unwrap();
    match read(&client, "db").await {
        Err(SecretsError::SecretsUnavailable(why)) => assert!(why.contains("not a socket"), "{why}"),
        other => panic!("{other:?}"),
    }
    if rustix::process::geteuid().is_root() {
        // Somebody else's socket, in a folder that is root's and not theirs.
        std::os::unix::fs::chown(&socket, Some(65534), None).unwrap();
        let client = stage.builder().url(format!("unix://{socket}")).build().unwrap();
        match read(&client, "db").await {
            Err(SecretsError::SecretsUnavailable(why)) => assert!(why.contains("65534"), "{why}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn without_a_bus_values_are_served_and_watches_told_by_asking() {
    let mut stage = Stage::with(json!({ "do": "start", "with_bus": false }));
    stage.create("db", "one");
    let client = stage.builder().ttl_without_bus(QUICK).build().unwrap();
    assert_eq!(read(&client, "db").await.unwrap(), "one");
    assert!(client.wait_ready(PATIENCE).await);
    let mut watch = client.watch("db").await.unwrap();
    stage.update("db", "two");
    let told = tokio::time::timeout(PATIENCE, watch.changed()).await.unwrap().unwrap();
    assert_eq!(told.value().expose_secret(), "two");
}

#[tokio::test]
async fn a_closed_client_answers_nobody_and_its_watches_end() {
    let mut stage = Stage::new();
    stage.create("db", "one");
    let client = stage.builder().build().unwrap();
    let clone = client.clone();
    let mut watch = client.watch("db").await.unwrap();
    client.close().await;
    client.close().await;
    assert!(clone.cached("db").is_none(), "no value is kept");
    assert!(matches!(clone.get("db").await, Err(SecretsError::Closed)));
    assert!(matches!(clone.watch("db").await, Err(SecretsError::Closed)));
    assert!(watch.changed().await.is_none());
    assert!(!clone.wait_ready(PATIENCE).await);
}

/// The runtime that made the first read is gone, the client isn't.
#[test]
fn a_client_outlives_the_runtime_that_used_it_first() {
    let mut stage = Stage::new();
    stage.create("db", "one");
    let client = stage.builder().build().unwrap();
    let on_a_new_runtime = |client: SecretsClient| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async move { serves(&client, "db", "one").await });
    };
    on_a_new_runtime(client.clone());
    on_a_new_runtime(client.clone());
    stage.update("db", "two");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(serves(&client, "db", "two"));
}

#[tokio::test]
async fn a_daemon_that_takes_its_time_is_unavailable_when_the_time_is_up() {
    let mut stage = Stage::new();
    stage.create("db", "one");
    stage.run("freeze_daemon");
    let url = format!("http://127.0.0.1:{}", stage.at["gate"]);
    let client = stage
        .builder()
        .url(url)
        .timeout(Duration::from_millis(300))
        .build()
        .unwrap();
    match read(&client, "db").await {
        Err(SecretsError::SecretsUnavailable(why)) => assert!(why.contains("0.3 s"), "{why}"),
        other => panic!("{other:?}"),
    }
    stage.run("thaw_daemon");
    serves(&client, "db", "one").await;
}

/// The stage's answer comes when it is asked: whether it is there yet is for the test to find out.
async fn acknowledged(stage: &mut Stage, versions: &[u64]) {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let said = stage.call(json!({ "do": "acknowledged", "name": "db" }));
        if said == json!(versions) {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{said}, not {versions:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_version_is_acknowledged_when_its_watch_asks_for_the_next_one() {
    let mut stage = Stage::new();
    stage.create("db", "one");
    let client = stage.builder().instance("web-1").build().unwrap();
    let mut watch = client.watch("db").await.unwrap();
    acknowledged(&mut stage, &[1]).await;
    assert!(client.wait_ready(PATIENCE).await);
    stage.update("db", "two");
    assert_eq!(watch.changed().await.unwrap().version(), 2);
    // It is in use only when the loop's body is through: here the watch is dropped amid it.
    drop(watch);
    let mut watch = client.watch("db").await.unwrap();
    acknowledged(&mut stage, &[1, 2]).await; // what the new watch begins with
    stage.update("db", "three");
    assert_eq!(watch.changed().await.unwrap().version(), 3);
    assert!(tokio::time::timeout(Duration::from_millis(50), watch.changed())
        .await
        .is_err());
    acknowledged(&mut stage, &[1, 2, 3]).await;
    counts(&client, "acknowledged", 3).await;
}

#[tokio::test]
async fn who_says_for_itself_what_is_in_use_acknowledges_nothing_else() {
    let mut stage = Stage::new();
    stage.create("db", "one");
    let client = stage.builder().acknowledge(false).build().unwrap();
    let mut watch = client.watch("db").await.unwrap();
    assert!(client.wait_ready(PATIENCE).await);
    stage.update("db", "two");
    let two = watch.changed().await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(50), watch.changed())
        .await
        .is_err());
    client.acknowledge(&two).unwrap();
    acknowledged(&mut stage, &[2]).await;
    counts(&client, "acknowledged", 1).await;
}

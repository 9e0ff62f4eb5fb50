//! Certificates towards the daemon; passwords, TLS and an ACL at the broker.

use secretsd_client::{Builder, SecretsClient, SecretsError};
use serde_json::json;

use crate::stage::{read, serves, stat, Follower, Stage, HEARD_ONLY, QUICK};

fn certified(stage: &Stage, who: &str) -> Builder {
    let folder = stage.text("folder");
    SecretsClient::builder()
        .url(format!("https://127.0.0.1:{}", stage.at["port"]))
        .client_id("backend")
        .ca_file(stage.text("ca"))
        .certificate(format!("{folder}/{who}.pem"), format!("{folder}/{who}.key"))
        .pubkey(stage.text("pubkey"))
        .mqtt_ca_file(stage.text("ca"))
        .ttl_silent(HEARD_ONLY)
}

fn password(stage: &Stage, user: &str) -> String {
    stage.at["passwords"][user].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_certificate_a_password_and_an_acl_let_in_whom_they_should() {
    let mut stage = Stage::with(json!({ "do": "start_with_access" }));
    let name = "postgres_password";
    let builder = certified(&stage, "backend").mqtt_login("postgres", password(&stage, "postgres"));
    let mut service = Follower::of(&mut stage, name, builder).await;
    stage.update(name, "two");
    service.told("two").await;
    assert_eq!(service.stat("superseded"), 1);

    // The ACL keeps the secret's topics from this user: Mosquitto grants and stays silent, the checkpoint heals.
    let builder = certified(&stage, "backend").mqtt_login("ha-client", password(&stage, "ha-client"));
    let client = builder.build().unwrap();
    assert_eq!(read(&client, name).await.unwrap(), "two");
    assert!(client.wait_ready(crate::stage::PATIENCE).await);
    stage.update(name, "three");
    serves(&client, name, "three").await;

    for wrong in ["password", "authority"] {
        let builder = certified(&stage, "backend").ttl_silent(QUICK);
        let builder = if wrong == "password" {
            builder.mqtt_login("postgres", stage.write("wrong", "not it\n"))
        } else {
            let other = format!("{}/authority.pem", stage.text("folder"));
            builder
                .mqtt_login("postgres", password(&stage, "postgres"))
                .mqtt_ca_file(other)
        };
        let client = builder.build().unwrap();
        read(&client, name).await.unwrap();
        stage.update(name, wrong);
        serves(&client, name, wrong).await;
        assert_eq!(stat(&client, "bus_connects"), 0, "{wrong}");
    }
}

#[tokio::test]
async fn a_certificate_of_nobody_is_refused_and_a_renewed_one_is_taken_up() {
    let mut stage = Stage::with(json!({ "do": "start_with_access" }));
    stage.create("postgres_password", "one");
    let read_as = |builder: Builder| async move { read(&builder.build().unwrap(), "postgres_password").await };
    let refused = read_as(certified(&stage, "stranger")).await;
    assert!(
        matches!(
            refused,
            Err(SecretsError::SecretsUnavailable(_) | SecretsError::AuthenticationFailed(_))
        ),
        "{refused:?}"
    );
    let distrusted =
        read_as(certified(&stage, "backend").ca_file(format!("{}/authority.pem", stage.text("folder")))).await;
    match distrusted {
        Err(SecretsError::SecretsUnavailable(why)) => assert!(why.contains("JARVIS_SECRETS_CA_FILE"), "{why}"),
        other => panic!("{other:?}"),
    }

    let folder = stage.text("folder");
    let text = |name: &str| std::fs::read_to_string(format!("{folder}/{name}")).unwrap();
    let (cert, key) = (text("stranger.pem"), text("stranger.key"));
    stage.write("own.pem", &cert);
    stage.write("own.key", &key);
    let client = certified(&stage, "own").ttl_silent(QUICK).build().unwrap();
    assert!(read(&client, "postgres_password").await.is_err());
    let (cert, key) = (text("backend.pem"), text("backend.key"));
    stage.write("own.pem", &cert);
    stage.write("own.key", &key);
    serves(&client, "postgres_password", "one").await;
}

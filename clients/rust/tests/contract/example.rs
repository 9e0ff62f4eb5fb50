//! What the documents show is what runs: the example, and the old file's interface.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::stage::Stage;

/// Where cargo puts examples, beside the tests: `cargo test` has built them.
fn example(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let profile = tests.parent().and_then(std::path::Path::parent).unwrap();
    profile.join("examples").join(name)
}

#[test]
fn the_example_follows_a_secret_and_prints_no_value() {
    let mut stage = Stage::new();
    stage.create("postgres_password", "hunter2hunter2");
    let mut follow = Command::new(example("follow"))
        .arg("postgres_password")
        .env("JARVIS_SECRETS_URL", format!("http://127.0.0.1:{}", stage.at["port"]))
        .env("JARVIS_CLIENT_ID", "service")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    assert_eq!(
        lines.next().unwrap().unwrap(),
        "postgres_password version 1, 14 characters"
    );
    // The first line comes before the watch: a change in between would be the version that the watch begins with.
    let mut version = 2;
    let told = std::thread::spawn(move || lines.next().unwrap().unwrap());
    while !told.is_finished() {
        stage.update("postgres_password", &format!("value number {version:04}"));
        version += 1;
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert!(version < 100, "the example is told");
    }
    let line = told.join().unwrap();
    assert!(line.ends_with("17 characters"), "{line}");
    follow.kill().unwrap();
    follow.wait().unwrap();
}

#[cfg(feature = "compat")]
#[tokio::test]
async fn the_old_files_functions_keep_their_signatures() {
    use secretsd_client::compat::{get_home_assistant_token, get_jwt_secret, get_postgres_password, SecretsClient};

    /// The process's variables are all tests': a process of its own reads them.
    const WITHIN: &str = "SECRETSD_TEST_OLD_FILE";
    if std::env::var_os(WITHIN).is_some() {
        let client: SecretsClient = SecretsClient::new().unwrap();
        let value: anyhow::Result<String> = client.get_secret("postgres_password").await;
        assert_eq!(value.unwrap(), "of postgres_password");
        client.clear_cache().await;
        let jwt: anyhow::Result<String> = get_jwt_secret().await;
        assert!(jwt.unwrap().starts_with("-----BEGIN PRIVATE KEY-----"));
        assert_eq!(get_postgres_password().await.unwrap(), "of postgres_password");
        assert_eq!(get_home_assistant_token().await.unwrap(), "of home_assistant_token");
        let missing: anyhow::Error = client.get_secret("nothing").await.unwrap_err();
        assert!(missing.downcast_ref::<secretsd_client::SecretsError>().is_some());
        return;
    }
    let mut stage = Stage::new();
    for name in ["postgres_password", "home_assistant_token"] {
        stage.create(name, &format!("of {name}"));
    }
    stage.call(serde_json::json!({ "do": "create", "names": ["jwt_signing_key"] }));
    stage
        .call(serde_json::json!({ "do": "allow", "client": "backend", "clause": { "allow": ["*"], "can": ["read"] } }));
    let ended = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "example::the_old_files_functions_keep_their_signatures",
            "--nocapture",
        ])
        .env(WITHIN, "1")
        .env("JARVIS_SECRETS_URL", format!("http://127.0.0.1:{}", stage.at["port"]))
        .env_remove("JARVIS_CLIENT_ID")
        .status()
        .unwrap();
    assert!(ended.success());
}

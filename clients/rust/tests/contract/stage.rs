//! The real daemon, a real Mosquitto and a man in the middle, set up and told what to do by Python's test support
//! (`tests/support/stage.py`); and waiting with a deadline instead of a sleep.

use std::future::Future;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use secretsd_client::{Builder, ExposeSecret, SecretsClient, SecretsError, Watch};
use serde_json::{json, Value};

/// Long enough for a loaded machine of two cores; a test that passes never waits this long.
pub const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// A time to live that no test lives to see: only what comes on the bus can make the client ask.
pub const HEARD_ONLY: Duration = Duration::from_secs(600);
/// The contract's 30 s, so short that a test can wait for it.
pub const QUICK: Duration = Duration::from_secs(1);

pub struct Stage {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    pub at: Value,
}

impl Stage {
    /// Starts everything with a broker that anybody may use.
    pub fn new() -> Self {
        Self::with(json!({ "do": "start" }))
    }

    pub fn with(start: Value) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let python = root.join(".venv/bin/python");
        assert!(
            python.exists(),
            "the tests need the project's environment: make test-rust"
        );
        let path = format!(
            "{}:/usr/local/sbin:/usr/sbin",
            std::env::var("PATH").unwrap_or_default()
        );
        let mut process = Command::new(python)
            .args(["-m", "tests.support.stage"])
            .current_dir(root)
            .env("PATH", path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = process.stdin.take();
        let output = BufReader::new(process.stdout.take().unwrap());
        let mut stage = Self {
            process,
            input,
            output,
            at: Value::Null,
        };
        stage.at = stage.call(start);
        stage
    }

    /// Has it do one thing; returns the answer.
    pub fn call(&mut self, command: Value) -> Value {
        let mut line = command.to_string();
        line.push('\n');
        self.input.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
        let mut answer = String::new();
        self.output.read_line(&mut answer).unwrap();
        let mut answer: Value = serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{command}: {answer:?}"));
        assert!(answer.get("error").is_none(), "{command}: {}", answer["error"]);
        answer["ok"].take()
    }

    /// Has it do one thing without arguments.
    pub fn run(&mut self, what: &str) {
        self.call(json!({ "do": what }));
    }

    pub fn create(&mut self, name: &str, value: &str) {
        self.call(json!({ "do": "create", "names": [name], "value": value }));
    }

    pub fn update(&mut self, name: &str, value: &str) {
        self.call(json!({ "do": "update", "name": name, "value": value }));
    }

    pub fn write(&mut self, name: &str, text: &str) -> String {
        self.call(json!({ "do": "write", "name": name, "text": text }))
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub fn drop_messages(&mut self, topics: &[&str]) -> Value {
        self.call(json!({ "do": "drop", "topics": topics }))
    }

    pub fn met(&mut self, number: &Value, count: u64) {
        self.call(json!({ "do": "met", "number": number, "count": count }));
    }

    pub fn stop(&mut self, number: &Value) {
        self.call(json!({ "do": "stop", "number": number }));
    }

    pub fn text(&self, what: &str) -> String {
        self.at[what].as_str().unwrap().to_owned()
    }

    /// A service of this daemon, with the daemon's key pinned, that listens through the man in the middle.
    pub fn builder(&self) -> Builder {
        SecretsClient::builder()
            .url(format!("http://127.0.0.1:{}", self.at["port"]))
            .client_id("service")
            .pubkey(self.text("pubkey"))
            .mqtt_url(self.text("proxy"))
            .ttl_silent(HEARD_ONLY)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ended = self.process.wait();
    }
}

/// A client that follows one secret, with its version one cached and the bus listened to.
pub struct Follower {
    pub client: SecretsClient,
    pub name: String,
    pub watch: Watch,
}

impl Follower {
    /// Creates the secret with the value `one` and follows it.
    pub async fn of(stage: &mut Stage, name: &str, builder: Builder) -> Self {
        stage.create(name, "one");
        Self::existing(name, builder).await
    }

    pub async fn existing(name: &str, builder: Builder) -> Self {
        let client = builder.build().unwrap();
        client.get(name).await.unwrap();
        let watch = client.watch(name).await.unwrap();
        assert!(client.wait_ready(PATIENCE).await, "the bus is listened to");
        // Retained: checkpoint, status and state come as soon as they are subscribed to.
        counts(&client, "verified", 3).await;
        settle(&client).await;
        Self {
            client,
            name: name.into(),
            watch,
        }
    }

    /// Waits to be told of a new version; asserts that its value is this one and that a read gives it.
    pub async fn told(&mut self, value: &str) {
        let told = tokio::time::timeout(PATIENCE, self.watch.changed()).await;
        let told = told
            .unwrap_or_else(|_| panic!("{} is told; {:?}", self.name, self.client.stats()))
            .unwrap();
        assert_eq!(told.value().expose_secret(), value, "{:?}", self.client.stats());
        assert_eq!(read(&self.client, &self.name).await.unwrap(), value);
    }

    pub fn stat(&self, name: &str) -> u64 {
        stat(&self.client, name)
    }

    pub async fn counts(&self, name: &str, at_least: u64) {
        counts(&self.client, name, at_least).await;
    }
}

pub async fn read(client: &SecretsClient, name: &str) -> Result<String, SecretsError> {
    client
        .get_secret(name)
        .await
        .map(|value| value.expose_secret().to_owned())
}

pub fn stat(client: &SecretsClient, name: &str) -> u64 {
    client.stats().get(name).copied().unwrap_or(0)
}

/// Waits until one of the client's counters has come so far.
pub async fn counts(client: &SecretsClient, name: &str, at_least: u64) {
    eventually(&format!("{name} reaches {at_least}"), || async {
        let stats = client.stats();
        if stats.get(name).copied().unwrap_or(0) >= at_least {
            Ok(())
        } else {
            Err(format!("{stats:?}"))
        }
    })
    .await;
}

/// Waits until two checkpoints in a row have made the client ask nothing: it has caught up with the daemon.
pub async fn settle(client: &SecretsClient) {
    loop {
        let (asked, verified) = (stat(client, "changes_asked"), stat(client, "verified"));
        counts(client, "verified", verified + 2).await;
        if stat(client, "changes_asked") == asked {
            return;
        }
    }
}

/// Waits until a read gives `value`.
pub async fn serves(client: &SecretsClient, name: &str, value: &str) {
    eventually(&format!("{name} is served anew"), || async {
        match read(client, name).await {
            Ok(read) if read == value => Ok(()),
            other => Err(format!("{other:?}; {:?}", client.stats())),
        }
    })
    .await;
}

/// Returns what `probe` comes to; fails with `what` and its last complaint when that takes too long.
pub async fn eventually<T, F: Future<Output = Result<T, String>>>(what: &str, probe: impl Fn() -> F) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match probe().await {
            Ok(found) => return found,
            Err(complaint) => assert!(Instant::now() < deadline, "{what}: not in time; last: {complaint}"),
        }
        tokio::time::sleep(POLL).await;
    }
}

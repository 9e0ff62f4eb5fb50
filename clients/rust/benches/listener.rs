//! The Rust half of `make bench FIGURES=clients`: a client in a process of its own, driven by `tests/bench/clients.py`.
//!
//! `listener follow HTTP_PORT NAME…`: caches these secrets; prints the time (CLOCK_MONOTONIC, which all processes share)
//! when one is dropped. `listener cached HTTP_PORT NAME ROUNDS READS`: prints the reads a second of each round, from one
//! thread.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs
)]

use std::io::Write;
use std::time::{Duration, Instant};

use secretsd_client::{ExposeSecret, SecretsClient};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Hears what the client says of values that it drops.
struct Dropped;

impl Subscriber for Dropped {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target().starts_with("secretsd_client")
    }

    fn event(&self, event: &Event<'_>) {
        struct Count(u64);
        impl Visit for Count {
            fn record_u64(&mut self, field: &Field, value: u64) {
                if field.name() == "superseded" {
                    self.0 = value;
                }
            }
            fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
        }
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let mut count = Count(0);
        event.record(&mut count);
        for _ in 0..count.0 {
            say(&format!("{}.{:09}", now.tv_sec, now.tv_nsec));
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

fn say(line: &str) {
    println!("{line}");
    std::io::stdout().flush().unwrap();
}

fn main() {
    // `cargo bench` passes a flag of its own.
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"))
        .collect();
    let [what, port, rest @ ..] = words.as_slice() else {
        return; // run by `cargo test` or `cargo bench`: there is nobody to talk to
    };
    let client = SecretsClient::builder()
        .url(format!("http://127.0.0.1:{port}"))
        .client_id("admin")
        .build()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    match what.as_str() {
        "follow" => runtime.block_on(follow(client, rest)),
        "cached" => runtime.block_on(cached(client, rest)),
        other => panic!("{other}: follow or cached"),
    }
}

async fn follow(client: SecretsClient, names: &[String]) {
    for name in names {
        client.get(name).await.unwrap();
    }
    assert!(client.wait_ready(Duration::from_secs(20)).await);
    tracing::subscriber::set_global_default(Dropped).unwrap();
    say("\"ready\"");
    std::future::pending::<()>().await;
}

async fn cached(client: SecretsClient, rest: &[String]) {
    let [name, rounds, reads] = rest else {
        panic!("NAME ROUNDS READS")
    };
    let (rounds, reads): (u32, u32) = (rounds.parse().unwrap(), reads.parse().unwrap());
    let length = client.get(name).await.unwrap().value().expose_secret().len();
    assert!(client.wait_ready(Duration::from_secs(20)).await);
    for _ in 0..rounds {
        let began = Instant::now();
        for _ in 0..reads {
            // As a service reads it: through the call that would ask where nothing fresh is cached.
            let secret = client.get(name).await.unwrap();
            assert_eq!(secret.value().expose_secret().len(), length);
        }
        say(&format!("{}", f64::from(reads) / began.elapsed().as_secs_f64()));
    }
}

//! What a client may rely on, rule by rule, against the real daemon and a real Mosquitto (docs/client.md).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod access;
mod away;
mod broker;
mod example;
mod keys;
mod many;
mod messages;
mod reading;
mod stage;

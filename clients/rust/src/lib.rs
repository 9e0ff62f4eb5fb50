//! Secrets from jarvis-secretsd, cached, and dropped the moment they are rotated.
//!
//! ```no_run
//! use secretsd_client::{ExposeSecret, SecretsClient};
//!
//! # async fn run() -> secretsd_client::Result<()> {
//! let client = SecretsClient::from_env()?;
//! let password = client.get_secret("postgres_password").await?; // from memory, when it is fresh
//! connect(password.expose_secret());
//!
//! let mut changes = client.watch("postgres_password").await?;
//! while let Some(secret) = changes.changed().await {
//!     connect(secret.value().expose_secret()); // rotated: the new one is here already
//! }
//! # Ok(())
//! # }
//! # fn connect(_: &str) {}
//! ```
//!
//! The daemon's events on MQTT only hint; HTTP is the truth. What is unsigned, forged, moved to another topic or older than
//! what was seen has no effect; a broker that is silent, slow, hostile or dead makes values live shorter and nothing else;
//! while the daemon is away, cached values are served, marked stale, as long as that is safe. The rules are those of the
//! Python client, one by one: `docs/client-rust.md` and `docs/client.md` of the project.

mod acknowledge;
mod builder;
mod bus;
mod cache;
mod client;
#[cfg(feature = "compat")]
pub mod compat;
mod counts;
mod daemon;
mod default;
mod engine;
mod error;
mod history;
mod http;
mod model;
mod mqtt;
mod secret;
mod settings;
mod socket;
mod state;
mod time;
mod tls;
mod token;
mod trust;
mod verify;
mod watch;

pub use builder::Builder;
pub use client::SecretsClient;
pub use default::get_secret;
pub use error::{Result, SecretsError};
pub use secrecy::{ExposeSecret, SecretSlice, SecretString};
pub use secret::{Encoding, Secret};
pub use watch::Watch;

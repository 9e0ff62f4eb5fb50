//! The interface of the backend's old `secrets.rs`, signature by signature (feature `compat`).
//!
//! With `pub use secretsd_client::compat::*;` as all of its `secrets.rs`, the backend's own `use` lines stay as they are.
//! Values are plain `String`s here, as they were: nothing wipes them. New code uses the crate's root.

use anyhow::{Context, Result};
use secrecy::ExposeSecret;

use crate::builder::Builder;
use crate::default::client_or;

/// The name in the policy when `JARVIS_CLIENT_ID` is not set.
const CLIENT_ID: &str = "backend";

/// The old client: the new one, and values as `String`.
#[derive(Debug, Clone)]
pub struct SecretsClient {
    client: crate::SecretsClient,
}

fn made() -> crate::Result<crate::SecretsClient> {
    Builder::from_env()?.or_client_id(CLIENT_ID).build()
}

impl SecretsClient {
    /// Returns a client as the JARVIS_* variables say; its name in the policy is `backend` where they say none.
    ///
    /// # Errors
    /// For variables that make no sense.
    pub fn new() -> Result<Self> {
        Ok(Self { client: made()? })
    }

    /// Returns the current value.
    ///
    /// # Errors
    /// As [`SecretsClient::get`](crate::SecretsClient::get).
    pub async fn get_secret(&self, name: &str) -> Result<String> {
        value(&self.client, name).await
    }

    /// Drops every cached value; the next reads ask the daemon.
    pub async fn clear_cache(&self) {
        self.client.clear_cache().await;
    }
}

async fn value(client: &crate::SecretsClient, name: &str) -> Result<String> {
    let secret = client
        .get_secret(name)
        .await
        .with_context(|| format!("failed to fetch secret: {name}"))?;
    Ok(secret.expose_secret().to_owned())
}

async fn own(name: &str) -> Result<String> {
    value(&client_or(made)?, name).await
}

/// Returns `jwt_signing_key`, by the process's own client.
///
/// # Errors
/// As [`SecretsClient::get_secret`].
pub async fn get_jwt_secret() -> Result<String> {
    own("jwt_signing_key").await
}

/// Returns `postgres_password`, by the process's own client.
///
/// # Errors
/// As [`SecretsClient::get_secret`].
pub async fn get_postgres_password() -> Result<String> {
    own("postgres_password").await
}

/// Returns `home_assistant_token`, by the process's own client.
///
/// # Errors
/// As [`SecretsClient::get_secret`].
pub async fn get_home_assistant_token() -> Result<String> {
    own("home_assistant_token").await
}

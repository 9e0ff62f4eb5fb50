//! The process's own client, for `get_secret(name)` without further ado.

use std::sync::{Mutex, PoisonError};

use secrecy::SecretString;

use crate::client::SecretsClient;
use crate::error::Result;

static CLIENT: Mutex<Option<SecretsClient>> = Mutex::new(None);

/// Returns the process's client; makes it, with `make`, at the first call.
pub(crate) fn client_or(make: impl FnOnce() -> Result<SecretsClient>) -> Result<SecretsClient> {
    let mut client = CLIENT.lock().unwrap_or_else(PoisonError::into_inner);
    match &*client {
        Some(made) => Ok(made.clone()),
        None => Ok(client.insert(make()?).clone()),
    }
}

/// Returns the current value of a secret, by a client that the JARVIS_* variables configure.
///
/// The client is made at the first call and lives as long as the process.
///
/// # Errors
/// As [`SecretsClient::get`], and [`SecretsError::Settings`](crate::SecretsError::Settings) for variables that make no
/// sense.
pub async fn get_secret(name: &str) -> Result<SecretString> {
    client_or(SecretsClient::from_env)?.get_secret(name).await
}

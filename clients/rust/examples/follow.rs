//! Reads a secret, then follows it: `cargo run --example follow -- postgres_password`.
//!
//! The JARVIS_* variables say where the daemon is and who asks (docs/client.md). It prints versions, never a value.

use secretsd_client::{ExposeSecret, Secret, SecretsClient};

#[tokio::main(flavor = "current_thread")]
async fn main() -> secretsd_client::Result<()> {
    // What the client notices goes to `tracing`: here to standard error.
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let name = std::env::args().nth(1).unwrap_or_else(|| "postgres_password".into());
    let client = SecretsClient::from_env()?;
    connect(&client.get(&name).await?);

    let mut changes = client.watch(&name).await?;
    while let Some(secret) = changes.changed().await {
        connect(&secret);
    }
    Ok(())
}

/// Stands for what a service does with a password.
#[allow(clippy::print_stdout)]
fn connect(secret: &Secret) {
    let length = secret.value().expose_secret().len();
    println!("{} version {}, {length} characters", secret.name(), secret.version());
}

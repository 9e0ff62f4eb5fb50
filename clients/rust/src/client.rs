//! The client as callers see it: reads from the cache on the caller's thread, everything else by the engine.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::mpsc::{unbounded_channel, UnboundedSender};
use tokio::sync::oneshot;

use crate::builder::Builder;
use crate::counts::Counts;
use crate::engine::{self, Command};
use crate::error::{Result, SecretsError};
use crate::model::check_name;
use crate::secret::Secret;
use crate::settings::Settings;
use crate::state::{Readers, State};
use crate::time::Clock;
use crate::watch::Watch;

/// Secrets, cached, and dropped when they change. Cheap to clone; the clones share everything.
///
/// Works on any executor, and outlives each: a thread of the client's own asks the daemon and listens to the bus. It
/// begins with the first read and ends with [`close`](Self::close), or with the last clone.
///
/// A cached read takes no network and no change of threads: a look-up under a lock that is held for nothing else
/// but storing a value, and a comparison with the clock.
#[derive(Clone)]
pub struct SecretsClient {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    clock: Clock,
    readers: Readers,
    counts: Counts,
    watches: AtomicU64,
    life: Mutex<Life>,
}

/// Whether the engine runs.
enum Life {
    New(Box<State>),
    Running(UnboundedSender<Command>),
    Closed,
}

impl SecretsClient {
    /// Returns a builder with the defaults; the environment is not looked at.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Returns a client as the JARVIS_* variables say (docs/client.md lists them).
    ///
    /// # Errors
    /// [`SecretsError::Settings`] when they make no sense.
    pub fn from_env() -> Result<Self> {
        Builder::from_env()?.build()
    }

    pub(crate) fn with_settings(settings: Settings) -> Result<Self> {
        settings.check()?;
        let counts = Counts::default();
        let state = State::new(Box::new(fastrand::f64), settings.times, counts.clone());
        Ok(Self {
            shared: Arc::new(Shared {
                settings,
                clock: Clock::start(),
                readers: state.readers(),
                counts,
                watches: AtomicU64::new(0),
                life: Mutex::new(Life::New(Box::new(state))),
            }),
        })
    }

    /// Returns the current value: see [`get`](Self::get).
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_secret(&self, name: &str) -> Result<SecretString> {
        Ok(self.get(name).await?.value().clone())
    }

    /// Returns the secret: from the cache when it is fresh, else as the daemon gives it now.
    ///
    /// When the daemon can't be asked, what was current when it last could comes marked [`stale`](Secret::stale), for as
    /// long as that is safe (docs/client.md). It may be cancelled: the question goes on, and its answer is cached.
    ///
    /// # Errors
    /// [`SecretNotFound`](SecretsError::SecretNotFound), [`AccessDenied`](SecretsError::AccessDenied) and
    /// [`AuthenticationFailed`](SecretsError::AuthenticationFailed) as the daemon says;
    /// [`SecretsUnavailable`](SecretsError::SecretsUnavailable) when it can't be asked and nothing may be served.
    pub async fn get(&self, name: &str) -> Result<Secret> {
        match self.cached(name) {
            Some(secret) => Ok(secret),
            None => {
                check_name(name)?;
                self.ask(|reply| Command::Get {
                    name: name.to_owned(),
                    reply,
                })
                .await?
            }
        }
    }

    /// Returns the cached secret if it is fresh; asks nobody.
    pub fn cached(&self, name: &str) -> Option<Secret> {
        self.shared
            .readers
            .lookup(name, self.shared.clock.now(), |secret| secret.clone().give())
    }

    /// Returns a stream of the versions of `name` that come into the cache, other than the one that this client gave last.
    ///
    /// So what changes between a read and this call isn't missed. Where the client gave none, it waits until the version
    /// that there is now is known, or can't be: then the next one seen counts as that. A secret that doesn't exist yet is
    /// told when it comes to be.
    ///
    /// # Errors
    /// [`SecretNotFound`](SecretsError::SecretNotFound) for what can't be a name, [`Closed`](SecretsError::Closed).
    pub async fn watch(&self, name: &str) -> Result<Watch> {
        check_name(name)?;
        let number = self.shared.watches.fetch_add(1, Ordering::Relaxed);
        let (told, changes) = unbounded_channel();
        let commands = self.engine()?;
        let watch = Watch::new(name.to_owned(), number, changes, commands.downgrade());
        self.ask(|settled| Command::Watch {
            name: name.to_owned(),
            number,
            told,
            settled,
        })
        .await?;
        Ok(watch)
    }

    /// Tells the daemon, in the background, that this version is in use (docs/consumers.md).
    ///
    /// A [`Watch`] does that by itself when the next version is asked for; this is for who uses a value later than that,
    /// with [`acknowledge(false)`](Builder::acknowledge).
    ///
    /// # Errors
    /// [`Closed`](SecretsError::Closed).
    pub fn acknowledge(&self, secret: &Secret) -> Result<()> {
        let (name, kid) = (secret.name().to_owned(), secret.kid().to_owned());
        self.engine()?
            .send(Command::Acknowledge { name, kid })
            .map_err(|_| SecretsError::Closed)
    }

    /// Drops every cached value; the next reads ask the daemon.
    pub async fn clear_cache(&self) {
        if matches!(*self.life(), Life::Running(_)) {
            // Closed meanwhile: nothing is cached.
            let _closed = self.ask(|done| Command::Clear { done }).await;
        }
    }

    /// Returns counters since the client was made (docs/client.md names them), and how many values are cached now.
    pub fn stats(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = self.shared.counts.all();
        counts.insert("cached", self.shared.readers.len() as u64);
        counts
    }

    /// Waits until the bus is listened to (at once where the daemon uses none); returns whether it is. Nothing needs it.
    pub async fn wait_ready(&self, timeout: Duration) -> bool {
        self.ask(|reply| Command::WaitReady { timeout, reply })
            .await
            .unwrap_or(false)
    }

    /// Ends the background work and the connections, for all clones, and drops what is cached.
    pub async fn close(&self) {
        let before = std::mem::replace(&mut *self.life(), Life::Closed);
        if let Life::Running(commands) = before {
            let (done, ended) = oneshot::channel();
            if commands.send(Command::Close { done }).is_ok() {
                let _gone_already = ended.await;
            }
            self.shared.readers.forget();
        }
    }

    fn life(&self) -> std::sync::MutexGuard<'_, Life> {
        self.shared.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the way to the engine, which begins if it hasn't begun.
    fn engine(&self) -> Result<UnboundedSender<Command>> {
        let mut life = self.life();
        match std::mem::replace(&mut *life, Life::Closed) {
            Life::New(state) => {
                let commands = engine::start(self.shared.settings.clone(), *state, self.shared.clock)?;
                *life = Life::Running(commands.clone());
                Ok(commands)
            }
            Life::Running(commands) => {
                *life = Life::Running(commands.clone());
                Ok(commands)
            }
            Life::Closed => Err(SecretsError::Closed),
        }
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.engine()?.send(command(reply)).map_err(|_| SecretsError::Closed)?;
        answer.await.map_err(|_| SecretsError::Closed)
    }
}

impl fmt::Debug for SecretsClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SecretsClient")
            .field("settings", &self.shared.settings)
            .finish_non_exhaustive()
    }
}

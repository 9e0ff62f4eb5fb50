//! Who wants to be told of which secret's changes.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, WeakUnboundedSender};

use crate::engine::Command;
use crate::secret::Secret;

/// Each new version of a secret, after it has come into the cache: a [`Stream`], made by
/// [`SecretsClient::watch`](crate::SecretsClient::watch).
///
/// It ends when the client is closed. Dropping it ends the watching. A version counts as in use, and is acknowledged to the
/// daemon (docs/consumers.md), when the next one is asked for: the loop's body is through then.
#[derive(Debug)]
pub struct Watch {
    name: String,
    number: u64,
    changes: UnboundedReceiver<Secret>,
    commands: WeakUnboundedSender<Command>,
    /// The version that was handed out last, until the next one is asked for.
    handed: Option<String>,
}

impl Watch {
    pub(crate) fn new(
        name: String,
        number: u64,
        changes: UnboundedReceiver<Secret>,
        commands: WeakUnboundedSender<Command>,
    ) -> Self {
        Self {
            name,
            number,
            changes,
            commands,
            handed: None,
        }
    }

    /// Waits for the next version; None when the client is closed. It may be cancelled without a loss.
    pub async fn changed(&mut self) -> Option<Secret> {
        poll_fn(|context| self.poll_changed(context)).await
    }

    fn poll_changed(&mut self, context: &mut Context<'_>) -> Poll<Option<Secret>> {
        self.done(false);
        let polled = self.changes.poll_recv(context);
        if let Poll::Ready(Some(secret)) = &polled {
            self.handed = Some(secret.kid().to_owned());
        }
        polled
    }

    /// Says that the version handed out last is done with; `dropped`: amid it.
    fn done(&mut self, dropped: bool) {
        if let (Some(kid), Some(commands)) = (self.handed.take(), self.commands.upgrade()) {
            // A client that is closed acknowledges nothing any more.
            let _closed = commands.send(Command::Done {
                name: self.name.clone(),
                kid,
                dropped,
            });
        }
    }
}

impl Stream for Watch {
    type Item = Secret;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Secret>> {
        self.poll_changed(context)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.done(true);
        while let Ok(secret) = self.changes.try_recv() {
            self.handed = Some(secret.kid().to_owned());
            self.done(true);
        }
        if let Some(commands) = self.commands.upgrade() {
            let name = std::mem::take(&mut self.name);
            // A client that is closed watches nothing any more.
            let _closed = commands.send(Command::Unwatch {
                name,
                number: self.number,
            });
        }
    }
}

/// The watches by name, and the version that each name's watches know of.
#[derive(Default)]
pub(crate) struct Watchers {
    told: HashMap<String, Vec<(u64, UnboundedSender<Secret>)>>,
    known: HashMap<String, String>,
}

impl Watchers {
    /// Tells `changes` of versions other than `kid`; None: other than the next one seen. Returns whether `kid` is the
    /// first version known of a watched name.
    pub(crate) fn add(&mut self, name: &str, number: u64, changes: UnboundedSender<Secret>, kid: Option<&str>) -> bool {
        self.told.entry(name.to_owned()).or_default().push((number, changes));
        match kid {
            Some(kid) if !self.known.contains_key(name) => {
                self.known.insert(name.to_owned(), kid.to_owned());
                true
            }
            _ => false,
        }
    }

    /// Stops telling; returns whether nobody watches the name any more.
    pub(crate) fn remove(&mut self, name: &str, number: u64) -> bool {
        let Some(told) = self.told.get_mut(name) else {
            return false;
        };
        told.retain(|(other, _)| *other != number);
        if !told.is_empty() {
            return false;
        }
        self.told.remove(name);
        self.known.remove(name);
        true
    }

    /// Tells whom it concerns, now that this version is in the cache; returns how many.
    ///
    /// `began` is called with their number before any of them can be done with it, and `first` where this is the first
    /// version of a watched name.
    pub(crate) fn stored(&mut self, secret: &Secret, began: impl FnOnce(u64), first: impl FnOnce()) -> u64 {
        let Some(told) = self.told.get(secret.name()) else {
            return 0;
        };
        match self.known.insert(secret.name().to_owned(), secret.kid().to_owned()) {
            None => first(),
            Some(kid) if kid != secret.kid() => {
                let open: Vec<_> = told.iter().filter(|(_, watch)| !watch.is_closed()).collect();
                began(open.len() as u64);
                return open
                    .iter()
                    .filter(|(_, watch)| watch.send(secret.clone()).is_ok())
                    .count() as u64;
            }
            Some(_) => {}
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::secret::tests::secret;

    #[test]
    fn a_watch_is_told_of_versions_other_than_the_one_it_knows() {
        let mut watchers = Watchers::default();
        let (told, mut heard) = unbounded_channel();
        watchers.add("db", 1, told, None);
        let firsts = std::cell::Cell::new(0);
        let mut stored = |secret| watchers.stored(&secret, |_| (), || firsts.set(firsts.get() + 1));
        assert_eq!(stored(secret("db", "a", "x")), 0);
        assert_eq!(stored(secret("db", "a", "x")), 0);
        assert_eq!(stored(secret("other", "b", "x")), 0);
        assert_eq!(stored(secret("db", "b", "x")), 1);
        assert_eq!(firsts.get(), 1);
        assert_eq!(heard.try_recv().unwrap().kid(), "b");
        assert!(heard.try_recv().is_err());
    }

    #[test]
    fn the_last_watch_of_a_name_ends_its_watching() {
        let mut watchers = Watchers::default();
        watchers.add("db", 1, unbounded_channel().0, Some("a"));
        watchers.add("db", 2, unbounded_channel().0, Some("a"));
        assert!(!watchers.remove("db", 1));
        assert!(!watchers.remove("db", 1));
        assert!(watchers.remove("db", 2));
        assert!(!watchers.remove("db", 2));
    }
}

//! Who wants to be told of which secret's changes.

use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, WeakUnboundedSender};

use crate::engine::Command;
use crate::secret::{Identity, Secret};

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
            secret.inner.identity.give();
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

/// Stands for the kid of what isn't there: the version that comes next is a change.
const NOTHING: &str = "";

struct Watching {
    number: u64,
    told: UnboundedSender<Secret>,
    /// The version that it changes from; None: whichever is seen next.
    known: Option<String>,
}

/// The watches by name, and the version that each one's owner has.
#[derive(Default)]
pub(crate) struct Watchers {
    watching: HashMap<String, Vec<Watching>>,
    begun: HashSet<String>,
    latest: HashMap<String, Arc<Identity>>,
    /// By name the version that a caller was given before the latest.
    given: HashMap<String, String>,
}

impl Watchers {
    /// Tells `told` of versions other than the one that the caller was given; of none: than the next one seen.
    pub(crate) fn add(&mut self, name: &str, number: u64, told: UnboundedSender<Secret>) {
        let known = self.given(name);
        let watching = Watching { number, told, known };
        self.watching.entry(name.to_owned()).or_default().push(watching);
    }

    /// Stops telling; returns whether nobody watches the name any more.
    pub(crate) fn remove(&mut self, name: &str, number: u64) -> bool {
        let Some(watching) = self.watching.get_mut(name) else {
            return false;
        };
        watching.retain(|one| one.number != number);
        if !watching.is_empty() {
            return false;
        }
        self.watching.remove(name);
        self.begun.remove(name);
        true
    }

    /// Tells whom it concerns, now that this version is in the cache; returns how many.
    ///
    /// `began` is called with their number before any of them can be done with it, and `first` where the watching of a name
    /// begins with this version.
    pub(crate) fn stored(&mut self, secret: &Secret, began: impl FnOnce(u64), first: impl FnOnce()) -> u64 {
        let (name, kid) = (secret.name(), secret.kid());
        if let Some(given) = self.given(name) {
            self.given.insert(name.to_owned(), given);
        }
        self.latest.insert(name.to_owned(), Arc::clone(&secret.inner.identity));
        let Some(watching) = self.watching.get_mut(name) else {
            return 0;
        };
        let mut told = Vec::new();
        for one in watching {
            let before = one.known.replace(kid.to_owned());
            if before.is_some_and(|before| before != kid) && !one.told.is_closed() {
                told.push(&one.told);
            }
        }
        let begins = self.begun.insert(name.to_owned()) && told.is_empty();
        if !self.given.contains_key(name) {
            secret.inner.identity.give(); // who watches has what it begins with
        }
        if begins {
            first();
        }
        began(told.len() as u64);
        told.into_iter()
            .filter(|watch| watch.send(secret.clone()).is_ok())
            .count() as u64
    }

    /// Notes that there is no such secret: one that comes to be is a change for who watches the name.
    pub(crate) fn absent(&mut self, name: &str) {
        for one in self.watching.get_mut(name).into_iter().flatten() {
            one.known.get_or_insert_with(|| NOTHING.to_owned());
        }
    }

    /// Returns the version of a name that the caller was last given, or began to watch from.
    fn given(&self, name: &str) -> Option<String> {
        match self.latest.get(name) {
            Some(latest) if latest.is_given() => Some(latest.kid.clone()),
            _ => self.given.get(name).cloned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::secret::tests::secret;

    fn add(watchers: &mut Watchers, number: u64) -> UnboundedReceiver<Secret> {
        let (told, heard) = unbounded_channel();
        watchers.add("db", number, told);
        heard
    }

    fn stored(watchers: &mut Watchers, secret: &Secret) -> (u64, bool) {
        let is_first = std::cell::Cell::new(false);
        let told = watchers.stored(secret, |_| (), || is_first.set(true));
        (told, is_first.get())
    }

    #[test]
    fn a_watch_is_told_of_versions_other_than_the_one_it_knows() {
        let mut watchers = Watchers::default();
        let mut heard = add(&mut watchers, 1);
        assert_eq!(stored(&mut watchers, &secret("db", "a", "x")), (0, true));
        assert_eq!(stored(&mut watchers, &secret("db", "a", "x")), (0, false));
        assert_eq!(stored(&mut watchers, &secret("other", "b", "x")), (0, false));
        assert_eq!(stored(&mut watchers, &secret("db", "b", "x")), (1, false));
        assert_eq!(heard.try_recv().unwrap().kid(), "b");
        assert!(heard.try_recv().is_err());
    }

    #[test]
    fn a_watch_changes_from_the_version_that_was_given_and_not_from_one_that_nobody_saw() {
        let mut watchers = Watchers::default();
        stored(&mut watchers, &secret("db", "a", "x").give());
        let unseen = secret("db", "b", "x");
        stored(&mut watchers, &unseen);
        let mut first = add(&mut watchers, 1);
        assert_eq!(stored(&mut watchers, &unseen), (1, false));
        assert_eq!(first.try_recv().unwrap().give().kid(), "b");
        let mut second = add(&mut watchers, 2);
        assert_eq!(stored(&mut watchers, &unseen), (0, false));
        assert_eq!(stored(&mut watchers, &secret("db", "c", "x")), (2, false));
        assert_eq!(second.try_recv().unwrap().kid(), "c");
    }

    #[test]
    fn a_secret_that_comes_to_be_is_told_and_one_that_comes_back_as_it_was_is_not() {
        let mut watchers = Watchers::default();
        let mut heard = add(&mut watchers, 1);
        watchers.absent("db");
        assert_eq!(stored(&mut watchers, &secret("db", "a", "x")), (1, false));
        watchers.absent("db");
        assert_eq!(stored(&mut watchers, &secret("db", "a", "x")), (0, false));
        assert_eq!(heard.try_recv().unwrap().kid(), "a");
    }

    #[test]
    fn the_last_watch_of_a_name_ends_its_watching() {
        let mut watchers = Watchers::default();
        let _heard = (add(&mut watchers, 1), add(&mut watchers, 2));
        assert!(!watchers.remove("db", 1));
        assert!(!watchers.remove("db", 1));
        assert!(watchers.remove("db", 2));
        assert!(!watchers.remove("db", 2));
    }
}

//! Says which versions are in use, once their watches have come back: in the background, never in a reader's way.
//!
//! The daemon keeps a superseded version for whom it knows to use it (docs/consumers.md). What can't be said now is said
//! later, and of each name only the newest.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use crate::counts::Counts;
use crate::daemon::Daemon;
use crate::error::SecretsError;

/// Several names that changed together are said one after another on one connection.
const GATHER_SECS: f64 = 0.05;
const PAUSE_FIRST: f64 = 0.5;
const PAUSE_MOST: f64 = 30.0;

/// How many watches are at a version still, and whether one was dropped amid it.
struct Running {
    watches: u64,
    failed: bool,
}

/// What is to be said; `run` says it.
pub(crate) struct Acknowledgements {
    enabled: bool,
    running: RefCell<HashMap<(String, String), Running>>,
    wanted: RefCell<BTreeMap<String, String>>,
    said: RefCell<HashMap<String, String>>,
    wake: Notify,
}

impl Acknowledgements {
    /// Where it isn't `enabled`, only what `in_use` is called for is said.
    pub(crate) fn new(enabled: bool) -> Self {
        Self {
            enabled,
            running: RefCell::default(),
            wanted: RefCell::default(),
            said: RefCell::default(),
            wake: Notify::new(),
        }
    }

    /// Notes that so many watches are handed this version, besides those that are at it.
    pub(crate) fn began(&self, name: &str, kid: &str, watches: u64) {
        if self.enabled && watches > 0 {
            let version = (name.to_owned(), kid.to_owned());
            let idle = Running {
                watches: 0,
                failed: false,
            };
            self.running.borrow_mut().entry(version).or_insert(idle).watches += watches;
        }
    }

    /// Notes that one of them is done with it; after the last the version is in use, unless one was dropped amid it.
    pub(crate) fn ran(&self, name: &str, kid: &str, failed: bool) {
        let version = (name.to_owned(), kid.to_owned());
        let is_used = {
            let mut all = self.running.borrow_mut();
            let Some(running) = all.get_mut(&version) else {
                return;
            };
            running.watches = running.watches.saturating_sub(1);
            running.failed |= failed;
            if running.watches > 0 {
                return;
            }
            let is_used = !running.failed;
            all.remove(&version);
            is_used
        };
        if is_used {
            self.in_use(name, kid);
        }
    }

    /// Has it said that a watched name begins with this version: who watches says what it uses.
    pub(crate) fn begins_with(&self, name: &str, kid: &str) {
        if self.enabled {
            self.in_use(name, kid);
        }
    }

    /// Has it said that this version is in use; nothing is said twice in a row.
    pub(crate) fn in_use(&self, name: &str, kid: &str) {
        let mut wanted = self.wanted.borrow_mut();
        if self.said.borrow().get(name).is_some_and(|said| said == kid) {
            wanted.remove(name);
            return;
        }
        wanted.insert(name.to_owned(), kid.to_owned());
        self.wake.notify_one();
    }

    /// Says what is to be said, for ever. Who can't be asked is asked again; who refuses isn't.
    pub(crate) async fn run(&self, daemon: &Daemon, counts: &Counts) {
        let mut pause = 0.0_f64;
        loop {
            self.wake.notified().await;
            sleep(Duration::from_secs_f64(
                GATHER_SECS.max(pause * (0.5 + fastrand::f64() / 2.0)),
            ))
            .await;
            if self.say_all(daemon, counts).await {
                pause = 0.0;
            } else {
                pause = PAUSE_MOST.min(PAUSE_FIRST.max(pause * 2.0));
                self.wake.notify_one();
            }
        }
    }

    /// Returns whether the daemon could be asked.
    async fn say_all(&self, daemon: &Daemon, counts: &Counts) -> bool {
        let all: Vec<(String, String)> = self
            .wanted
            .borrow()
            .iter()
            .map(|(name, kid)| (name.clone(), kid.clone()))
            .collect();
        for (name, kid) in all {
            match daemon.acknowledge(&name, &kid).await {
                Ok(()) => {
                    self.said.borrow_mut().insert(name.clone(), kid.clone());
                    counts.add("acknowledged");
                }
                Err(SecretsError::SecretsUnavailable(_)) => return false,
                // The version is gone, or may not be read any more, or the daemon is an older one.
                Err(_) => {}
            }
            let mut wanted = self.wanted.borrow_mut();
            if wanted.get(&name) == Some(&kid) {
                wanted.remove(&name);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(acknowledgements: &Acknowledgements) -> Option<String> {
        acknowledgements.wanted.borrow().get("db").cloned()
    }

    #[test]
    fn a_version_is_in_use_when_the_last_watch_is_done_with_it() {
        let all = Acknowledgements::new(true);
        all.began("db", "a", 2);
        all.ran("db", "a", false);
        assert_eq!(wanted(&all), None);
        all.ran("db", "b", false);
        all.ran("db", "a", false);
        assert_eq!(wanted(&all).as_deref(), Some("a"));
    }

    #[test]
    fn a_watch_dropped_amid_a_version_keeps_it_from_being_in_use() {
        let all = Acknowledgements::new(true);
        all.began("db", "a", 2);
        all.ran("db", "a", true);
        all.ran("db", "a", false);
        assert_eq!(wanted(&all), None);
    }

    #[test]
    fn nothing_is_said_twice_in_a_row_and_nothing_of_itself_where_it_is_off() {
        let all = Acknowledgements::new(true);
        all.said.borrow_mut().insert("db".into(), "a".into());
        all.in_use("db", "b");
        all.in_use("db", "a");
        assert_eq!(wanted(&all), None);
        let off = Acknowledgements::new(false);
        off.began("db", "a", 1);
        off.ran("db", "a", false);
        off.begins_with("db", "a");
        assert_eq!(wanted(&off), None);
        off.in_use("db", "a");
        assert_eq!(wanted(&off).as_deref(), Some("a"));
    }
}

//! What is cached, name by name: which value is current, which is superseded, and how long that may be served.
//!
//! Pure: no I/O; times are monotonic seconds handed in. The rules are those of the contract for clients, by their
//! numbers (docs/client.md). Everything here belongs to one epoch; another epoch clears it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use crate::model::{Announcement, Change, Fetched};
use crate::secret::Secret;

/// A value that nothing newer is known of.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) secret: Secret,
    /// The vault's generation at which HTTP gave it.
    pub(crate) as_of: u64,
    pub(crate) confirmed_at: f64,
    pub(crate) fresh_until: f64,
}

/// The current values, which readers look at from their own threads.
#[derive(Clone, Default)]
pub(crate) struct Fresh(Arc<RwLock<HashMap<String, Entry>>>);

impl Fresh {
    /// Applies `read` to the entry of a name, if there is one.
    pub(crate) fn with<T>(&self, name: &str, read: impl FnOnce(&Entry) -> T) -> Option<T> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .map(read)
    }

    fn change<T>(&self, change: impl FnOnce(&mut HashMap<String, Entry>) -> T) -> T {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn clear(&self) {
        self.change(HashMap::clear);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn names(&self) -> HashSet<String> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .keys()
            .cloned()
            .collect()
    }
}

/// A value that something newer is known of; it may stand in while the daemon is away, until then.
struct Superseded {
    entry: Entry,
    /// When its grace ends; infinity when the same value is still the current one.
    grace_until: f64,
    servable_until: f64,
    /// The newest version heard of.
    latest_kid: String,
}

/// The entries of one epoch.
pub(crate) struct Cache {
    pub(crate) fresh: Fresh,
    pub(crate) ttl: f64,
    max_stale: f64,
    superseded: HashMap<String, Superseded>,
    announced: HashMap<String, u64>,
}

impl Cache {
    pub(crate) fn new(max_stale: f64, ttl: f64) -> Self {
        Self {
            fresh: Fresh::default(),
            ttl,
            max_stale,
            superseded: HashMap::new(),
            announced: HashMap::new(),
        }
    }

    /// Returns the names with a value, current or superseded.
    pub(crate) fn names(&self) -> HashSet<String> {
        let mut names = self.fresh.names();
        names.extend(self.superseded.keys().cloned());
        names
    }

    /// Tells whether there is a value of this name, current or superseded.
    pub(crate) fn holds(&self, name: &str) -> bool {
        self.superseded.contains_key(name) || self.fresh.with(name, |_| ()).is_some()
    }

    /// Returns the kid that a fetch may ask about instead of asking for the value.
    pub(crate) fn etag(&self, name: &str) -> Option<String> {
        self.held(name).map(|entry| entry.secret.kid().to_owned())
    }

    /// Returns the generation that an answer must have reached to count as current (rule 2).
    pub(crate) fn announced(&self, name: &str) -> u64 {
        self.announced.get(name).copied().unwrap_or(0)
    }

    /// Takes in a verified event or state of this epoch; returns whether it is news (rules 2 and 4).
    ///
    /// `wall_ms` is the daemon's clock as far as known: a grace that ends at a time of the daemon's becomes a span from
    /// now, and an announcement that was under way for long doesn't lengthen it.
    pub(crate) fn announce(&mut self, news: &Announcement, now: f64, wall_ms: f64, vouched_at: f64) -> bool {
        if news.generation <= self.announced(&news.name) {
            return false;
        }
        self.announced.insert(news.name.clone(), news.generation);
        let Some(entry) = self.held(&news.name) else {
            return true;
        };
        if news.generation <= entry.as_of {
            return false;
        }
        let before = self.grace_before(&news.name);
        let same = news.kid == entry.secret.kid();
        let latest_kid = self.latest_kid(&news.name, &entry);
        let until = if news.deleted || (news.urgent && !same) {
            f64::NEG_INFINITY
        } else if same {
            before // the same value, only its state changed
        } else {
            match (news.previous_kid.as_deref(), news.grace_until_ms) {
                (Some(kid), Some(grace_ms)) if kid == entry.secret.kid() => {
                    before.min(now + (grace_ms as f64 - wall_ms.max(news.time_ms as f64)) / 1000.0)
                }
                (Some(kid), _) if latest_kid == news.kid || latest_kid == kid => before,
                // No grace, or one that a version we never heard of may have ended.
                _ => f64::NEG_INFINITY,
            }
        };
        self.supersede(&news.name, entry, until, &news.kid, now, vouched_at);
        true
    }

    /// Takes in a `/changes` answer of this epoch; returns the names that were news and aren't deleted.
    pub(crate) fn apply(&mut self, changes: &[Change], now: f64, vouched_at: f64) -> HashSet<String> {
        let mut changed = HashSet::new();
        for change in changes {
            if change.generation <= self.announced(&change.name) {
                continue;
            }
            self.announced.insert(change.name.clone(), change.generation);
            let held = self.held(&change.name);
            if held.as_ref().is_some_and(|entry| change.generation <= entry.as_of) {
                continue;
            }
            let deleted = change.status == "deleted";
            if !deleted {
                changed.insert(change.name.clone());
            }
            if let Some(entry) = held {
                // /changes doesn't tell the end of a grace; a value whose grace isn't known is never served.
                let same = change.kid == entry.secret.kid() && !deleted;
                let until = if same {
                    self.grace_before(&change.name)
                } else {
                    f64::NEG_INFINITY
                };
                self.supersede(&change.name, entry, until, &change.kid, now, vouched_at);
            }
        }
        changed
    }

    /// Drops what a complete `/changes` answer doesn't list: deleted, or no longer ours to read.
    pub(crate) fn keep_only(&mut self, names: &HashSet<&str>) {
        self.fresh
            .change(|fresh| fresh.retain(|name, _| names.contains(name.as_str())));
        self.superseded.retain(|name, _| names.contains(name.as_str()));
    }

    /// Takes in an answer of this epoch; returns the secret when it counts as current (rule 2), else None.
    ///
    /// None also for a 304 about a value that was dropped while it was under way: ask again.
    pub(crate) fn store(&mut self, name: &str, answer: Fetched, confirmed_at: f64) -> Option<Secret> {
        let generation = answer.at.generation;
        let secret = answer.secret.or_else(|| self.held(name).map(|entry| entry.secret))?;
        if generation < self.announced(name) {
            return None;
        }
        let fresh_until = confirmed_at + self.ttl;
        let stored = self.fresh.change(|fresh| match fresh.get(name) {
            Some(current) if current.as_of > generation => Err(current.secret.clone()),
            _ => {
                let entry = Entry {
                    secret: secret.clone(),
                    as_of: generation,
                    confirmed_at,
                    fresh_until,
                };
                fresh.insert(name.to_owned(), entry);
                Ok(())
            }
        });
        if let Err(newer) = stored {
            return Some(newer);
        }
        self.superseded.remove(name);
        Some(secret)
    }

    /// Returns what may be served while the daemon can't be asked, marked stale (rule 6), or None.
    pub(crate) fn stale(&self, name: &str, now: f64, vouched_at: f64) -> Option<Secret> {
        let fresh = self.fresh.with(name, |entry| {
            (
                entry.secret.clone(),
                entry.confirmed_at.max(vouched_at) + self.max_stale,
            )
        });
        let superseded = || {
            self.superseded
                .get(name)
                .map(|older| (older.entry.secret.clone(), older.servable_until))
        };
        let (secret, until) = fresh.or_else(superseded)?;
        (now < until).then(|| secret.as_stale())
    }

    /// Forgets the value, for good: deleted, or the right to it withdrawn.
    pub(crate) fn drop_value(&mut self, name: &str) {
        self.fresh.change(|fresh| fresh.remove(name));
        self.superseded.remove(name);
    }

    /// Forgets every value; what was announced still holds.
    pub(crate) fn drop_values(&mut self) {
        self.fresh.clear();
        self.superseded.clear();
    }

    /// Forgets everything: another epoch, or a history that is gone.
    pub(crate) fn forget(&mut self) {
        self.drop_values();
        self.announced.clear();
    }

    /// Judges by another time to live from now on, what is cached included.
    pub(crate) fn use_ttl(&mut self, ttl: f64) {
        if ttl != self.ttl {
            self.ttl = ttl;
            self.fresh.change(|fresh| {
                for entry in fresh.values_mut() {
                    entry.fresh_until = entry.confirmed_at + ttl;
                }
            });
        }
    }

    fn held(&self, name: &str) -> Option<Entry> {
        let fresh = self.fresh.with(name, Entry::clone);
        fresh.or_else(|| self.superseded.get(name).map(|older| older.entry.clone()))
    }

    fn grace_before(&self, name: &str) -> f64 {
        self.superseded
            .get(name)
            .map_or(f64::INFINITY, |older| older.grace_until)
    }

    fn latest_kid(&self, name: &str, entry: &Entry) -> String {
        let older = self.superseded.get(name);
        older.map_or_else(|| entry.secret.kid().to_owned(), |older| older.latest_kid.clone())
    }

    /// Takes the entry out of the readers' sight; keeps it only while it may stand in.
    fn supersede(&mut self, name: &str, entry: Entry, grace: f64, latest_kid: &str, now: f64, vouched_at: f64) {
        let until = grace.min(entry.confirmed_at.max(vouched_at) + self.max_stale);
        self.fresh.change(|fresh| fresh.remove(name));
        if now < until {
            let older = Superseded {
                entry,
                grace_until: grace,
                servable_until: until,
                latest_kid: latest_kid.to_owned(),
            };
            self.superseded.insert(name.to_owned(), older);
        } else {
            self.superseded.remove(name);
        }
    }
}

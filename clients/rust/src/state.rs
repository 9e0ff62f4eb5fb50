//! The client's decisions, all of them: what is fresh, what to fetch, when to ask what changed, what to drop.
//!
//! A state machine without I/O. In go HTTP answers and failures, verified messages and the monotonic clock; out come
//! values to serve and, from [`State::due`], what to ask now and when to look again. The engine asks.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::cache::{Cache, Fresh};
use crate::counts::Counts;
use crate::history::{History, Random, Vouched};
use crate::model::{Announcement, Changes, Checkpoint, Fetched, Position};
use crate::secret::Secret;

pub(crate) const RETRY_FIRST: f64 = 0.25;
const RETRY_MOST: f64 = 5.0;
/// When to fetch what the daemon didn't give because it didn't know the client: once `/changes` has answered.
const ONCE_KNOWN: f64 = f64::INFINITY;

/// What bounds staleness; the defaults are the contract's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// A value's time to live while a configured bus doesn't vouch: 30 s.
    pub(crate) ttl_silent: Duration,
    /// A value's time to live where the daemon uses no bus: 300 s.
    pub(crate) ttl_without_bus: Duration,
    /// How long after it was last known to be current a value is served while the daemon is away: an hour.
    pub(crate) max_stale: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            ttl_silent: Duration::from_secs(30),
            ttl_without_bus: Duration::from_secs(300),
            max_stale: Duration::from_secs(3600),
        }
    }
}

/// How to fetch a name: with which `If-None-Match`, and from which generation on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) etag: Option<String>,
    pub(crate) min_generation: u64,
}

/// What to do now, and when to ask again (None: when something has happened).
#[derive(Debug, PartialEq)]
pub(crate) struct Due {
    pub(crate) changes: bool,
    pub(crate) fetch: Vec<String>,
    pub(crate) wake_at: Option<f64>,
}

/// What readers on other threads need: the current values, and until when the bus vouches for them.
#[derive(Clone)]
pub(crate) struct Readers {
    fresh: Fresh,
    vouched: Vouched,
}

impl Readers {
    /// Returns the cached value if it is fresh: the bus vouches, or HTTP confirmed it within its TTL.
    pub(crate) fn lookup<T>(&self, name: &str, now: f64, read: impl FnOnce(&Secret) -> T) -> Option<T> {
        let fresh = self.fresh.with(name, |entry| {
            (now < self.vouched.until() || now < entry.fresh_until).then(|| read(&entry.secret))
        });
        fresh.flatten()
    }

    /// Forgets every value; for when nobody stores any more.
    pub(crate) fn forget(&self) {
        self.fresh.clear();
    }

    /// How many values are cached.
    pub(crate) fn len(&self) -> usize {
        self.fresh.len()
    }
}

/// What one client knows. Used on one thread, but for [`Readers`].
pub(crate) struct State {
    times: Times,
    cache: Cache,
    pub(crate) history: History,
    pub(crate) counts: Counts,
    pub(crate) watched: HashSet<String>,
    bus: bool,
    epoch: Option<String>,
    epoch_since: f64,
    wanted: HashSet<String>,
    refetch: HashMap<String, f64>,
    failures: i32,
    retry_at: f64,
    date: Option<(f64, f64)>,
}

impl State {
    pub(crate) fn new(random: Random, times: Times, counts: Counts) -> Self {
        Self {
            times,
            cache: Cache::new(times.max_stale.as_secs_f64(), times.ttl_silent.as_secs_f64()),
            history: History::new(random),
            counts,
            watched: HashSet::new(),
            bus: true, // until HTTP says that there is none
            epoch: None,
            epoch_since: f64::NEG_INFINITY,
            wanted: HashSet::new(),
            refetch: HashMap::new(),
            failures: 0,
            retry_at: f64::NEG_INFINITY,
            date: None,
        }
    }

    // Reading

    pub(crate) fn readers(&self) -> Readers {
        Readers {
            fresh: self.cache.fresh.clone(),
            vouched: self.history.vouched.clone(),
        }
    }

    /// Returns the cached value if it is fresh.
    pub(crate) fn lookup(&self, name: &str, now: f64) -> Option<Secret> {
        self.readers().lookup(name, now, Secret::clone)
    }

    /// Returns what may stand in while the daemon can't be asked (rule 6), or None.
    pub(crate) fn stale(&self, name: &str, now: f64) -> Option<Secret> {
        self.cache.stale(name, now, self.history.vouched_at)
    }

    /// Returns whether the daemon failed so recently that a stale value is served without asking.
    pub(crate) fn backing_off(&self, now: f64) -> bool {
        now < self.retry_at
    }

    /// Returns whether the daemon couldn't be asked when it was last tried.
    pub(crate) fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// Returns the names that this client cares about: cached ones and watched ones.
    pub(crate) fn names(&self) -> HashSet<String> {
        let mut names = self.cache.names();
        names.extend(self.watched.iter().cloned());
        names
    }

    // What HTTP says about one name

    /// Returns how to fetch the name.
    pub(crate) fn order(&self, name: &str) -> Order {
        Order {
            etag: self.cache.etag(name),
            min_generation: self.cache.announced(name),
        }
    }

    /// Takes in an answer; returns the secret when it counts as current (rule 2), None: fetch again.
    pub(crate) fn fetched(&mut self, name: &str, answer: Fetched, sent_at: f64, now: f64) -> Option<Secret> {
        self.reached();
        if !self.enter(&answer.at.epoch, sent_at, now) {
            return None;
        }
        let secret = self.cache.store(name, answer, sent_at);
        if secret.is_some() {
            self.refetch.remove(name);
        }
        secret
    }

    /// Drops a name that isn't there; returns false when that is older news than announced: ask again.
    pub(crate) fn missing(&mut self, name: &str, at: &Position, sent_at: f64, now: f64) -> bool {
        self.reached();
        if !self.enter(&at.epoch, sent_at, now) || at.generation < self.cache.announced(name) {
            return false;
        }
        self.drop_value(name);
        true
    }

    /// Drops a name that may not be read, or no more: never served again until HTTP gives it.
    pub(crate) fn denied(&mut self, name: &str) {
        self.reached();
        self.drop_value(name);
    }

    /// Drops all: the daemon doesn't know this client any more, so its rights are gone.
    ///
    /// It may know it again soon, and what became of `name`, asked for in vain, and of others about to be fetched is owed
    /// to who watches them.
    pub(crate) fn rejected(&mut self, name: Option<&str>, now: f64) {
        self.reached();
        self.wanted.extend(self.cache.names());
        self.cache.drop_values();
        self.refetch.extend(name.map(|name| (name.to_owned(), ONCE_KNOWN)));
        self.keep_watched_refetches();
        if !self.refetch.is_empty() {
            self.refetch.values_mut().for_each(|at| *at = ONCE_KNOWN);
            self.history.demand(now + self.times.ttl_silent.as_secs_f64());
        }
    }

    fn keep_watched_refetches(&mut self) {
        let watched = &self.watched;
        self.refetch.retain(|name, _| watched.contains(name));
    }

    /// Leaves a daemon that couldn't be asked alone for a moment, a longer one each time, never in step.
    pub(crate) fn unreachable(&mut self, now: f64) {
        if now < self.retry_at {
            return;
        }
        let pause = RETRY_MOST.min(RETRY_FIRST * 2f64.powi(self.failures));
        self.failures = (self.failures + 1).min(16);
        self.retry_at = now + pause * (0.5 + self.history.random() / 2.0);
    }

    /// Fetches once more when the daemon may be back.
    pub(crate) fn retry(&mut self, name: &str, now: f64) {
        self.refetch
            .insert(name.to_owned(), self.retry_at.max(now + RETRY_FIRST));
    }

    fn drop_value(&mut self, name: &str) {
        self.cache.drop_value(name);
        self.refetch.remove(name);
    }

    fn reached(&mut self) {
        self.failures = 0;
        self.retry_at = f64::NEG_INFINITY;
    }

    /// Belongs to `epoch` from now on; false when the answer is from before another one was entered.
    fn enter(&mut self, epoch: &str, sent_at: f64, now: f64) -> bool {
        if self.epoch.as_deref() == Some(epoch) {
            return true;
        }
        if self.epoch.is_some() {
            if sent_at < self.epoch_since {
                return false;
            }
            self.start_over(now);
        }
        self.epoch = Some(epoch.to_owned());
        self.epoch_since = now;
        true
    }

    fn start_over(&mut self, now: f64) {
        self.counts.add("started_over");
        self.wanted.extend(self.cache.names());
        self.cache.forget();
        self.refetch.clear();
        self.epoch = None;
        self.history.forget(now);
    }

    // What /changes says

    /// Takes in the answer to `/changes`; `complete`: it was asked without `since` and lists every name.
    pub(crate) fn changes_answered(&mut self, answer: &Changes, complete: bool, sent_at: f64, now: f64) {
        self.reached();
        if !self.enter(&answer.epoch, sent_at, now) {
            self.history.forget(now);
            return;
        }
        if !complete && !self.history.has_answer() {
            return; // what it adds to was dropped while it was under way; everything is asked for next
        }
        let mut held = self.cache.names();
        held.extend(self.wanted.iter().cloned());
        let mut news = self.cache.apply(&answer.changes, now, self.history.vouched_at);
        self.counts
            .add_many("superseded", news.intersection(&held).count() as u64);
        if complete {
            self.cache
                .keep_only(&answer.changes.iter().map(|change| change.name.as_str()).collect());
            self.wanted.clear();
        }
        news.retain(|name| held.contains(name) || self.watched.contains(name));
        let owed = self.refetch.iter().filter(|(_, at)| **at == ONCE_KNOWN);
        news.extend(owed.map(|(name, _)| name.clone()));
        for name in &news {
            self.refetch_soon(name, now);
        }
        self.history.answered(answer, now);
    }

    /// Drops the whole cache, as a 410 of `/changes` says: rights may have changed.
    pub(crate) fn history_gone(&mut self, now: f64) {
        self.reached();
        self.start_over(now);
    }

    /// Asks `/changes` again when the daemon may be back.
    pub(crate) fn changes_failed(&mut self, now: f64) {
        self.unreachable(now);
        self.history.failed(self.retry_at.max(now + RETRY_FIRST));
    }

    /// Drops all, as a 401 of `/changes` says, and looks now and then whether the client is known again.
    pub(crate) fn changes_refused(&mut self, now: f64) {
        self.rejected(None, now);
        self.history.failed(now + self.times.ttl_silent.as_secs_f64());
    }

    /// Learns the daemon's clock from an answer: it said `wall_ms` after the question was sent.
    ///
    /// Counted from `sent_at` it is never behind the real one, so no grace is thought longer than it is.
    pub(crate) fn daemon_time(&mut self, wall_ms: f64, sent_at: f64) {
        self.date = Some((wall_ms, sent_at));
    }

    // What the bus says, verified

    /// Learns whether there is a bus that could vouch; without one values live longer.
    pub(crate) fn bus_configured(&mut self, configured: bool, now: f64) {
        self.bus = configured;
        let ttl = if configured {
            self.times.ttl_silent
        } else {
            self.times.ttl_without_bus
        };
        self.cache.use_ttl(ttl.as_secs_f64());
        self.poll(now);
    }

    /// Notes that somebody wants to be told of changes: the present version must be known, and stay so.
    pub(crate) fn watch(&mut self, name: &str, now: f64) {
        self.watched.insert(name.to_owned());
        self.poll(now);
        if self.cache.fresh.with(name, |_| ()).is_none() {
            self.refetch_at(name, now);
        }
    }

    /// Asks what changed once per TTL while nothing vouches, where somebody would gain from it.
    fn poll(&mut self, now: f64) {
        let every = (self.bus || !self.watched.is_empty()).then_some(self.cache.ttl);
        self.history.poll(every, now);
    }

    /// Takes in a verified event or state of a secret.
    pub(crate) fn announced(&mut self, news: &Announcement, now: f64) {
        let Some(epoch) = &self.epoch else {
            return; // /changes is about to be asked, and tells all
        };
        if news.epoch != *epoch {
            self.counts.add("other_epoch");
            self.history.another_identity(now);
            return;
        }
        let cared = self.cache.holds(&news.name) || self.watched.contains(&news.name);
        let wall_ms = self
            .date
            .map_or(f64::NEG_INFINITY, |(said, at)| said + (now - at) * 1000.0);
        if !self.cache.announce(news, now, wall_ms, self.history.vouched_at) {
            self.counts.add("repeated");
            return;
        }
        self.history.spread = news.spread_secs;
        if cared {
            self.counts.add("superseded");
            if news.deleted {
                self.refetch.remove(&news.name);
            } else {
                self.refetch_soon(&news.name, now);
            }
        }
    }

    /// Takes in a verified checkpoint.
    pub(crate) fn checkpoint(&mut self, seen: Checkpoint, now: f64) {
        if !self.history.checkpoint(seen, now) {
            self.counts.add("stale_checkpoints");
        }
    }

    fn refetch_soon(&mut self, name: &str, now: f64) {
        let at = now + self.history.random() * self.history.spread;
        self.refetch_at(name, at);
    }

    fn refetch_at(&mut self, name: &str, at: f64) {
        let due = self.refetch.entry(name.to_owned()).or_insert(at);
        *due = due.min(at);
    }

    // What to do

    /// Drops every cached value because the caller wants to; the next reads fetch, and who watches is still told.
    pub(crate) fn forget_values(&mut self) {
        self.cache.drop_values();
        self.keep_watched_refetches();
    }

    /// Returns what to ask now; asking is up to the caller, who says what came of it.
    pub(crate) fn due(&mut self, now: f64) -> Due {
        let mut fetch = Vec::new();
        self.refetch.retain(|name, at| {
            let later = *at > now;
            if !later {
                fetch.push(name.clone());
            }
            later
        });
        fetch.sort_unstable();
        let mut ask_at = self.history.next_ask();
        let changes = ask_at.is_some_and(|at| at <= now);
        if changes {
            self.history.begin(now);
            ask_at = None;
        }
        let waits = self.refetch.values().copied().filter(|at| *at != ONCE_KNOWN);
        let wake_at = waits.chain(ask_at).min_by(f64::total_cmp);
        Due {
            changes,
            fetch,
            wake_at,
        }
    }
}

#[cfg(test)]
mod tests;

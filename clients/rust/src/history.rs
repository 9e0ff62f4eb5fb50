//! How far this client has followed the vault, and whether the bus vouches for it now.
//!
//! Pure: no I/O; times are monotonic seconds handed in, randomness too. *Applied* is the generation of the last
//! `/changes` answer and of nothing else (rule 3). A checkpoint vouches when it is of the session that this answer
//! named, tells of nothing beyond applied, and is young by its own `uptime_ms` (rule 5).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use crate::model::{Changes, Checkpoint};

/// A checkpoint is good for so many intervals.
const INTERVALS: f64 = 3.0;

/// Returns numbers from 0 up to 1.
pub(crate) type Random = Box<dyn FnMut() -> f64 + Send>;

/// Until when whatever nothing newer is known of is current. Read by other threads without a lock.
#[derive(Clone)]
pub(crate) struct Vouched(Arc<AtomicU64>);

impl Vouched {
    fn never() -> Self {
        Self(Arc::new(AtomicU64::new(f64::NEG_INFINITY.to_bits())))
    }

    pub(crate) fn until(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Acquire))
    }

    fn set(&self, until: f64) {
        self.0.store(until.to_bits(), Ordering::Release);
    }
}

/// What is kept of the answer that we go by.
struct Answer {
    epoch: String,
    generation: u64,
    session: u64,
    uptime_ms: u64,
    at: f64,
}

/// Epoch, applied, the daemon's session, the last checkpoint, and when to ask `/changes`.
pub(crate) struct History {
    random: Random,
    pub(crate) vouched: Vouched,
    pub(crate) vouched_at: f64,
    pub(crate) interval: f64,
    pub(crate) spread: f64,
    pub(crate) asking: bool,
    ask_at: Option<f64>,
    /// When the question was asked whose answer we go by.
    pub(crate) confirmed_at: f64,
    poll_every: Option<f64>,
    polled_at: f64,
    poll_jitter: f64,
    not_before: f64,
    asked_at: f64,
    identity_after: f64,
    latest: Option<(Checkpoint, f64)>,
    answer: Option<Answer>,
}

impl History {
    pub(crate) fn new(random: Random) -> Self {
        Self {
            random,
            vouched: Vouched::never(),
            vouched_at: f64::NEG_INFINITY,
            interval: 10.0,
            spread: 0.2,
            asking: false,
            ask_at: None,
            confirmed_at: f64::NEG_INFINITY,
            poll_every: None,
            polled_at: f64::NEG_INFINITY,
            poll_jitter: 0.0,
            not_before: f64::NEG_INFINITY,
            asked_at: f64::NEG_INFINITY,
            identity_after: f64::NEG_INFINITY,
            latest: None,
            answer: None,
        }
    }

    /// Returns a number from 0 up to 1.
    pub(crate) fn random(&mut self) -> f64 {
        (self.random)()
    }

    /// Tells whether there is an answer that we go by.
    pub(crate) fn has_answer(&self) -> bool {
        self.answer.is_some()
    }

    /// Returns what to ask `/changes` since; None asks for everything.
    pub(crate) fn since(&self) -> Option<String> {
        self.answer
            .as_ref()
            .map(|answer| format!("{}:{}", answer.epoch, answer.generation))
    }

    // What arrives on the bus

    /// Takes in a verified checkpoint; returns whether it is of the present (false: replayed or delayed).
    pub(crate) fn checkpoint(&mut self, seen: Checkpoint, now: f64) -> bool {
        self.latest = Some((seen.clone(), now));
        self.judge(&seen, now, now)
    }

    /// Takes in a session named by a verified status.
    pub(crate) fn session(&mut self, session: u64, now: f64) {
        if self.answer.as_ref().is_some_and(|answer| session > answer.session) {
            self.another_identity(now);
        }
    }

    /// Another epoch or a newer session was named: ask, at most once per interval (rule 3).
    pub(crate) fn another_identity(&mut self, now: f64) {
        if self.answer.is_some() && now >= self.identity_after {
            self.identity_after = now + self.interval;
            self.ask_spread(now);
        }
    }

    fn judge(&mut self, seen: &Checkpoint, received_at: f64, now: f64) -> bool {
        let Some(answer) = &self.answer else {
            return true; // judged again when /changes has answered
        };
        if seen.epoch != answer.epoch || seen.session > answer.session {
            self.another_identity(now);
            return true;
        }
        let same_session = seen.session == answer.session;
        let beyond = seen.generation > answer.generation;
        // A checkpoint is as old as its uptime says, measured from the answer; a broker that held it back or repeats
        // it gains nothing. The minimum is for a clock of ours that stood still in a suspend.
        let since_answer = (seen.uptime_ms as f64 - answer.uptime_ms as f64) / 1000.0;
        let made_at = now.min(answer.at + since_answer);
        // While a question is under way its answer may be past this already; then `answered` judges it again.
        if beyond && received_at >= self.asked_at && !self.asking {
            self.ask_spread(now);
        }
        let good_until = made_at + INTERVALS * seen.interval_secs;
        if !same_session || good_until <= now {
            return false;
        }
        self.interval = seen.interval_secs;
        if !beyond && made_at >= self.vouched_at {
            self.vouched_at = made_at;
            self.vouched.set(good_until);
            self.poll_jitter = self.random() * self.interval;
        }
        true
    }

    // When to ask /changes

    /// Asks then or as soon after as possible, and once more if a question is under way already (rule 1).
    pub(crate) fn demand(&mut self, at: f64) {
        self.ask(at);
    }

    fn ask_spread(&mut self, now: f64) {
        let at = now + self.random() * self.spread;
        self.ask(at);
    }

    fn ask(&mut self, at: f64) {
        self.ask_at = Some(self.ask_at.map_or(at, |before| before.min(at)));
    }

    /// Asks every so many seconds while nothing vouches, counted from now; None: doesn't.
    pub(crate) fn poll(&mut self, every: Option<f64>, now: f64) {
        if every != self.poll_every {
            self.poll_every = every;
            self.polled_at = now;
        }
    }

    /// Returns when `/changes` is to be asked; None when an answer is awaited or nothing calls for one.
    pub(crate) fn next_ask(&self) -> Option<f64> {
        if self.asking {
            return None;
        }
        let lapse = self
            .poll_every
            .map(|every| (self.polled_at + every).max(self.vouched.until() + self.poll_jitter));
        let at = match (self.ask_at, lapse) {
            (Some(asked), Some(lapse)) => Some(asked.min(lapse)),
            (asked, lapse) => asked.or(lapse),
        };
        at.map(|at| at.max(self.not_before))
    }

    /// Notes that `/changes` is being asked.
    pub(crate) fn begin(&mut self, now: f64) {
        self.asking = true;
        self.ask_at = None;
        self.asked_at = now;
    }

    /// Notes that `/changes` wasn't answered: ask again then, not before, whatever else calls for it.
    pub(crate) fn failed(&mut self, retry_at: f64) {
        self.asking = false;
        self.ask_at = Some(retry_at);
        self.not_before = retry_at;
    }

    /// Goes by this answer of `/changes` from now on.
    pub(crate) fn answered(&mut self, answer: &Changes, now: f64) {
        self.asking = false;
        self.answer = Some(Answer {
            epoch: answer.epoch.clone(),
            generation: answer.generation,
            session: answer.session,
            uptime_ms: answer.uptime_ms,
            at: now,
        });
        self.polled_at = now;
        self.confirmed_at = self.asked_at;
        let Some((seen, received_at)) = self.latest.clone() else {
            return;
        };
        let short = seen.epoch == answer.epoch && seen.generation > answer.generation;
        if short && received_at < self.asked_at {
            // The daemon answers with less than it had announced before: somebody set it back in place. It is asked
            // again, but no faster than it announces things.
            self.not_before = now + self.interval;
        }
        self.judge(&seen, received_at, now);
    }

    /// Another epoch, or a history that is gone (410): starts over, and asks for everything.
    pub(crate) fn forget(&mut self, now: f64) {
        self.asking = false;
        self.answer = None;
        self.vouched.set(f64::NEG_INFINITY);
        self.vouched_at = f64::NEG_INFINITY;
        self.demand(now);
    }
}

//! The client's rules, without network and with a clock that is told what time it is (docs/client.md).

mod applied;
mod daemon_away;
mod freshness;
mod superseding;
mod time_to_live;
mod withdrawn;

use super::*;
use crate::model::Change;
use crate::secret::tests::secret as version;

const EPOCH: &str = "epoch-one";
const HOUR_MS: i64 = 3_600_000;
const NOON: i64 = 1_800_000_000_000;

fn secret(kid: &str) -> Secret {
    version("db", kid, "value")
}

fn kid(secret: Option<Secret>) -> Option<String> {
    secret.map(|secret| secret.kid().to_owned())
}

fn changed(name: &str, generation: u64, kid: &str) -> Change {
    Change {
        name: name.into(),
        kid: kid.into(),
        status: "active".into(),
        generation,
    }
}

fn announcement(generation: u64) -> Announcement {
    Announcement {
        name: "db".into(),
        epoch: EPOCH.into(),
        generation,
        kid: "kid-2".into(),
        deleted: false,
        urgent: false,
        previous_kid: Some("kid-1".into()),
        grace_until_ms: Some(NOON + HOUR_MS / 2),
        time_ms: NOON,
        spread_secs: 0.2,
    }
}

fn position(epoch: &str, generation: u64) -> Position {
    Position {
        epoch: epoch.into(),
        generation,
    }
}

/// A state with a clock, a daemon's uptime that began 1,000 s before the clock, and answers to hand in.
struct World {
    now: f64,
    state: State,
}

impl World {
    fn new() -> Self {
        Self {
            now: 5000.0,
            state: State::new(Box::new(|| 0.5), Times::default(), Counts::default()),
        }
    }

    /// A value is cached and the first /changes has answered.
    fn begun() -> Self {
        let mut world = Self::new();
        world.fetch("kid-1", 5);
        world.changes(5, &[changed("db", 5, "kid-1")], true);
        assert!(world.due().fetch.is_empty());
        world
    }

    fn fetch(&mut self, kid: &str, generation: u64) -> Option<String> {
        self.fetch_of("db", kid, EPOCH, generation)
    }

    fn fetch_of(&mut self, name: &str, kid: &str, epoch: &str, generation: u64) -> Option<String> {
        let answer = Fetched {
            secret: Some(version(name, kid, "value")),
            at: position(epoch, generation),
        };
        super::tests::kid(self.state.fetched(name, answer, self.now, self.now))
    }

    fn answer(&self, epoch: &str, generation: u64, session: u64, changes: &[Change]) -> Changes {
        Changes {
            epoch: epoch.into(),
            generation,
            session,
            uptime_ms: self.uptime_ms(),
            changes: changes.to_vec(),
        }
    }

    fn changes(&mut self, generation: u64, changes: &[Change], complete: bool) {
        self.changes_of(EPOCH, generation, changes, complete);
    }

    fn changes_of(&mut self, epoch: &str, generation: u64, changes: &[Change], complete: bool) {
        let answer = self.answer(epoch, generation, 1, changes);
        self.state.history.begin(self.now);
        self.state.changes_answered(&answer, complete, self.now, self.now);
    }

    fn checkpoint(&mut self, generation: u64) {
        self.checkpoint_of(EPOCH, generation, 1, 0.0);
    }

    fn checkpoint_of(&mut self, epoch: &str, generation: u64, session: u64, late: f64) {
        let uptime_ms = (self.uptime_ms() as f64 - late * 1000.0) as u64;
        let seen = Checkpoint {
            epoch: epoch.into(),
            generation,
            session,
            uptime_ms,
            interval_secs: 10.0,
        };
        self.state.checkpoint(seen, self.now);
    }

    fn announce(&mut self, generation: u64) {
        self.announced(announcement(generation));
    }

    fn announced(&mut self, news: Announcement) {
        self.state.announced(&news, self.now);
    }

    fn due(&mut self) -> Due {
        self.state.due(self.now)
    }

    fn uptime_ms(&self) -> u64 {
        ((self.now - 4000.0) * 1000.0) as u64
    }

    fn value(&self) -> Option<String> {
        kid(self.state.lookup("db", self.now))
    }

    fn stand_in(&self) -> Option<String> {
        let secret = self.state.stale("db", self.now);
        assert!(secret.as_ref().is_none_or(Secret::stale));
        kid(secret)
    }

    fn vouched_until(&self) -> f64 {
        self.state.history.vouched.until()
    }
}

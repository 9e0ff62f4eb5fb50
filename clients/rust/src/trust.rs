//! Which keys may sign what this client believes (rule 7).

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Result, SecretsError};
use crate::verify::{follow_published, Event, KeyRing, VerifyKey};

/// How long after a rotation the old key still counts, for what was under way when it was rotated.
const OLD_KEY_SECS: f64 = 60.0;
/// The member of a key in `GET /keys` that marks it as a past one.
const PAST: &str = "last_sequence";

/// What came of an `audit.key_rotated`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Followed,
    /// An old one, said again.
    Repeated,
    /// The new key's proof is wrong, or the signer was itself rotated: it counts a minute longer for what was under
    /// way, and names no successor any more.
    NotFollowed,
}

/// The daemon's key, or keys for the minute after a rotation.
pub(crate) struct Trust {
    /// Whether a key was given to the client; else HTTP gives them.
    pub(crate) pinned: bool,
    newest: Option<VerifyKey>,
    ring: KeyRing,
    drop_old_at: Option<f64>,
    sequence: Option<u64>,
}

impl Trust {
    pub(crate) fn new(pinned: Option<VerifyKey>) -> Self {
        Self {
            pinned: pinned.is_some(),
            newest: pinned.clone(),
            ring: KeyRing::new(pinned),
            drop_old_at: None,
            sequence: None,
        }
    }

    /// Returns trust in the key of a PEM file, and in no other; None: in what HTTP will give.
    pub(crate) fn from_pem_file(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else {
            return Ok(Self::new(None));
        };
        let wrong = |why: &str| SecretsError::Settings(format!("the signing key {}: {why}", path.display()));
        let pem = std::fs::read(path).map_err(|error| wrong(&error.kind().to_string()))?;
        let key = VerifyKey::from_pem(&pem).ok_or_else(|| wrong("is not the PEM of an Ed25519 public key"))?;
        Ok(Self::new(Some(key)))
    }

    /// Whether there is any key to verify with.
    pub(crate) fn known(&self) -> bool {
        self.newest.is_some()
    }

    /// Trusts the current keys that HTTP gave and no others; returns whether there are any.
    ///
    /// A pinned key is left only for one that it leads to, by lines that each key signed for the next.
    pub(crate) fn learn(&mut self, keys: &[Map<String, Value>], now: f64) -> bool {
        if self.pinned {
            if let Some((newest, sequence)) = self.newest.as_ref().and_then(|key| follow_published(key, keys)) {
                if Some(sequence) > self.sequence {
                    self.go_on_with(newest, sequence, now);
                }
            }
        }
        let current: Vec<VerifyKey> = keys
            .iter()
            .filter(|jwk| !jwk.contains_key(PAST))
            .filter_map(VerifyKey::from_jwk) // a kind of key that this client doesn't know signs nothing for it
            .collect();
        let any = !current.is_empty();
        if !self.pinned && any {
            self.newest = current.last().cloned();
            self.ring = KeyRing::new(current);
            self.drop_old_at = None;
        }
        any
    }

    /// Follows a verified `audit.key_rotated` to the new key.
    pub(crate) fn follow(&mut self, event: &Event, now: f64) -> Step {
        let Some(sequence) = event.sequence.filter(|sequence| Some(*sequence) > self.sequence) else {
            return Step::Repeated;
        };
        let by_newest = self.newest.as_ref().is_some_and(|newest| newest.keyid == event.keyid);
        if self.drop_old_at.is_some() && !by_newest {
            return Step::NotFollowed;
        }
        match self.ring.follow(event) {
            Some(new) => {
                self.go_on_with(new, sequence, now);
                Step::Followed
            }
            None => Step::NotFollowed,
        }
    }

    fn go_on_with(&mut self, new: VerifyKey, sequence: u64, now: f64) {
        self.ring.add(new.clone());
        self.newest = Some(new);
        self.sequence = Some(sequence);
        self.drop_old_at = Some(now + OLD_KEY_SECS);
    }

    /// Returns the keys that count now.
    pub(crate) fn ring(&mut self, now: f64) -> &KeyRing {
        if self.drop_old_at.is_some_and(|at| now >= at) {
            self.ring = KeyRing::new(self.newest.clone());
            self.drop_old_at = None;
        }
        &self.ring
    }
}

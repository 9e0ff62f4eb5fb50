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

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use base64::Engine;
    use ed25519_dalek::{Signer, SigningKey};
    use serde_json::json;

    use super::*;
    use crate::verify::verify_line;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn public(key: &SigningKey) -> VerifyKey {
        VerifyKey::from_raw(key.verifying_key().as_bytes()).unwrap()
    }

    fn jwk(key: &SigningKey) -> Map<String, Value> {
        let x = URL_SAFE_NO_PAD.encode(key.verifying_key().as_bytes());
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": public(key).keyid });
        jwk.as_object().unwrap().clone()
    }

    fn sign(key: &SigningKey, value: &Value) -> String {
        URL_SAFE_NO_PAD.encode(key.sign(&serde_json_canonicalizer::to_vec(value).unwrap()).to_bytes())
    }

    /// The line by which `old` introduces `new`.
    fn rotation(old: &SigningKey, new: &SigningKey, sequence: u64) -> String {
        let introduced = Value::Object(jwk(new));
        let proof = sign(new, &introduced);
        let mut event = json!({
            "specversion": "1.0", "id": format!("log-{sequence}"), "source": "/jarvis/secretsd/node",
            "type": "jarvis.secretsd.audit.key_rotated", "time": "2026-01-01T00:00:00.000Z",
            "datacontenttype": "application/json", "sequence": format!("{sequence:020}"), "prev": "A".repeat(43),
            "keyid": public(old).keyid, "data": { "jwk": introduced, "proof": proof },
        });
        event["signature"] = sign(old, &event).into();
        serde_json_canonicalizer::to_string(&event).unwrap()
    }

    fn event(old: &SigningKey, new: &SigningKey, sequence: u64) -> Event {
        verify_line(&KeyRing::new([public(old)]), rotation(old, new, sequence).as_bytes()).unwrap()
    }

    fn past(ended: &SigningKey, new: &SigningKey, sequence: u64) -> Map<String, Value> {
        let mut past = jwk(ended);
        past.insert(PAST.into(), sequence.into());
        past.insert("rotated".into(), rotation(ended, new, sequence).into());
        past
    }

    fn believes(trust: &mut Trust, key: &SigningKey, now: f64) -> bool {
        trust.ring(now).get(&public(key).keyid).is_some()
    }

    #[test]
    fn the_current_keys_of_http_are_believed_and_past_ones_are_not() {
        let (old, new) = (key(1), key(2));
        let mut trust = Trust::new(None);
        assert!(!trust.known());
        assert!(trust.learn(&[past(&old, &new, 41), jwk(&new)], 0.0));
        assert!(believes(&mut trust, &new, 0.0) && !believes(&mut trust, &old, 0.0));
        assert!(!trust.learn(&[Map::new()], 0.0));
        assert!(believes(&mut trust, &new, 0.0));
        assert!(trust.learn(&[jwk(&old)], 0.0));
        assert!(believes(&mut trust, &old, 0.0) && !believes(&mut trust, &new, 0.0));
    }

    #[test]
    fn a_pinned_key_is_left_only_for_those_that_it_leads_to() {
        let (old, new, newer) = (key(1), key(2), key(3));
        let mut trust = Trust::new(Some(public(&old)));
        trust.learn(&[jwk(&newer)], 0.0);
        assert!(!believes(&mut trust, &newer, 0.0));
        trust.learn(&[jwk(&newer), past(&new, &newer, 9), past(&old, &new, 3)], 0.0);
        assert!(believes(&mut trust, &newer, 0.0));
        assert!(!believes(&mut trust, &old, OLD_KEY_SECS));
        assert_eq!(trust.follow(&event(&old, &key(4), 3), 0.0), Step::Repeated);
    }

    #[test]
    fn a_rotated_key_counts_a_minute_longer_and_names_no_other_successor() {
        let (old, new, other) = (key(1), key(2), key(3));
        let mut trust = Trust::new(Some(public(&old)));
        assert_eq!(trust.follow(&event(&old, &new, 3), 0.0), Step::Followed);
        assert_eq!(trust.follow(&event(&old, &new, 3), 1.0), Step::Repeated);
        assert_eq!(trust.follow(&event(&old, &other, 4), 1.0), Step::NotFollowed);
        assert!(believes(&mut trust, &old, OLD_KEY_SECS - 1.0));
        assert!(!believes(&mut trust, &old, OLD_KEY_SECS));
        assert!(believes(&mut trust, &new, OLD_KEY_SECS) && !believes(&mut trust, &other, OLD_KEY_SECS));
    }
}

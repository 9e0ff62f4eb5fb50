//! Is this message what the daemon said? (docs/events.md, and the vectors in `tests/vectors/events`)
//!
//! Pure. A message is parsed strictly, spelled anew, and its envelope, signature and topic are checked, in this order:
//! so each refused message is refused for the same named reason by every implementation.

mod keys;
mod strict;
mod topics;

use std::fmt;

use serde_json::{Map, Value};

use crate::time::parse_time;
pub(crate) use keys::{b64url_decode, KeyRing, VerifyKey};
pub(crate) use topics::{is_name, Topics};

const TYPE_PREFIX: &str = "jarvis.secretsd.";
const SOURCE_PREFIX: &str = "/jarvis/secretsd/";
/// The types that stand in no log: without `sequence` and `prev`.
const WITHOUT_PLACE: [&str; 3] = ["secret.state", "audit.checkpoint", "daemon.status"];
const INTEGER_LIMIT: u64 = 1 << 53;

/// Why a message has no effect. `stale` is missing: only the state knows what came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    NotJson,
    NotCanonical,
    UnknownKey,
    BadSignature,
    WrongTopic,
}

impl Refused {
    /// The reason as docs/events.md names it.
    pub(crate) fn slug(self) -> &'static str {
        match self {
            Self::NotJson => "not-json",
            Self::NotCanonical => "not-canonical",
            Self::UnknownKey => "unknown-key",
            Self::BadSignature => "bad-signature",
            Self::WrongTopic => "wrong-topic",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.slug())
    }
}

/// A verified event.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// The type without `jarvis.secretsd.`.
    pub(crate) kind: String,
    pub(crate) time_ms: i64,
    pub(crate) node: String,
    pub(crate) keyid: String,
    pub(crate) data: Map<String, Value>,
    pub(crate) sequence: Option<u64>,
}

/// Returns the event in `payload` if the daemon signed it and it counts on `topic`.
pub(crate) fn verify(topics: &Topics, ring: &KeyRing, topic: &str, payload: &[u8]) -> Result<Event, Refused> {
    let event = verify_line(ring, payload)?;
    if topics.admit(topic, &event) {
        Ok(event)
    } else {
        Err(Refused::WrongTopic)
    }
}

/// Returns the event in one line of an audit log (without newline), wherever it stands.
pub(crate) fn verify_line(ring: &KeyRing, raw: &[u8]) -> Result<Event, Refused> {
    let parsed = strict::parse(raw).map_err(|strict::NotJson| Refused::NotJson)?;
    let mut envelope = parsed.object;
    if !parsed.plain || canonical(&envelope)? != raw {
        return Err(Refused::NotCanonical);
    }
    let event = read(&envelope).ok_or(Refused::NotCanonical)?;
    let Some(Value::String(signature)) = envelope.remove("signature").filter(|value| value != "") else {
        return Err(Refused::NotCanonical);
    };
    let key = ring.get(&event.keyid).ok_or(Refused::UnknownKey)?;
    let signed = canonical(&envelope)?;
    match b64url_decode(&signature) {
        Some(signature) if key.verify(&signature, &signed) => Ok(event),
        _ => Err(Refused::BadSignature),
    }
}

/// Returns the key that `key` was rotated to, however often, and the sequence of the last rotation.
///
/// `jwks` is what `GET /keys` has: each step counts only by its line (`rotated`), signed by the key of the step before
/// and agreed to by the next. None where nothing leads on from `key`.
pub(crate) fn follow_published(key: &VerifyKey, jwks: &[Map<String, Value>]) -> Option<(VerifyKey, u64)> {
    let lines: Vec<&str> = jwks.iter().filter_map(|jwk| jwk.get("rotated")?.as_str()).collect();
    let mut newest: Option<(VerifyKey, u64)> = None;
    loop {
        let (from, after) = newest
            .as_ref()
            .map_or((key, None), |(key, sequence)| (key, Some(*sequence)));
        let step = lines.iter().find_map(|line| {
            let mut ring = KeyRing::new([from.clone()]);
            let event = verify_line(&ring, line.as_bytes()).ok()?;
            let sequence = event
                .sequence
                .filter(|sequence| after.is_none_or(|after| *sequence > after))?;
            Some((ring.follow(&event)?, sequence))
        });
        match step {
            Some(found) => newest = Some(found),
            None => return newest,
        }
    }
}

fn canonical(object: &Map<String, Value>) -> Result<Vec<u8>, Refused> {
    serde_json_canonicalizer::to_vec(object).map_err(|_| Refused::NotCanonical)
}

/// Returns the event, None when a member of the envelope is missing or wrong.
fn read(envelope: &Map<String, Value>) -> Option<Event> {
    let text = |member: &str| envelope.get(member)?.as_str().filter(|text| !text.is_empty());
    if text("specversion") != Some("1.0") || text("datacontenttype") != Some("application/json") {
        return None;
    }
    let data = envelope.get("data")?.as_object()?;
    let kind = text("type")?.strip_prefix(TYPE_PREFIX).filter(|kind| is_kind(kind))?;
    let node = text("source")?
        .strip_prefix(SOURCE_PREFIX)
        .filter(|node| is_name(node))?;
    if envelope.contains_key("subject") {
        text("subject")?;
    }
    let time_ms = parse_time(text("time")?)?;
    text("id")?;
    let sequence = if WITHOUT_PLACE.contains(&kind) {
        if envelope.contains_key("sequence") || envelope.contains_key("prev") {
            return None;
        }
        None
    } else {
        Some(place(text("sequence")?, text("prev")?)?)
    };
    Some(Event {
        kind: kind.to_owned(),
        time_ms,
        node: node.to_owned(),
        keyid: text("keyid")?.to_owned(),
        data: data.clone(),
        sequence,
    })
}

/// Tells whether this is `category.verb`, each of small letters and underscores, a letter first.
fn is_kind(kind: &str) -> bool {
    let is_word = |word: &str| {
        word.starts_with(|first: char| first.is_ascii_lowercase())
            && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    kind.split_once('.')
        .is_some_and(|(category, verb)| is_word(category) && is_word(verb))
}

fn place(sequence: &str, prev: &str) -> Option<u64> {
    let is_hash = prev.len() == 43
        && prev
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if !is_hash || sequence.len() != 20 || !sequence.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    sequence
        .parse()
        .ok()
        .filter(|number| (1..INTEGER_LIMIT).contains(number))
}

#[cfg(test)]
mod vectors;

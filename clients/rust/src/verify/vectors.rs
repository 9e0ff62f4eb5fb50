//! The vectors that every implementation is held to: `tests/vectors/events`.

use std::path::Path;

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use serde::de::DeserializeOwned;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{follow_published, strict, verify, KeyRing, Topics, VerifyKey};

#[derive(Deserialize)]
struct Keys {
    topic_prefix: String,
    trusted: Map<String, Value>,
    next: Map<String, Value>,
    foreign: Map<String, Value>,
}

#[derive(Deserialize)]
struct Accepted {
    name: String,
    topics: Vec<String>,
    payload: String,
}

#[derive(Deserialize)]
struct Refusal {
    name: String,
    slug: String,
    topic: String,
    payload: Option<String>,
    payload_base64: Option<String>,
}

#[derive(Deserialize)]
struct Canonical {
    encode: Vec<Encoded>,
    refuse: Vec<Unspeakable>,
}

#[derive(Deserialize)]
struct Encoded {
    value: Value,
    canonical: String,
}

#[derive(Deserialize)]
struct Unspeakable {
    name: String,
    json: String,
}

fn read<T: DeserializeOwned>(name: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/vectors/events")
        .join(name);
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap()
}

fn given() -> (Topics, KeyRing) {
    let keys: Keys = read("keys.json");
    let trusted = VerifyKey::from_jwk(&keys.trusted).unwrap();
    (Topics::new(&keys.topic_prefix).unwrap(), KeyRing::new([trusted]))
}

#[test]
fn what_the_daemon_said_is_accepted_on_its_topics_and_on_no_other() {
    let (topics, ring) = given();
    let cases: Vec<Accepted> = read("accepted.json");
    assert!(cases.len() > 15);
    let all: Vec<&String> = cases.iter().flat_map(|case| &case.topics).collect();
    for case in &cases {
        for topic in &case.topics {
            let event = verify(&topics, &ring, topic, case.payload.as_bytes());
            assert!(event.is_ok(), "{} on {topic}: {:?}", case.name, event.err());
        }
        for topic in all.iter().filter(|topic| !case.topics.contains(topic)) {
            let refused = verify(&topics, &ring, topic, case.payload.as_bytes()).unwrap_err();
            assert_eq!(refused.slug(), "wrong-topic", "{} on {topic}", case.name);
        }
    }
}

#[test]
fn each_refused_message_is_refused_for_its_reason() {
    let (topics, ring) = given();
    let cases: Vec<Refusal> = read("refused.json");
    assert!(cases.len() > 60);
    for case in cases {
        let payload = match (case.payload, case.payload_base64) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(coded)) => STANDARD.decode(coded).unwrap(),
            _ => panic!("{}: one payload", case.name),
        };
        let refused = verify(&topics, &ring, &case.topic, &payload);
        assert_eq!(
            refused.err().map(super::Refused::slug),
            Some(case.slug.as_str()),
            "{}",
            case.name
        );
    }
}

#[test]
fn canonical_json_is_spelled_alike_and_what_is_outside_it_is_not_plain() {
    let cases: Canonical = read("canonical.json");
    for case in cases.encode {
        assert_eq!(
            serde_json_canonicalizer::to_string(&case.value).unwrap(),
            case.canonical
        );
        let wrapped = format!("{{\"a\":{}}}", case.canonical);
        assert!(strict::parse(wrapped.as_bytes()).unwrap().plain, "{wrapped}");
    }
    for case in cases.refuse {
        let wrapped = format!("{{\"a\":{}}}", case.json);
        assert!(!strict::parse(wrapped.as_bytes()).unwrap().plain, "{}", case.name);
    }
}

#[derive(Deserialize)]
struct Step {
    name: String,
    payload: String,
    leads_to: Option<String>,
}

#[derive(Deserialize)]
struct Published {
    name: String,
    keys: Vec<Map<String, Value>>,
    leads_to: Option<String>,
    sequence: Option<u64>,
}

#[derive(Deserialize)]
struct Following {
    live: Vec<Step>,
    published: Vec<Published>,
}

#[test]
fn a_rotated_key_is_followed_only_where_both_keys_agree() {
    let (topics, ring) = given();
    let cases: Following = read("following.json");
    let topic = topics.key_rotated();
    for case in cases.live {
        let mut ring = ring.clone();
        let event = verify(&topics, &ring, &topic, case.payload.as_bytes()).unwrap();
        let led_to = ring.follow(&event).map(|key| key.keyid);
        assert_eq!(led_to, case.leads_to, "{}", case.name);
        assert!(led_to.is_none_or(|keyid| ring.get(&keyid).is_some()), "{}", case.name);
    }
}

#[test]
fn published_rotations_are_followed_line_by_line_from_the_known_key() {
    let keys: Keys = read("keys.json");
    let known = VerifyKey::from_jwk(&keys.trusted).unwrap();
    let cases: Following = read("following.json");
    for case in cases.published {
        let (key, sequence) = follow_published(&known, &case.keys).unzip();
        assert_eq!(key.map(|key| key.keyid), case.leads_to, "{}", case.name);
        assert_eq!(sequence, case.sequence, "{}", case.name);
    }
}

#[test]
fn a_key_is_read_from_its_jwk_only_when_it_is_what_it_says() {
    let keys: Keys = read("keys.json");
    assert!(VerifyKey::from_jwk(&keys.next).is_some());
    let mut other = keys.foreign.clone();
    other.insert("kid".into(), keys.next["kid"].clone());
    assert!(VerifyKey::from_jwk(&other).is_none());
    other.insert("kid".into(), keys.foreign["kid"].clone());
    other.insert("kty".into(), "EC".into());
    assert!(VerifyKey::from_jwk(&other).is_none());
}

//! The daemon's answers, and what the bus announces.

use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::{Result, SecretsError};
use crate::secret::{Encoding, Identity, Secret, Version};
use crate::time::parse_time;
use crate::verify::{is_name, Event};

const SPREAD_MOST_MS: u64 = 60_000;
const SPREAD_SECS: f64 = 0.2;

/// Fails with `SecretNotFound` when no secret can be called that.
pub(crate) fn check_name(name: &str) -> Result<()> {
    if is_name(name) {
        return Ok(());
    }
    let shown: String = name.chars().take(128).collect();
    Err(SecretsError::SecretNotFound(format!(
        "{shown:?} can't be a secret's name: letters, digits, '.', '_' and '-', at most 128"
    )))
}

/// What the client reads of the answer to `GET /secret/{name}`.
#[derive(Deserialize)]
pub(crate) struct SecretBody {
    name: String,
    value: SecretText,
    kid: String,
    version: u64,
    expires_at: String,
    #[serde(default = "utf8")]
    encoding: Encoding,
}

/// A text that goes from the parser straight into a type that wipes it.
#[derive(Deserialize)]
#[serde(from = "String")]
struct SecretText(SecretString);

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

fn utf8() -> Encoding {
    Encoding::Utf8
}

impl From<SecretBody> for Secret {
    fn from(body: SecretBody) -> Self {
        Self::new(Version {
            name: body.name,
            value: body.value.0,
            identity: Identity::new(body.kid),
            version: body.version,
            expires_at: body.expires_at,
            encoding: body.encoding,
        })
    }
}

/// One name in the answer to `GET /changes`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Change {
    pub(crate) name: String,
    pub(crate) kid: String,
    pub(crate) status: String,
    pub(crate) generation: u64,
}

/// The answer to `GET /changes`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Changes {
    pub(crate) epoch: String,
    pub(crate) generation: u64,
    pub(crate) session: u64,
    pub(crate) uptime_ms: u64,
    pub(crate) changes: Vec<Change>,
}

/// The answer to `GET /bus`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct BusInfo {
    pub(crate) url: String,
    pub(crate) topic_prefix: String,
    pub(crate) node: String,
}

/// The answer to `GET /keys`; a past key has a member that says the last sequence it signed.
#[derive(Debug, Deserialize)]
pub(crate) struct JwkSet {
    pub(crate) keys: Vec<Map<String, Value>>,
}

/// The vault's epoch and generation as an answer carries them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) epoch: String,
    pub(crate) generation: u64,
}

impl Position {
    /// Reads a `Vault-Generation` header.
    pub(crate) fn parse(header: Option<&str>) -> Result<Self> {
        let parsed = header.and_then(|header| {
            let (epoch, generation) = header.split_once(':')?;
            let fits = !epoch.is_empty() && epoch.len() <= 128 && !epoch.contains(char::is_whitespace);
            let digits = (1..=16).contains(&generation.len()) && generation.bytes().all(|byte| byte.is_ascii_digit());
            (fits && digits).then_some(Self {
                epoch: epoch.to_owned(),
                generation: generation.parse().ok()?,
            })
        });
        parsed.ok_or_else(|| {
            SecretsError::SecretsUnavailable(
                "the answer carries no Vault-Generation: is that URL jarvis-secretsd's?".into(),
            )
        })
    }
}

/// A secret's answer: the secret, or None for a 304, and the vault's position as of then.
pub(crate) struct Fetched {
    pub(crate) secret: Option<Secret>,
    pub(crate) at: Position,
}

/// What a verified secret event or state says about a name.
#[derive(Debug, Clone)]
pub(crate) struct Announcement {
    pub(crate) name: String,
    pub(crate) epoch: String,
    pub(crate) generation: u64,
    pub(crate) kid: String,
    pub(crate) deleted: bool,
    pub(crate) urgent: bool,
    pub(crate) previous_kid: Option<String>,
    pub(crate) grace_until_ms: Option<i64>,
    pub(crate) time_ms: i64,
    pub(crate) spread_secs: f64,
}

/// What a verified `audit.checkpoint` says about the daemon.
#[derive(Debug, Clone)]
pub(crate) struct Checkpoint {
    pub(crate) epoch: String,
    pub(crate) generation: u64,
    pub(crate) session: u64,
    pub(crate) uptime_ms: u64,
    pub(crate) interval_secs: f64,
}

fn text(data: &Map<String, Value>, member: &str) -> Option<String> {
    data.get(member)?.as_str().map(str::to_owned)
}

fn count(data: &Map<String, Value>, member: &str) -> Option<u64> {
    data.get(member)?.as_u64()
}

/// Returns what a secret event or state announces, None when its data lacks what this client needs.
pub(crate) fn announcement(event: &Event) -> Option<Announcement> {
    let data = &event.data;
    let (previous_kid, grace_until_ms) = match data.get("previous") {
        None | Some(Value::Null) => (None, None),
        Some(previous) => {
            let previous = previous.as_object()?;
            (
                Some(text(previous, "kid")?),
                Some(parse_time(previous.get("grace_until")?.as_str()?)?),
            )
        }
    };
    let deleted = event.kind == "secret.deleted" || text(data, "status")? == "deleted";
    Some(Announcement {
        name: text(data, "name")?,
        epoch: text(data, "epoch")?,
        generation: count(data, "generation")?,
        kid: text(data, "kid")?,
        deleted,
        urgent: data.get("urgent") == Some(&Value::Bool(true)),
        previous_kid,
        grace_until_ms,
        time_ms: event.time_ms,
        spread_secs: match count(data, "spread_ms") {
            Some(spread_ms) => spread_ms.min(SPREAD_MOST_MS) as f64 / 1000.0,
            None => SPREAD_SECS,
        },
    })
}

/// Returns what a checkpoint says, None when its data lacks what this client needs.
pub(crate) fn checkpoint(event: &Event) -> Option<Checkpoint> {
    let data = &event.data;
    Some(Checkpoint {
        epoch: text(data, "epoch")?,
        generation: count(data, "generation")?,
        session: count(data, "session")?,
        uptime_ms: count(data, "uptime_ms")?,
        interval_secs: count(data, "interval_secs")?.clamp(1, 3600) as f64,
    })
}

/// Returns the session that a `daemon.status` names.
pub(crate) fn session_of(event: &Event) -> Option<u64> {
    count(&event.data, "session")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_epoch_and_generation_and_nothing_else() {
        let position = Position::parse(Some("k3v9x1:42")).unwrap();
        assert_eq!((position.epoch.as_str(), position.generation), ("k3v9x1", 42));
        for header in [
            None,
            Some(""),
            Some("42"),
            Some(":42"),
            Some("e:"),
            Some("e:-1"),
            Some("e:1:2"),
            Some("e f:1"),
            Some("e:12345678901234567"),
        ] {
            assert!(
                matches!(Position::parse(header), Err(SecretsError::SecretsUnavailable(_))),
                "{header:?}"
            );
        }
    }

    #[test]
    fn what_cant_be_a_name_is_not_found() {
        assert!(check_name("postgres_password").is_ok());
        assert!(matches!(check_name("../etc"), Err(SecretsError::SecretNotFound(_))));
    }
}

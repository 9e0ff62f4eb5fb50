//! The daemon's calls that this client makes, typed: statuses become values or errors of ours.

use std::sync::{Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use reqwest::header::IF_NONE_MATCH;
use serde::de::DeserializeOwned;
use serde::Deserialize;

use crate::error::{Result, SecretsError};
use crate::http::{Http, Response};
use crate::model::{BusInfo, Changes, Fetched, JwkSet, Position, SecretBody};
use crate::state::Order;

/// What a question for a secret comes to, where it comes to an answer.
pub(crate) enum Read {
    Fetched(Fetched),
    /// The daemon hasn't reached the generation that was asked for: ask again.
    Behind,
    /// There is no secret of that name as of then.
    Missing(Position),
}

/// What a question for what changed comes to.
pub(crate) enum History {
    Changes(Changes),
    /// The daemon can't tell what changed since then: start over.
    Gone,
}

/// The calls.
pub(crate) struct Daemon {
    http: Http,
    date_ms: Mutex<Option<f64>>,
}

impl Daemon {
    pub(crate) fn new(http: Http) -> Self {
        Self {
            http,
            date_ms: Mutex::new(None),
        }
    }

    /// The latest that the daemon's clock can have been at its last answer, epoch milliseconds.
    pub(crate) fn date_ms(&self) -> Option<f64> {
        *self.date_ms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `GET /secret/{name}`: a value, or none when the order's ETag is still current. The name is a checked one.
    pub(crate) async fn secret(&self, name: &str, order: &Order) -> Result<Read> {
        let headers: Vec<_> = order
            .etag
            .iter()
            .map(|etag| (IF_NONE_MATCH, format!("\"{etag}\"")))
            .collect();
        let path = match order.min_generation {
            0 => format!("/secret/{name}"),
            generation => format!("/secret/{name}?min_generation={generation}"),
        };
        let answer = self.get(&path, &headers).await?;
        let at = || Position::parse(answer.header("Vault-Generation"));
        match answer.status {
            200 => {
                let at = at()?;
                let body: SecretBody = decode(&answer.body, "a secret")?;
                Ok(Read::Fetched(Fetched {
                    secret: Some(body.into()),
                    at,
                }))
            }
            304 => Ok(Read::Fetched(Fetched {
                secret: None,
                at: at()?,
            })),
            404 => Ok(Read::Missing(at()?)),
            409 => Ok(Read::Behind),
            _ => Err(failure(&answer, &format!("reading {name}"))),
        }
    }

    /// `GET /changes`: since then, or everything.
    pub(crate) async fn changes(&self, since: Option<&str>) -> Result<History> {
        let path = since.map_or("/changes".into(), |since| format!("/changes?since={}", quoted(since)));
        let answer = self.get(&path, &[]).await?;
        match answer.status {
            200 => Ok(History::Changes(decode(&answer.body, "changes")?)),
            410 => Ok(History::Gone),
            _ => Err(failure(&answer, "asking what changed")),
        }
    }

    /// `POST /secret/{name}/ack`: this client uses the version `kid`. `SecretNotFound` where that is gone.
    pub(crate) async fn acknowledge(&self, name: &str, kid: &str) -> Result<()> {
        let body = serde_json::json!({ "kid": kid }).to_string();
        let answer = self.http.post(&format!("/secret/{name}/ack"), body).await?;
        match answer.status {
            200 => Ok(()),
            _ => Err(failure(&answer, &format!("acknowledging {name}"))),
        }
    }

    /// `GET /bus`: where the broker is; None when the daemon uses none.
    pub(crate) async fn bus(&self) -> Result<Option<BusInfo>> {
        let answer = self.get("/bus", &[]).await?;
        match answer.status {
            200 => Ok(Some(decode(&answer.body, "the bus")?)),
            404 => Ok(None),
            _ => Err(failure(&answer, "asking for the bus")),
        }
    }

    /// `GET /keys`: the keys that events are signed with, past ones too.
    pub(crate) async fn keys(&self) -> Result<JwkSet> {
        let answer = self.get("/keys", &[]).await?;
        match answer.status {
            200 => decode(&answer.body, "keys"),
            _ => Err(failure(&answer, "asking for the signing keys")),
        }
    }

    async fn get(&self, path: &str, headers: &[(reqwest::header::HeaderName, String)]) -> Result<Response> {
        let answer = self.http.get(path, headers).await?;
        let date = answer
            .header("Date")
            .and_then(|text| httpdate::parse_http_date(text).ok());
        let since_epoch = date.and_then(|date| date.duration_since(UNIX_EPOCH).ok());
        // Date leaves out what is less than a second.
        let latest = since_epoch.map(|since| since.as_secs_f64() * 1000.0 + 999.0);
        *self.date_ms.lock().unwrap_or_else(PoisonError::into_inner) = latest;
        Ok(answer)
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            quoted.push(char::from(byte));
        } else {
            quoted.push_str(&format!("%{byte:02X}"));
        }
    }
    quoted
}

/// Returns the body as `T`, without quoting any of it where it isn't that.
fn decode<T: DeserializeOwned>(body: &[u8], what: &str) -> Result<T> {
    serde_json::from_slice(body).map_err(|_| {
        SecretsError::SecretsUnavailable(format!(
            "the answer isn't what jarvis-secretsd sends ({what}): is it the right URL?"
        ))
    })
}

#[derive(Deserialize)]
struct Problem {
    #[serde(rename = "type")]
    slug: String,
}

/// Returns the error for a status that isn't an answer. It quotes the problem's slug only.
fn failure(answer: &Response, doing: &str) -> SecretsError {
    let slug = serde_json::from_slice::<Problem>(&answer.body)
        .map(|problem| problem.slug)
        .unwrap_or_default();
    let looks_like_one = slug.len() <= 40 && slug.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-');
    let shown = if looks_like_one && !slug.is_empty() {
        format!(" ({slug})")
    } else {
        String::new()
    };
    let said = format!("{doing}: the daemon answered {}{shown}", answer.status);
    match answer.status {
        401 => SecretsError::AuthenticationFailed(format!(
            "{said}; check JARVIS_CLIENT_ID and the token against the policy"
        )),
        403 => SecretsError::AccessDenied(format!("{said}; the policy doesn't allow it")),
        400 | 404 | 405 | 422 => SecretsError::SecretNotFound(said),
        _ => SecretsError::SecretsUnavailable(said),
    }
}

//! A secret as callers see it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use secrecy::{ExposeSecret, SecretSlice, SecretString};

use crate::error::{Result, SecretsError};

/// One version of a secret. Clones share the value, which is wiped when the last one goes; `Debug` doesn't show it.
#[derive(Clone)]
pub struct Secret {
    pub(crate) inner: Arc<Version>,
    stale: bool,
}

/// What is known of one version.
pub(crate) struct Version {
    pub(crate) name: String,
    pub(crate) value: SecretString,
    pub(crate) identity: Arc<Identity>,
    pub(crate) version: u64,
    pub(crate) expires_at: String,
    pub(crate) encoding: Encoding,
}

/// Which version it is, and whether a caller was given it; outlives the value.
pub(crate) struct Identity {
    pub(crate) kid: String,
    given: AtomicBool,
}

impl Identity {
    pub(crate) fn new(kid: String) -> Arc<Self> {
        let given = AtomicBool::new(false);
        Arc::new(Self { kid, given })
    }

    pub(crate) fn is_given(&self) -> bool {
        self.given.load(Ordering::Relaxed)
    }

    pub(crate) fn give(&self) {
        // Most often it is: a store would take the line from the other readers' processors.
        if !self.is_given() {
            self.given.store(true, Ordering::Relaxed);
        }
    }
}

/// How a value is written as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
pub enum Encoding {
    /// It is the text.
    #[serde(rename = "utf-8")]
    Utf8,
    /// The text is the base64 of bytes.
    #[serde(rename = "base64")]
    Base64,
}

impl Secret {
    pub(crate) fn new(version: Version) -> Self {
        Self {
            inner: Arc::new(version),
            stale: false,
        }
    }

    pub(crate) fn as_stale(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            stale: true,
        }
    }

    /// Notes that a caller is given it.
    pub(crate) fn give(self) -> Self {
        self.inner.identity.give();
        self
    }

    /// The secret's name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The value: text, which is base64 where [`encoding`](Self::encoding) says so.
    /// [`ExposeSecret`] makes it readable, and every place where that happens easy to find.
    pub fn value(&self) -> &SecretString {
        &self.inner.value
    }

    /// The value as bytes, decoded if it is base64.
    ///
    /// # Errors
    /// [`SecretsError::SecretsUnavailable`] for a base64 value that isn't base64, which no daemon gives.
    pub fn bytes(&self) -> Result<SecretSlice<u8>> {
        let text = self.inner.value.expose_secret();
        match self.inner.encoding {
            Encoding::Utf8 => Ok(text.as_bytes().to_vec().into()),
            Encoding::Base64 => match STANDARD.decode(text) {
                Ok(bytes) => Ok(bytes.into()),
                Err(_) => Err(SecretsError::SecretsUnavailable(format!(
                    "the value of {} is not the base64 that it is said to be",
                    self.name()
                ))),
            },
        }
    }

    /// The version's id; another version has another one.
    pub fn kid(&self) -> &str {
        &self.inner.identity.kid
    }

    /// The version's number.
    pub fn version(&self) -> u64 {
        self.inner.version
    }

    /// RFC 3339 in UTC; `9999-12-31T23:59:59.999Z` means never. Expired secrets are still served.
    pub fn expires_at(&self) -> &str {
        &self.inner.expires_at
    }

    /// How the value is written as text.
    pub fn encoding(&self) -> Encoding {
        self.inner.encoding
    }

    /// Whether the daemon couldn't be asked, and this was current when it last could.
    pub fn stale(&self) -> bool {
        self.stale
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Secret")
            .field("name", &self.inner.name)
            .field("kid", &self.inner.identity.kid)
            .field("version", &self.inner.version)
            .field("expires_at", &self.inner.expires_at)
            .field("encoding", &self.inner.encoding)
            .field("stale", &self.stale)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn secret(name: &str, kid: &str, value: &str) -> Secret {
        Secret::new(Version {
            name: name.into(),
            value: value.into(),
            identity: Identity::new(kid.into()),
            version: 1,
            expires_at: "9999-12-31T23:59:59.999Z".into(),
            encoding: Encoding::Utf8,
        })
    }

    #[test]
    fn debug_never_shows_the_value() {
        let shown = format!("{:?}", secret("db", "kid", "hunter2hunter2"));
        assert!(
            shown.contains("db") && shown.contains("kid") && !shown.contains("hunter2"),
            "{shown}"
        );
    }

    #[test]
    fn bytes_are_decoded_where_the_value_is_base64() {
        let mut version = Arc::try_unwrap(secret("db", "kid", "AP8=").inner).ok().unwrap();
        assert_eq!(secret("db", "kid", "AP8=").bytes().unwrap().expose_secret(), b"AP8=");
        version.encoding = Encoding::Base64;
        assert_eq!(Secret::new(version).bytes().unwrap().expose_secret(), &[0, 255]);
    }
}

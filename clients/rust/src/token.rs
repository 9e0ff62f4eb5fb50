//! The bearer token: given, or in a file that is read again when it changes.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::error::{Result, SecretsError};
use crate::tls::stamp_of;

/// The proof by token.
pub(crate) enum Token {
    None,
    Given(HeaderValue),
    File(TokenFile),
}

impl Token {
    /// Returns the proof by `token`; `Settings` for one that can't be sent.
    pub(crate) fn given(token: &str) -> Result<Self> {
        Ok(Self::Given(bearer(token)?))
    }

    /// Returns the proof by what the file holds then.
    pub(crate) fn in_file(path: &Path) -> Self {
        Self::File(TokenFile::new(path))
    }

    /// Returns what goes with a request, None without a token. `SecretsUnavailable` for a file that can't be read yet.
    pub(crate) fn header(&self) -> Result<Option<HeaderValue>> {
        match self {
            Self::None => Ok(None),
            Self::Given(header) => Ok(Some(header.clone())),
            Self::File(file) => file.header().map(Some),
        }
    }

    /// Returns whether there is a newer token to try.
    pub(crate) fn reread(&self) -> bool {
        match self {
            Self::File(file) => file.reread(),
            _ => false,
        }
    }
}

/// A bearer token in a file, read again when the file changes.
pub(crate) struct TokenFile {
    path: PathBuf,
    read: Mutex<Option<(Option<Stamped>, HeaderValue)>>,
}

type Stamped = (u64, i64, i64, u64);

impl TokenFile {
    fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            read: Mutex::new(None),
        }
    }

    fn header(&self) -> Result<HeaderValue> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = stamp_of(&self.path).and_then(|stamp| match &*read {
            Some((Some(seen), header)) if *seen == stamp => Ok(Ok((Some(stamp), header.clone()))),
            _ => Ok(self.bearer()?.map(|header| (Some(stamp), header))),
        });
        match (outcome, &*read) {
            (Ok(Ok((stamp, header))), _) => {
                *read = Some((stamp, header.clone()));
                Ok(header)
            }
            // A file that is being replaced may be gone or empty for a moment: the token we have may still do.
            (_, Some((_, header))) => Ok(header.clone()),
            (Ok(Err(wrong)), None) => Err(wrong),
            (Err(error), None) => Err(SecretsError::SecretsUnavailable(format!(
                "the token file {} can't be read: {}",
                self.path.display(),
                error.kind()
            ))),
        }
    }

    fn reread(&self) -> bool {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(Ok(now)) = self.bearer() else {
            return false;
        };
        let is_newer = read.as_ref().is_none_or(|(_, before)| *before != now);
        *read = Some((None, now));
        is_newer
    }

    fn bearer(&self) -> std::io::Result<Result<HeaderValue>> {
        let text = Zeroizing::new(std::fs::read(&self.path)?);
        Ok(bearer(std::str::from_utf8(&text).unwrap_or("").trim()))
    }
}

fn bearer(token: &str) -> Result<HeaderValue> {
    if token.is_empty() || !token.bytes().all(|byte| (b'!'..=b'~').contains(&byte)) {
        return Err(SecretsError::Settings(
            "the client's token is empty or not printable ASCII".into(),
        ));
    }
    let text = SecretString::from(format!("Bearer {token}"));
    match HeaderValue::from_str(text.expose_secret()) {
        Ok(mut header) => {
            header.set_sensitive(true);
            Ok(header)
        }
        Err(_) => Err(SecretsError::Settings("the client's token can't be sent".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_printable_ascii_and_not_shown() {
        assert!(!format!("{:?}", bearer("hunter2").unwrap()).contains("hunter2"));
        for token in ["", "a b", "a\nb", "é", "\u{7f}"] {
            assert!(bearer(token).is_err(), "{token:?}");
        }
    }

    #[test]
    fn a_token_file_is_read_again_when_it_changes_and_kept_while_it_is_gone_or_empty() {
        let path = std::env::temp_dir().join(format!("token-{}", std::process::id()));
        let file = TokenFile::new(&path);
        assert!(matches!(file.header(), Err(SecretsError::SecretsUnavailable(_))));
        std::fs::write(&path, "first\n").unwrap();
        assert_eq!(file.header().unwrap(), "Bearer first");
        assert!(!file.reread());
        std::fs::write(&path, "second").unwrap();
        assert_eq!(file.header().unwrap(), "Bearer second");
        std::fs::write(&path, "").unwrap();
        assert_eq!(file.header().unwrap(), "Bearer second");
        assert!(!file.reread());
        std::fs::remove_file(&path).unwrap();
        assert_eq!(file.header().unwrap(), "Bearer second");
        assert!(!file.reread());
        std::fs::write(&path, "third").unwrap();
        assert!(file.reread());
        std::fs::remove_file(&path).unwrap();
    }
}

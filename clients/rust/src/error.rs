//! What can go wrong.

/// What every call of this crate fails with.
///
/// No message holds a value or a token, and no error of a library underneath is part of one.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SecretsError {
    /// There is no secret of that name, or no longer, or it can't be a name.
    #[error("{0}")]
    SecretNotFound(String),
    /// The client is known, and the policy doesn't let it read this, or doesn't any more.
    #[error("{0}")]
    AccessDenied(String),
    /// The client is not known to the policy, or its credential is wrong or missing.
    #[error("{0}")]
    AuthenticationFailed(String),
    /// The daemon can't be asked now, and nothing that may be served is cached; trying again later may help.
    #[error("{0}")]
    SecretsUnavailable(String),
    /// A setting that makes no sense.
    #[error("{0}")]
    Settings(String),
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
}

/// What the calls of this crate return.
pub type Result<T, E = SecretsError> = std::result::Result<T, E>;

"""What can go wrong.

SecretsError                    anything below; also a setting that makes no sense
├── SecretNotFound              there is no such secret (or version), and the caller may know it
├── AccessDenied                the policy doesn't let this client read it, or doesn't any more
├── AuthenticationFailed        the daemon doesn't take this client for what it says it is
└── SecretsUnavailable          the daemon can't be asked now, and nothing servable is cached

No message holds a value or a token, and no exception of a library underneath leaves the package.
"""

CLOSED = "the client is closed"


class SecretsError(Exception):
    """The root of everything that this package raises."""


class SecretNotFound(SecretsError):
    """There is no secret of that name, or no longer, or not in the version asked for."""


class AccessDenied(SecretsError):
    """The client is known and isn't allowed to do this."""


class AuthenticationFailed(SecretsError):
    """The client is not known to the policy, or its credential is wrong or missing."""


class SecretsUnavailable(SecretsError):
    """The daemon can't be reached or can't answer now; trying again later may help."""

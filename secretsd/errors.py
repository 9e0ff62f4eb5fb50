"""Everything that can go wrong, in one tree.

    SecretsdError
    ├── StartupError            the daemon can't start; carries the exit status of sysexits(3)
    │   ├── ConfigError             config.toml, 78
    │   ├── PolicyError             policy.yaml, 78 at start (a reload keeps the old policy)
    │   ├── KeyFileError            master.key or audit.sign.key, 78
    │   ├── VaultError              vault.json or the audit log at start, 78
    │   ├── VaultLocked             another daemon has the vault, 75
    │   └── ListenError             a listening socket can't be had, 69
    ├── AuditWriteError         a batch of lines could not be made durable
    ├── VaultWriteError         a commit could not be written
    ├── SealError               a ciphertext does not open
    ├── AgeError                a file sealed to people can't be made or opened
    ├── BackupError             a backup can't be made, is not whole, or must not be restored here
    ├── PruneError              nothing of the audit log can be removed now
    └── Problem                 an answer of RFC 9457: slug, status, what to do

Messages say what to do next and never hold a value, a token or a name that the policy or the vault
doesn't know.
"""

from __future__ import annotations

from collections.abc import Mapping

EXIT_UNAVAILABLE = 69
EXIT_LOCKED = 75
EXIT_CONFIG = 78


class SecretsdError(Exception):
    """The root of all errors of this package."""


class StartupError(SecretsdError):
    """The daemon can't start. `exit_status` follows sysexits(3)."""

    exit_status = EXIT_CONFIG


class ConfigError(StartupError):
    """config.toml is missing, unreadable or says what it can't say."""


class PolicyError(StartupError):
    """policy.yaml is missing, unreadable or says what it can't say."""


class KeyFileError(StartupError):
    """master.key or audit.sign.key is missing, readable by others, damaged or under another passphrase."""


class VaultError(StartupError):
    """vault.json or the audit log is missing, damaged, older than its witnesses or not ours."""


class VaultLocked(StartupError):
    """Another daemon works on this vault."""

    exit_status = EXIT_LOCKED


class ListenError(StartupError):
    """A listening socket can't be had: the port is taken, the address isn't ours."""

    exit_status = EXIT_UNAVAILABLE


class AuditWriteError(SecretsdError):
    """A batch of audit lines could not be made durable; nothing that depends on it may be released.

    `kept` tells that the lines stand in a rotated file all the same and will be repeated in the next one.
    """

    def __init__(self, message: str, *, kept: bool = False) -> None:
        super().__init__(message)
        self.kept = kept


class VaultWriteError(SecretsdError):
    """The vault's document could not be replaced; the commit did not happen."""


class SealError(SecretsdError):
    """A ciphertext doesn't open: another key, or it was altered or moved."""


class AgeError(SecretsdError):
    """A file in age's format can't be made or opened: no recipient, another key, damaged."""


class BackupError(SecretsdError):
    """A backup can't be made, isn't what it should be, or must not be restored here."""


class PruneError(SecretsdError):
    """Nothing can be removed from the audit log: that would take away what is still needed, or it doesn't verify."""


class Problem(SecretsdError):
    """An answer as RFC 9457 has it.

    `slug` is the `type` member, `status` the HTTP status, `detail` says what to do. `position` is the
    vault's `EPOCH:GENERATION` at the decision, where a client was proven.
    """

    def __init__(
        self,
        slug: str,
        detail: str,
        *,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        position: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.slug = slug
        self.status = PROBLEM_STATUS[slug] if status is None else status
        self.detail = detail
        self.headers = dict(headers or {})
        self.position = position


PROBLEM_STATUS: Mapping[str, int] = {
    "missing-client": 401,
    "unknown-client": 401,
    "bad-credential": 401,
    "forbidden": 403,
    "foreign-request": 403,
    "not-found": 404,
    "version-not-found": 404,
    "method-not-allowed": 405,
    "exists": 409,
    "behind": 409,
    "passphrase-pending": 409,
    "rotation-pending": 409,
    "history-gone": 410,
    "precondition-failed": 412,
    "too-large": 413,
    "unsupported-media-type": 415,
    "value-required": 422,
    "invalid-request": 422,
    "too-many-requests": 429,
    "internal-error": 500,
    "audit-unavailable": 503,
    "outcome-unknown": 503,
    "vault-unavailable": 503,
}
"""The status that goes with each slug; `invalid-request` is 400 where the request can't be read at all."""

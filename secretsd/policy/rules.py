"""The policy as values, and its two questions: may this client do that, and what kind of secret is this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal, TypeVar

from msgspec import UNSET, UnsetType

from secretsd.model import Capability, Rotation, SecretType, is_name
from secretsd.policy.cron import Cron
from secretsd.policy.names import NameSet
from secretsd.policy.windows import Window
from secretsd.rotators import RotatorRule

CAPABILITIES: Final[tuple[Capability, ...]] = ("read", "write", "rotate", "delete", "audit", "admin")
NEVER_BY_DEFAULT: Final[frozenset[Capability]] = frozenset({"admin"})
"""What has to be named: to operate the daemon is another trust than to use all secrets."""
SCHEDULE: Final = "secretsd"
"""The client that stands for the daemon's own schedule in events; no client may be called so."""

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")

_CACHED: Final = 65_536


@dataclass(frozen=True, slots=True)
class TokenProof:
    """Whoever has the token of this SHA-256 is the client, until `not_after_ms` (None: without end)."""

    sha256: bytes
    not_after_ms: int | None = None


@dataclass(frozen=True, slots=True)
class UidProof:
    """The user of this machine with this uid is the client."""

    uid: int


CertificateMark = tuple[Literal["sha256", "subject", "san"], str]
"""What is told of a certificate: the SHA-256 of its DER in lower-case hex, its subject as RFC 4514 writes it, or one
of its alternative names, "DNS:…" in lower case or "URI:…"."""


@dataclass(frozen=True, slots=True)
class CertificateProof:
    """Whoever has the key of a client certificate that bears `mark` is the client, until `not_after_ms`."""

    mark: CertificateMark
    not_after_ms: int | None = None


@dataclass(frozen=True, slots=True)
class SocketProof:
    """Whoever connects through the Unix socket at `path` is the client: it is bound for this client alone."""

    path: Path


Proof = TokenProof | UidProof | CertificateProof | SocketProof


@dataclass(frozen=True, slots=True)
class ClientRule:
    """What one client may do. Without `auth` the header alone names it."""

    allow: NameSet
    deny: NameSet
    can: frozenset[Capability]
    auth: tuple[Proof, ...] = ()
    consumer: bool = True
    """Whether what it reads counts as used by it: an operator looks at values, and uses none."""


@dataclass(frozen=True, slots=True)
class SecretRule:
    """What a name says of a secret. None (UNSET for the periods, where None is "never") leaves it open.

    `cron` stands in place of a period: a rule has one of the two at most. With `converges` a grace ends when all
    consumers have moved on, at the latest when its period is over.
    """

    pattern: str
    type: SecretType | None = None
    rotation: Rotation | None = None
    rotation_ms: int | UnsetType | None = UNSET
    grace_ms: int | UnsetType | None = UNSET
    jwks: bool = False
    rotator: RotatorRule | None = None
    converges: bool = False
    """What brings a new value to the other end; None: nothing does."""
    publish_ahead_ms: int | None = None
    """How long before its use a new signing key is published."""
    cron: Cron | None = None
    window: Window | None = None
    """What a rotation by schedule waits for."""
    not_with: tuple[str, ...] = ()
    """Names and globs of what isn't rotated within `gap_ms` of it."""
    gap_ms: int = 0


BUILT_IN: Final = (
    SecretRule("jwt_signing_key", type="jwt_signing_key", rotation="auto", jwks=True),
    SecretRule("*_password", type="password"),
    SecretRule("*_encryption_key", type="encryption_key", grace_ms=None),
    SecretRule("*_api_key", type="external"),
    SecretRule("*_token", type="external"),
    SecretRule("*_url", type="external", rotation_ms=None),
)
"""The rules behind those of the file."""

NO_RULE: Final = SecretRule("")
"""What is said of a name that no rule matches: nothing."""


@dataclass(frozen=True, slots=True)
class Policy:
    """policy.yaml, checked. `rules` are the file's and then the built-in ones.

    `sha256` is that of the file's bytes, in hex. Answers are remembered per name up to a bound, as names come
    from outside.
    """

    clients: Mapping[str, ClientRule]
    rules: tuple[SecretRule, ...]
    sha256: str
    warnings: tuple[str, ...] = ()
    token_owners: Mapping[bytes, tuple[str, ...]] = field(init=False, repr=False)
    uid_owners: Mapping[int, tuple[str, ...]] = field(init=False, repr=False)
    certificate_owners: Mapping[CertificateMark, tuple[str, ...]] = field(init=False, repr=False)
    socket_owners: Mapping[Path, str] = field(init=False, repr=False)
    _reach: dict[tuple[str, str], bool] = field(init=False, repr=False, compare=False, default_factory=dict)
    _found: dict[str, SecretRule] = field(init=False, repr=False, compare=False, default_factory=dict)
    _matchers: tuple[tuple[NameSet, SecretRule], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        tokens: dict[bytes, tuple[str, ...]] = {}
        uids: dict[int, tuple[str, ...]] = {}
        marks: dict[CertificateMark, tuple[str, ...]] = {}
        sockets: dict[Path, str] = {}
        for client, rule in self.clients.items():
            for proof in dict.fromkeys(rule.auth):
                if isinstance(proof, UidProof):
                    uids[proof.uid] = (*uids.get(proof.uid, ()), client)
                elif isinstance(proof, CertificateProof):
                    marks[proof.mark] = (*marks.get(proof.mark, ()), client)
                elif isinstance(proof, SocketProof):
                    sockets[proof.path] = client
                else:
                    tokens[proof.sha256] = (*tokens.get(proof.sha256, ()), client)
        object.__setattr__(self, "token_owners", tokens)
        object.__setattr__(self, "uid_owners", uids)
        object.__setattr__(self, "certificate_owners", marks)
        object.__setattr__(self, "socket_owners", sockets)
        object.__setattr__(self, "_matchers", tuple((NameSet([rule.pattern]), rule) for rule in self.rules))

    @property
    def unproven(self) -> tuple[str, ...]:
        """The clients without a proof, which whoever sends their name can be."""
        return tuple(name for name, rule in self.clients.items() if not rule.auth)

    def may(self, client: str, capability: Capability, name: str | None = None) -> bool:
        """Tell whether `client` may do what `capability` stands for with the secret `name`.

        `name` is None for what concerns no single secret (the audit log, the daemon itself): then the capability
        decides alone.
        Any text can be asked about, also what is no name: deny beats allow, and what isn't allowed is denied.
        """
        rule = self.clients.get(client)
        if rule is None or capability not in rule.can:
            return False
        if name is None:
            return True
        key = (client, name)
        reached = self._reach.get(key)
        if reached is None:
            reached = name in rule.allow and name not in rule.deny
            if is_name(name):
                _remember(self._reach, key, reached)
        return reached

    def rule_for(self, name: str) -> SecretRule:
        """Return what the first matching rule says of `name`, NO_RULE where none matches.

        A rule that names no type takes it from the next matching one that does: a rule of the file about the
        period of "db_password" doesn't make it something else than a password.
        """
        rule = self._found.get(name)
        if rule is None:
            rule = self._look_up(name)
            if is_name(name):
                _remember(self._found, name, rule)
        return rule

    def _look_up(self, name: str) -> SecretRule:
        matching = [rule for names, rule in self._matchers if name in names]
        if not matching:
            return NO_RULE
        kind = next((rule.type for rule in matching if rule.type is not None), None)
        return replace(matching[0], type=kind)


def _remember(cache: dict[KeyT, ValueT], key: KeyT, value: ValueT) -> None:
    if len(cache) >= _CACHED:
        cache.clear()
    cache[key] = value

"""What `data` holds, type by type: the structs that the daemon fills and that the published schemas are made from.

Readers ignore members that they don't know, so these grow by adding members; docs/events.md says what each means.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

MAX_INTEGER: Final = 2**53 - 1
MAX_LAGGARDS: Final = 16

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$", description="A secret's or client's name")]
Kid = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{16,64}$", description="A version's id, random")]
Count = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
Time = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$",
        description="RFC 3339 in UTC with milliseconds; 9999-12-31T23:59:59.999Z is never",
    ),
]
Reason = Annotated[str, Meta(max_length=200)]
Type = Literal["jwt_signing_key", "password", "api_key", "encryption_key", "generic", "external"]
Status = Literal["active", "expiring", "expired", "deleted"]
Auth = Literal["header", "token", "uid", "tls", "socket", "daemon"]


class Payload(Struct, frozen=True, kw_only=True):
    """The `data` of an event."""

    def data(self) -> dict[str, Any]:
        """Return it as plain objects, the way it goes into an event."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain


class Previous(Struct, frozen=True, kw_only=True):
    """The newest version that is still readable besides the current one."""

    version: Count
    kid: Kid
    grace_until: Time


class SecretChanged(Payload, frozen=True, kw_only=True):
    """A secret as it stands after a commit, and what caused it; never its value, nor a hash of one."""

    name: Name
    version: Count
    kid: Kid
    type: Type
    status: Status
    expires_at: Time
    previous: Previous | None
    epoch: str
    generation: Count
    client: Annotated[str, Meta(description="Who caused it; `secretsd` for the schedule")]
    reason: Reason | None
    urgent: Annotated[bool, Meta(description="The grace of all versions ended at once")]
    spread_ms: Annotated[int, Meta(ge=0, description="Over which clients spread their refetch")]


class SecretRetired(SecretChanged, frozen=True, kw_only=True):
    """A grace is over: the secret as it stands, and the version whose ciphertext was destroyed."""

    retired_version: Count
    retired_kid: Kid
    laggards: Annotated[
        Annotated[dict[str, Time], Meta(max_length=MAX_LAGGARDS)] | None,
        Meta(
            description="Who is known to use that version still (`client` or `client/instance`), and when it was last "
            "seen; null where that isn't known",
        ),
    ] = None
    laggard_count: Annotated[Count | None, Meta(description="How many there are; not all of them are named")] = None


class KeyPublished(SecretChanged, frozen=True, kw_only=True):
    """The signing key of the next rotation is in the JWK set: the secret as it stands, and the key to come."""

    upcoming_version: Count
    upcoming_kid: Kid


class RotationFailed(SecretChanged, frozen=True, kw_only=True):
    """A rotation doesn't get through to the other end: the secret as it stands, with the old value still in force."""

    attempts: Annotated[int, Meta(ge=0, le=MAX_INTEGER, description="How many failed since it was last asked for")]
    step: Annotated[
        Literal["set", "test", "finish", "undo"],
        Meta(description="What is tried next; at `finish` the new value is in force, and only tidying up fails"),
    ]


class Accessed(Payload, frozen=True, kw_only=True, omit_defaults=True):
    """An allowed access, a 304 too. `instance` and `superseded` are there only where they say something."""

    client: str
    instance: Annotated[
        Name | None, Meta(description="Which of the processes that share the client's name it says it is")
    ] = None
    auth: Auth
    action: str
    name: Name | None
    kid: Kid | None
    version: Count | None
    superseded: Annotated[
        bool, Meta(description="Whether `version` was no longer the current one, only in its grace")
    ] = False
    outcome: Annotated[str, Meta(description="`ok`, `not-modified`, or the slug of the problem that was answered")]
    reason: Reason | None
    peer: Annotated[str, Meta(description="The other end's address, `unix`, or `daemon` for itself")]
    request_id: str


class Refused(Payload, frozen=True, kw_only=True):
    """A refused access, or `count` alike that were folded into one line."""

    client: Annotated[str | None, Meta(description="null unless the policy knows it")]
    auth: Auth | None
    action: str
    name: Annotated[Name | None, Meta(description="null unless the secret exists or existed")]
    kid: None = None
    version: None = None
    outcome: Literal["denied", "failed"]
    reason: Reason | None
    peer: str
    request_id: Annotated[str | None, Meta(description="null where several were folded")]
    count: Annotated[int, Meta(ge=1, le=MAX_INTEGER)]


class DaemonLife(Payload, frozen=True, kw_only=True):
    """The daemon started or stopped."""

    version: Annotated[str, Meta(description="Of secretsd")]
    session: Annotated[int, Meta(ge=0, description="The newest broker connection; 0 before the first")]
    epoch: str
    generation: Count
    note: str | None


class PolicyChanged(Payload, frozen=True, kw_only=True):
    """A policy was taken up, or refused whole."""

    sha256: Annotated[str | None, Meta(description="Of the policy file; null where it could not be read")]
    reason: Reason | None
    epoch: str
    generation: Count


class Gap(Payload, frozen=True, kw_only=True):
    """Lines that will never be published, `first` to `last`."""

    first: Count
    last: Count
    reason: Reason


class Introduction(Payload, frozen=True, kw_only=True):
    """A new signing key, introduced by the old one; `proof` is the new key's signature over the bytes of `jwk`."""

    jwk: Annotated[dict[str, Any], Meta(description="RFC 8037: an OKP key on Ed25519")]
    proof: str


class SigningKeyRotated(Introduction, frozen=True, kw_only=True):
    """The last line of the old signing key, and who asked for the new one."""

    key: Literal["signing"]
    client: str
    reason: Reason | None
    epoch: str
    generation: Count


class VaultKeyRotated(Payload, frozen=True, kw_only=True):
    """Another key of the daemon's own was changed, and who asked for it."""

    key: Literal["data", "master", "passphrase"]
    client: str
    reason: Reason | None
    epoch: str
    generation: Count


class Checkpoint(Payload, frozen=True, kw_only=True):
    """How far the daemon is: what tells a quiet bus from one that keeps something back."""

    sequence: Count
    head: Annotated[str, Meta(description="base64url SHA-256 of the newest line")]
    epoch: str
    generation: Count
    session: Count
    uptime_ms: Count
    interval_secs: Annotated[int, Meta(ge=1)]


class Presence(Payload, frozen=True, kw_only=True):
    """Whether the daemon is connected to the broker; `offline` is the will."""

    state: Literal["online", "offline"]
    session: Count


class Kind(Struct, frozen=True):
    """One type of event: what its `data` is, and when it comes."""

    data: type[Payload]
    when: str
    chained: bool = True


KINDS: Final[Mapping[str, Kind]] = {
    "secret.created": Kind(SecretChanged, "A secret was made."),
    "secret.updated": Kind(SecretChanged, "A secret was given a new value."),
    "secret.rotated": Kind(SecretChanged, "A secret was rotated, or an earlier version restored."),
    "secret.rotation_started": Kind(SecretChanged, "A rotation is on its way to the other end."),
    "secret.rotation_failed": Kind(RotationFailed, "It doesn't get through, or was cancelled; the old value stays."),
    "secret.key_published": Kind(KeyPublished, "A signing key is in the JWK set before it is used."),
    "secret.expiring": Kind(SecretChanged, "A secret comes near its expiry."),
    "secret.expired": Kind(SecretChanged, "A secret has expired; it is still served."),
    "secret.retired": Kind(SecretRetired, "The grace of a version is over."),
    "secret.deleted": Kind(SecretChanged, "A secret was deleted."),
    "secret.read": Kind(Accessed, "A value was given out, or a reader who may read it asked in vain."),
    "secret.acknowledged": Kind(Accessed, "A client said that it uses this version now."),
    "secret.listed": Kind(Accessed, "Metadata, changes or audit lines were given out."),
    "access.denied": Kind(Refused, "A known client asked for more than the policy allows, or a request was foreign."),
    "access.failed": Kind(Refused, "A request with no credential or a wrong one."),
    "daemon.started": Kind(DaemonLife, "The daemon started, or an older state was knowingly accepted."),
    "daemon.stopped": Kind(DaemonLife, "The daemon stopped in order."),
    "policy.reloaded": Kind(PolicyChanged, "A policy is in force from this generation on."),
    "policy.rejected": Kind(PolicyChanged, "A policy was refused; the old one stays."),
    "audit.gap": Kind(Gap, "Owed events can't or won't be published."),
    "audit.key_rotated": Kind(SigningKeyRotated, "The signing key changed."),
    "vault.key_rotated": Kind(VaultKeyRotated, "A data key, the master key or its passphrase changed."),
    "secret.state": Kind(SecretChanged, "Retained: a secret as it stands now.", chained=False),
    "audit.checkpoint": Kind(Checkpoint, "Retained: how far the daemon is.", chained=False),
    "daemon.status": Kind(Presence, "Retained: whether the daemon is connected.", chained=False),
}
"""Every type, without its prefix `jarvis.secretsd.`."""

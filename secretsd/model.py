"""The plain values that travel between the parts: names, durations, metadata, requests and answers.

What HTTP takes and gives is defined here once, as msgspec structs; validation, JSON and the OpenAPI document
are made from them.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from secretsd_bus.payloads import Previous

NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
"""For documents. Python's `$` lets a final newline by: what decides is `is_name`."""
DURATION_PATTERN: Final = r"^([0-9]{1,9}[dhms]|never)$"
KID_PATTERN: Final = r"^[A-Za-z0-9_-]{16,64}$"
PATTERN_WORDS: Final = {
    NAME_PATTERN: "1 to 128 of A-Z, a-z, 0-9, dot, _ and -, the first a letter or digit",
    DURATION_PATTERN: 'a duration is a number and a unit ("90d", "12h", "30m", "45s") or "never"',
    KID_PATTERN: "16 to 64 of A-Z, a-z, 0-9, _ and -",
}
"""What the patterns of the wire ask for, for people."""
MAX_VALUE_BYTES: Final = 64 * 1024
MAX_IN_GRACE: Final = 8
MAX_REASON: Final = 200
NOT_BACK: Final = "the old value is not back"
"""How the failure of a rotation begins that left the other end with neither value known to work."""
MAX_SAFE_INTEGER: Final = 2**53 - 1
NEVER_MS: Final = 253402300799999
"""`9999-12-31T23:59:59.999Z`, the instant that stands for never, in epoch milliseconds."""

MAX_PATTERN: Final = 128

_NAME = re.compile(NAME_PATTERN[:-1] + r"\Z")
_GLOB = re.compile(rf"[A-Za-z0-9._*?-]{{1,{MAX_PATTERN}}}\Z")
_DURATION = re.compile(r"([0-9]{1,9})([dhms])\Z")
_UNIT_MS: Final = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000}
DAY_MS: Final = _UNIT_MS["d"]
MAX_DURATION_MS: Final = 36_500 * DAY_MS

SecretType = Literal["jwt_signing_key", "password", "api_key", "encryption_key", "generic", "external"]
Rotation = Literal["auto", "manual"]
Grace = Literal["period", "until-converged"]
Status = Literal["active", "expiring", "expired"]
Encoding = Literal["utf-8", "base64"]
Capability = Literal["read", "write", "rotate", "delete", "audit", "admin"]
AuthKind = Literal["header", "token", "uid", "tls", "socket"]

SecretName = Annotated[str, Meta(pattern=NAME_PATTERN, description="A secret's name")]
DurationText = Annotated[str, Meta(pattern=DURATION_PATTERN, description="A duration: 90d, 12h, 30m, 45s or never")]
KidText = Annotated[str, Meta(pattern=KID_PATTERN, description="A version's kid")]
Version = Annotated[int, Meta(ge=1, le=MAX_SAFE_INTEGER)]


def is_name(text: str) -> bool:
    """Tell whether `text` can be the name of a secret, a client or a node."""
    return _NAME.match(text) is not None


def is_glob(pattern: str) -> bool:
    """Tell whether `pattern` stands for more than itself."""
    return "*" in pattern or "?" in pattern


def is_pattern(text: str) -> bool:
    """Tell whether `text` is a name or a glob that a name can match."""
    if not is_glob(text):
        return is_name(text)
    return _GLOB.match(text) is not None and text[0] not in "._-"


def parse_duration(text: str) -> int | None:
    """Return the milliseconds that `text` ("90d", "12h", "30m", "45s") stands for, None for "never".

    Raises ValueError, with what is allowed, for anything else and for more than a hundred years.
    """
    if text == "never":
        return None
    match = _DURATION.match(text)
    if match is None:
        raise ValueError(PATTERN_WORDS[DURATION_PATTERN])
    milliseconds = int(match[1]) * _UNIT_MS[match[2]]
    if milliseconds > MAX_DURATION_MS:
        raise ValueError('a duration is at most "36500d"; longer is "never"')
    return milliseconds


class Frozen(Struct, frozen=True, kw_only=True):
    """A value of the wire."""


class Request(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request's body: an unknown member is refused."""


class PendingRotation(Frozen, frozen=True, kw_only=True):
    """A rotation that is on its way to the other end (docs/rotators.md).

    `step` comes next: set, test, finish (the new version is current, the other end is tidied up), undo. `failure` is
    why the last attempt failed; `failing` tells that it was announced, and that it is tried at a slow pace since.
    """

    version: int
    step: Literal["set", "test", "finish", "undo"]
    since: str
    attempts: int
    next_attempt: str
    failure: str | None
    failing: bool


class Upcoming(Frozen, frozen=True, kw_only=True):
    """A signing key that is published ahead: verifiers know it, and nobody signs with it yet."""

    version: int
    kid: str
    published_at: str


class Metadata(Frozen, frozen=True, kw_only=True):
    """What may be said of a secret to who may read it; never its value."""

    name: str
    version: int
    kid: str
    type: SecretType
    status: Status
    rotation: Rotation
    created_at: str
    expires_at: str
    previous: Previous | None
    generation: int
    pending: PendingRotation | UnsetType = UNSET
    upcoming: Upcoming | UnsetType = UNSET


class SecretAnswer(Metadata, frozen=True, kw_only=True):
    """A secret with its value."""

    value: str
    encoding: Encoding


class SecretList(Frozen, frozen=True, kw_only=True):
    """The answer to `GET /secrets`, and to `POST /secrets` of what it made."""

    secrets: list[Metadata]


class Change(Frozen, frozen=True, kw_only=True):
    """What a name came to since a generation."""

    name: str
    version: int
    kid: str
    status: Literal["active", "expiring", "expired", "deleted"]
    generation: int


class Changes(Frozen, frozen=True, kw_only=True):
    """The answer to `GET /changes`: `session` and `uptime_ms` let a client judge a checkpoint's age."""

    epoch: str
    generation: int
    session: int
    uptime_ms: int
    changes: list[Change]


class Occurrence(Frozen, frozen=True, kw_only=True):
    """Something that will happen to a secret by itself.

    `rotate` makes `version` current, `publish` makes its key known before; `expire` and `warn` are announced of it,
    `grace ends` is when it is destroyed. `due_at` is when it expires, or its grace does; a rotation may wait longer:
    for its `window`, or since it was `moved` for its distance to another, `moved_by`, which is null where the caller
    may not read that one. `schedule` is the rule's cron expression with its time zone; null where a period counts.
    """

    at: str
    name: str
    what: Literal["rotate", "publish", "expire", "warn", "grace ends"]
    version: int
    due_at: str
    schedule: str | None
    window: str | None
    moved: bool
    moved_by: str | None


class Schedule(Frozen, frozen=True, kw_only=True):
    """The answer to `GET /schedule`: what happens from `now` to `until` if nobody does anything by hand.

    `complete` is false where there is more than is told. While there is a `doubt` about the clock nothing happens.
    """

    now: str
    until: str
    complete: bool
    doubt: str | None
    occurrences: list[Occurrence]


class BusInfo(Frozen, frozen=True, kw_only=True):
    """The answer to `GET /bus`: where the broker is, without credentials."""

    url: str
    topic_prefix: str
    node: str


class Health(Frozen, frozen=True, kw_only=True):
    """The answer to `GET /healthz`."""

    status: Literal["ok", "unavailable"]
    version: str
    uptime_secs: int
    secrets_count: int
    bus: Literal["connected", "disconnected", "denied", "disabled"]
    clock: Literal["ok", "in-doubt"]
    reason: str | None


class ProblemDetails(Frozen, frozen=True, kw_only=True):
    """An error, RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str


class ValueIn(Request, frozen=True, kw_only=True):
    """A value with its encoding, in `values` of `POST /rotate`."""

    value: str
    encoding: Encoding = "utf-8"


class CreateSecret(Request, frozen=True, kw_only=True):
    """The body of `POST /secret`. Without a value one is generated by type."""

    name: SecretName
    value: str | UnsetType = UNSET
    encoding: Encoding = "utf-8"
    type: SecretType | UnsetType = UNSET
    rotation: Rotation | UnsetType = UNSET
    rotation_period: DurationText | UnsetType = UNSET
    grace_period: DurationText | UnsetType = UNSET
    rotation_days: Annotated[int, Meta(ge=1, le=36_500)] | UnsetType = UNSET
    grace_days: Annotated[int, Meta(ge=0, le=36_500)] | UnsetType = UNSET


class BatchEntry(CreateSecret, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of `POST /secrets`: a new secret, or with `replaces` a new version of one whose current kid that is."""

    replaces: KidText | UnsetType = UNSET


class CreateSecrets(Request, frozen=True, kw_only=True):
    """The body of `POST /secrets`: all of them or none, in one commit."""

    secrets: Annotated[list[BatchEntry], Meta(min_length=1, max_length=10_000)]


class PutSecret(Request, frozen=True, kw_only=True):
    """The body of `PUT /secret/{name}`."""

    value: str
    encoding: Encoding = "utf-8"
    grace_period: DurationText | UnsetType = UNSET
    grace_days: Annotated[int, Meta(ge=0, le=36_500)] | UnsetType = UNSET
    urgent: bool = False
    reason: Annotated[str, Meta(max_length=200)] | UnsetType = UNSET


class RotateRequest(Request, frozen=True, kw_only=True):
    """The body of `POST /rotate`: all of the names or none, in one commit."""

    names: Annotated[list[SecretName], Meta(min_length=1, max_length=10_000)]
    values: dict[SecretName, str | ValueIn] = msgspec.field(default_factory=dict)
    grace_period: DurationText | UnsetType = UNSET
    grace_days: Annotated[int, Meta(ge=0, le=36_500)] | UnsetType = UNSET
    urgent: bool = False
    reason: Annotated[str, Meta(max_length=200)] | UnsetType = UNSET


class Rotated(Frozen, frozen=True, kw_only=True):
    """The answer to `POST /rotate`."""

    rotated: list[Metadata]


KeyKind = Literal["data", "signing", "master", "passphrase"]


class RotateKeyRequest(Request, frozen=True, kw_only=True):
    """The body of `POST /keys/rotate`; `passphrase` is the new one, for `"key": "passphrase"` alone."""

    key: KeyKind
    passphrase: Annotated[str, Meta(min_length=1, max_length=4096)] | UnsetType = UNSET
    reason: Annotated[str, Meta(max_length=200)] | UnsetType = UNSET


class KeyRotated(Frozen, frozen=True, kw_only=True):
    """The answer to `POST /keys/rotate`: what holds now.

    `passphrase_pending`: the old passphrase opens master.key too, until the daemon is given the new one.
    """

    key: KeyKind
    generation: int
    signing_keyid: str
    passphrase_pending: bool


class RestoreRequest(Request, frozen=True, kw_only=True):
    """The body of `POST /secret/{name}/restore`."""

    version: Version
    reason: Annotated[str, Meta(max_length=200)] | UnsetType = UNSET


class AcknowledgeRequest(Request, frozen=True, kw_only=True):
    """The body of `POST /secret/{name}/ack`: one of the two."""

    version: Version | UnsetType = UNSET
    kid: KidText | UnsetType = UNSET


class AcknowledgedVersion(Frozen, frozen=True, kw_only=True):
    """The answer to `POST /secret/{name}/ack`. `current`: whether the version is the current one."""

    name: str
    version: int
    kid: str
    current: bool


ConsumerState = Literal["in-use", "current", "previous", "outdated", "never"]


class Consumer(Frozen, frozen=True, kw_only=True):
    """Where one client, or one of the processes that share it, stands with a secret (docs/consumers.md).

    `version` and `kid` are what it is taken to use, null where it never read the secret. `seen_at` is when it last
    asked for anything, `live` whether that is recent, `counts` whether the policy takes it for a consumer, `lags`
    whether more than half of the grace of what it uses is over.
    """

    client: str
    instance: str | None
    state: ConsumerState
    version: int | None
    kid: str | None
    read_at: str | None
    acknowledged_version: int | None
    acknowledged_at: str | None
    seen_at: str | None
    live: bool
    counts: bool
    lags: bool


class Consumers(Frozen, frozen=True, kw_only=True):
    """The answer to `GET /secret/{name}/consumers`.

    `complete`: all that was read since the oldest readable version was made is known. `current_since` is when the
    current version was made.
    """

    name: str
    version: int
    kid: str
    current_since: str
    previous: Previous | None
    grace: Grace
    complete: bool
    consumers: list[Consumer]

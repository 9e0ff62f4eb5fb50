"""The document in vault.json: its values, its bytes, its MAC (docs/vault.md).

A document is never changed; a commit makes the next one from it. The encoding of a record that did not change is
kept, so that a commit costs the changed records and one pass over the bytes.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace
from secretsd_bus import b64url_encode

from secretsd.crypto.sensitive import Sensitive
from secretsd.errors import VaultError
from secretsd.model import Encoding, Rotation, SecretType, Status

FORMAT: Final = 1
"""The format of a vault whose keys were never rotated."""
FORMAT_ROTATED: Final = 2
"""The same with the two members that the first rotation of its keys adds."""
FORMAT_PENDING: Final = 3
"""Either of them while a secret has a rotation that is under way, or an upcoming version: the format before can't be
told of it."""

Step = Literal["set", "test", "finish", "undo"]
"""What is to be done next of a pending rotation."""


class Value(Struct, frozen=True, forbid_unknown_fields=True):
    """A document's part; an unknown member means a newer format or an edit, and is refused."""


class VersionRecord(Value, frozen=True):
    """One version of a secret, sealed. `grace_until` is None while it is the current one."""

    version: int
    kid: str
    created_at: int
    encoding: Encoding
    nonce: str
    ciphertext: str
    grace_until: int | None = None


class Wishes(Value, frozen=True):
    """What the request that made the secret asked for; the policy's rule beats it. Periods in ms, -1 is never."""

    rotation: Rotation | None = None
    rotation_ms: int | None = None
    grace_ms: int | None = None


class Pending(Value, frozen=True):
    """A rotation on its way to the other end: what it will make current, and how far it is. Instants in ms.

    `version` is sealed like any other. `client`, `reason`, `urgent`, `verb` and `grace_ms` (None: until told) are what
    was asked for. `attempts` counts the failed ones since it was last asked for; `reported` tells that they were
    announced.
    """

    version: VersionRecord
    token: str
    step: Step
    verb: Literal["rotated", "updated"]
    client: str
    reason: str | None
    urgent: bool
    grace_ms: int | None
    attempts: int
    due_at: int
    failure: str | None = None
    reported: bool = False


class SecretRecord(Value, frozen=True):
    """A secret: its settings as decided at `generation`, and its versions, newest first. Instants in ms.

    `announced` counts the thresholds before expiry that were announced for the current version. `pending` is left out
    of the file where no rotation is under way, `upcoming` where no version is published ahead of its use.
    """

    type: SecretType
    rotation: Rotation
    rotation_ms: int | None
    grace_ms: int | None
    wishes: Wishes
    expires_at: int
    status: Status
    announced: int
    generation: int
    versions: tuple[VersionRecord, ...]
    pending: Pending | UnsetType = UNSET
    upcoming: VersionRecord | UnsetType = UNSET

    @property
    def published_ahead(self) -> VersionRecord | None:
        """The version that verifiers know and nobody signs with yet, None for none; made when it was published."""
        return None if isinstance(self.upcoming, UnsetType) else self.upcoming

    @property
    def under_way(self) -> Pending | None:
        """The rotation that the other end hears of, None for none."""
        return None if isinstance(self.pending, UnsetType) else self.pending

    @property
    def sealed(self) -> tuple[VersionRecord, ...]:
        """All values that are sealed here: the versions, and those that are still on their way."""
        pending, upcoming = self.under_way, self.published_ahead
        on_their_way = ([pending.version] if pending else []) + ([upcoming] if upcoming else [])
        return (*on_their_way, *self.versions) if on_their_way else self.versions

    @property
    def current(self) -> VersionRecord:
        """The version that is given to who asks for none."""
        return self.versions[0]

    @property
    def in_grace(self) -> tuple[VersionRecord, ...]:
        """The versions still readable besides the current one, newest first."""
        return self.versions[1:]


class Tombstone(Value, frozen=True):
    """What stays of a deleted name: a new secret of that name continues its versions."""

    version: int
    kid: str
    type: SecretType
    expires_at: int
    generation: int


class AuditMark(Value, frozen=True):
    """How far the audit log was durable when the commit was made."""

    log_id: str
    sequence: int
    head: str


class PolicyMark(Value, frozen=True):
    """The policy in force, and since which generation."""

    sha256: str
    generation: int


class OwedLine(Value, frozen=True):
    """An event of a commit whose line is not known to be durable; its key is epoch, generation and place."""

    type: str
    subject: str | None
    data: dict[str, Any]


class PastEpoch(Value, frozen=True):
    """An epoch that was ended by knowingly accepting an older state."""

    epoch: str
    generation: int


class Receipt(Value, frozen=True):
    """An answered change with an Idempotency-Key. `key` is a keyed digest, which can't be turned back.

    `fingerprint` is one too and, each after a space, the client and the kids that the change made, in the order of the
    request's names. Release 0.1.0 wrote the digest alone, and reads the whole as a digest that is no request's.
    """

    key: str
    fingerprint: str
    generation: int
    at: int

    @property
    def digest(self) -> str:
        """What the request is known by."""
        return self.fingerprint.partition(" ")[0]

    @property
    def client(self) -> str:
        """Who asked; empty in a receipt of release 0.1.0."""
        return "".join(self.fingerprint.split(" ")[1:2])

    @property
    def kids(self) -> Sequence[str]:
        """The kids that were made; none in a receipt of release 0.1.0, and in one that was left without."""
        return self.fingerprint.split(" ")[2:]

    def without_kids(self) -> Receipt:
        """Return the receipt as one that knows no more than that the change was made."""
        return replace(self, fingerprint=f"{self.digest} {self.client}")


class SealedKey(Value, frozen=True):
    """A key that is kept in the document, sealed under the data key."""

    nonce: str
    ciphertext: str


class Document(Value, frozen=True):
    """The whole vault as of one generation of one epoch.

    `data_key` is the id that its keys are derived with, `fingerprint_key` the key of its receipts, which outlives a
    rotation; None in a vault whose keys were never rotated.
    """

    vault_id: str
    epoch: str
    generation: int
    audit: AuditMark
    policy: PolicyMark
    secrets: Mapping[str, SecretRecord]
    tombstones: Mapping[str, Tombstone] = {}
    outbox: tuple[OwedLine, ...] = ()
    past_epochs: tuple[PastEpoch, ...] = ()
    receipts: tuple[Receipt, ...] = ()
    data_key: str | None = None
    fingerprint_key: SealedKey | None = None

    @property
    def format(self) -> int:
        """The number that the document in the file begins with."""
        if any(record.sealed is not record.versions for record in self.secrets.values()):
            return FORMAT_PENDING
        return FORMAT if self.data_key is None else FORMAT_ROTATED

    @property
    def position(self) -> str:
        """`EPOCH:GENERATION`, as HTTP has it."""
        return f"{self.epoch}:{self.generation}"


class _Stored(Value, frozen=True, kw_only=True):
    """The document as it lies in the file, with keys that were never rotated."""

    vault_id: str
    epoch: str
    generation: int
    audit: AuditMark
    policy: PolicyMark
    secrets: dict[str, SecretRecord]
    tombstones: dict[str, Tombstone]
    outbox: tuple[OwedLine, ...]
    past_epochs: tuple[PastEpoch, ...]
    receipts: tuple[Receipt, ...]
    format: int
    mac: str


class _StoredRotated(_Stored, frozen=True, kw_only=True):
    """The same after a rotation of its keys."""

    data_key: str
    fingerprint_key: SealedKey


class Preamble(Struct, frozen=True):
    """What a document claims of itself, and its keys are derived with; proven by its MAC under them."""

    format: int
    vault_id: str
    data_key: str | None = None


class Codec:
    """Turns documents into bytes and back, under one MAC key; remembers the encoding of unchanged records."""

    def __init__(self, mac_key: Sensitive) -> None:
        self._mac_key = mac_key
        self._fragments: dict[str, tuple[SecretRecord | None, bytes]] = {}
        """Each record with its encoding as a member, by name in order."""

    @staticmethod
    def preamble(data: bytes, path: Path) -> Preamble:
        """Return the ids that the document claims, which its keys are derived with. Raises VaultError."""
        try:
            preamble = msgspec.json.decode(data, type=Preamble)
            preamble.vault_id.encode("ascii")
            (preamble.data_key or "").encode("ascii")
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise _not_a_vault(path) from error
        if preamble.format not in {FORMAT, FORMAT_ROTATED, FORMAT_PENDING}:
            raise VaultError(
                f"{path} has format {preamble.format} and this secretsd knows {FORMAT} to {FORMAT_PENDING}: it was "
                "written by another version of secretsd; install that one, or restore the backup made before the "
                "change"
            )
        return preamble

    def encode(self, document: Document) -> bytes:
        """Return the canonical JSON (RFC 8785) of `document` with its MAC, and a newline."""
        rotated = {
            "data_key": _plain(document.data_key),
            "fingerprint_key": _plain(document.fingerprint_key),
        }
        before = _members(
            audit=_plain(document.audit),
            **(rotated if document.data_key is not None else {}),
            epoch=_plain(document.epoch),
            format=_plain(document.format),
            generation=_plain(document.generation),
        )
        after = _members(
            outbox=_plain(document.outbox),
            past_epochs=_plain(document.past_epochs),
            policy=_plain(document.policy),
            receipts=_plain(document.receipts),
            secrets=self._secrets(document.secrets),
            tombstones=_plain(dict(document.tombstones)),
            vault_id=_plain(document.vault_id),
        )
        # The MAC is over the document without it. `mac` sorts between the two parts.
        digest = hmac.new(self._mac_key.reveal(), digestmod=hashlib.sha256)
        for part in (b"{", before, b",", after, b"}"):
            digest.update(part)
        mac = _members(mac=_plain(b64url_encode(digest.digest())))
        return b"".join((b"{", before, b",", mac, b",", after, b"}\n"))

    def decode(self, data: bytes, path: Path) -> Document:
        """Return the document in `data`. `path` is for the messages.

        Raises VaultError when the bytes aren't exactly what `encode` made under this key.
        """
        try:
            # A number that doesn't fit the members is seen below: the document is written with the one that does.
            kind = _Stored if self.preamble(data, path).data_key is None else _StoredRotated
            stored = msgspec.json.decode(data, type=kind)
            members = {name: getattr(stored, name) for name in kind.__struct_fields__ if name not in {"format", "mac"}}
            document = Document(**members)
            written = self.encode(document)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise _not_a_vault(path) from error
        if not hmac.compare_digest(written, data):
            raise VaultError(
                f"{path} fails its MAC: it was edited, or {path.parent}/master.key is another vault's. Put the right "
                "master key back, or restore vault.json and the audit log from one backup"
            )
        return document

    def _secrets(self, records: Mapping[str, SecretRecord]) -> bytes:
        fragments = self._fragments
        if fragments.keys() != records.keys():
            self._fragments = fragments = {name: fragments.get(name, (None, b"")) for name in sorted(records)}
        for name, (known, _) in fragments.items():
            record = records[name]
            if known is not record:
                fragments[name] = (record, _member(name, _plain(record)))
        return b"{" + b",".join([fragment for _, fragment in fragments.values()]) + b"}"


def _not_a_vault(path: Path) -> VaultError:
    return VaultError(
        f"{path} is not a vault: it is truncated or was edited. Restore vault.json and the audit log from one backup, "
        "then run `secretsctl vault accept-rollback`"
    )


def _plain(value: object) -> bytes:
    # With ASCII keys and without floats this is RFC 8785, as a test against the reference implementation holds.
    return msgspec.json.encode(value, order="sorted")


def _members(**encoded: bytes) -> bytes:
    """Return members of an object, in the order of their names."""
    return b",".join([_member(name, encoded[name]) for name in sorted(encoded)])


def _member(name: str, encoded: bytes) -> bytes:
    return b'"%b":%b' % (name.encode("ascii"), encoded)

"""Vault documents for tests: a strategy for any of them, and one with something in every member."""

from __future__ import annotations

from hypothesis import strategies as st
from msgspec import UNSET

from secretsd.crypto.derive import derive
from secretsd.crypto.sensitive import Sensitive
from secretsd.vault.document import (
    AuditMark,
    Codec,
    Document,
    OwedLine,
    PastEpoch,
    Pending,
    PolicyMark,
    Receipt,
    SecretRecord,
    Tombstone,
    VersionRecord,
    Wishes,
)

MASTER = Sensitive(bytes(range(32)))
VAULT_ID = "vault-id-0123456789abc"

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
IDS = st.text("abcXYZ019_-", min_size=16, max_size=22)
NUMBERS = st.integers(0, 2**53 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
_PLAIN = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXT
_DATA = st.dictionaries(
    st.text("abcdefgh_", min_size=1, max_size=8),
    _PLAIN | st.dictionaries(st.text("xyz", min_size=1, max_size=3), _PLAIN, max_size=3),
    max_size=5,
)
_TYPES = st.sampled_from(["jwt_signing_key", "password", "api_key", "encryption_key", "generic", "external"])
_VERSIONS = st.builds(
    VersionRecord,
    version=NUMBERS,
    kid=IDS,
    created_at=NUMBERS,
    encoding=st.sampled_from(["utf-8", "base64"]),
    nonce=IDS,
    ciphertext=IDS,
    grace_until=st.none() | NUMBERS,
)
_PENDING = st.builds(
    Pending,
    version=_VERSIONS,
    token=IDS,
    step=st.sampled_from(["set", "test", "finish", "undo"]),
    verb=st.sampled_from(["rotated", "updated"]),
    client=IDS,
    reason=st.none() | TEXT,
    urgent=st.booleans(),
    grace_ms=st.none() | NUMBERS,
    attempts=st.integers(0, 3),
    due_at=NUMBERS,
    failure=st.none() | TEXT,
    reported=st.booleans(),
)
RECORDS = st.builds(
    SecretRecord,
    type=_TYPES,
    rotation=st.sampled_from(["auto", "manual"]),
    rotation_ms=st.none() | NUMBERS,
    grace_ms=st.none() | NUMBERS,
    wishes=st.builds(
        Wishes,
        rotation=st.none() | st.sampled_from(["auto", "manual"]),
        rotation_ms=st.none() | NUMBERS,
        grace_ms=st.none() | NUMBERS,
    ),
    expires_at=NUMBERS,
    status=st.sampled_from(["active", "expiring", "expired"]),
    announced=st.integers(0, 3),
    generation=NUMBERS,
    versions=st.lists(_VERSIONS, min_size=1, max_size=4).map(tuple),
    pending=st.just(UNSET) | _PENDING,
)
DOCUMENTS = st.builds(
    Document,
    vault_id=st.just(VAULT_ID),
    epoch=IDS,
    generation=NUMBERS,
    audit=st.builds(AuditMark, log_id=IDS, sequence=NUMBERS, head=IDS),
    policy=st.builds(PolicyMark, sha256=IDS, generation=NUMBERS),
    secrets=st.dictionaries(NAMES, RECORDS, max_size=4),
    tombstones=st.dictionaries(
        NAMES,
        st.builds(Tombstone, version=NUMBERS, kid=IDS, type=_TYPES, expires_at=NUMBERS, generation=NUMBERS),
        max_size=3,
    ),
    outbox=st.lists(st.builds(OwedLine, type=IDS, subject=st.none() | TEXT, data=_DATA), max_size=3).map(tuple),
    past_epochs=st.lists(st.builds(PastEpoch, epoch=IDS, generation=NUMBERS), max_size=2).map(tuple),
    receipts=st.lists(st.builds(Receipt, key=IDS, fingerprint=IDS, generation=NUMBERS, at=NUMBERS), max_size=2).map(
        tuple
    ),
)


def codec(master: Sensitive = MASTER) -> Codec:
    return Codec(derive(master, "vault-mac", VAULT_ID))


def document() -> Document:
    """A document in which every member has something in it."""
    version = VersionRecord(2, "k" * 22, 1, "utf-8", "n" * 16, "c" * 40)
    before = VersionRecord(1, "o" * 22, 0, "base64", "m" * 16, "d" * 40, 99)
    record = SecretRecord("password", "manual", 9, None, Wishes(), 10, "active", 0, 4, (version, before))
    return Document(
        vault_id=VAULT_ID,
        epoch="e" * 22,
        generation=4,
        audit=AuditMark("log", 12, "h" * 43),
        policy=PolicyMark("00", 1),
        secrets={"db_password": record},
        tombstones={"gone": Tombstone(3, "g" * 22, "generic", 8, 2)},
        outbox=(OwedLine("secret.rotated", "db_password", {"reason": "é", "previous": None, "urgent": False}),),
        past_epochs=(PastEpoch("p" * 22, 1),),
        receipts=(Receipt("r" * 43, "f" * 43, 3, 7),),
    )

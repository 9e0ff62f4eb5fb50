"""What a change with an Idempotency-Key is known by when it is asked for again, and what it made (docs/vault.md)."""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec import Struct
from secretsd_bus import b64url_encode

from secretsd.crypto.sensitive import Sensitive
from secretsd.errors import Problem
from secretsd.model import DAY_MS
from secretsd.rotation.pending import brought
from secretsd.vault.document import Document, Receipt, SecretRecord

RECEIPT_LIFE_MS: Final = DAY_MS
RECEIPTS_MOST: Final = 256
KIDS_MOST: Final = 16_384
"""In all receipts together, some 400 KB of the document; one request names 10,000 at most. More are forgotten, never
the receipt with them: that a change was made must be known, or it is made again."""


@dataclass(frozen=True, slots=True)
class Keyed:
    """A request with an Idempotency-Key: two keyed digests, who asks, and when."""

    key: str
    digest: str
    client: str
    at: int

    @classmethod
    def of(
        cls, secret: Sensitive, client: str, key: str, parts: Sequence[str], body: Struct | None, now_ms: int
    ) -> Keyed:
        """Return the request of `client` under `key`: its action, name and condition are `parts`, `secret` the key."""
        action, name, *condition = [part.encode() for part in parts]
        content = b"" if body is None else msgspec.json.encode(body)
        own = _digest(secret, b"key", client.encode(), key.encode("utf-8", "surrogateescape"))
        return cls(own, _digest(secret, b"request", action, name, content, *condition), client, now_ms)

    def answered(self, document: Document) -> Receipt | None:
        """Return the receipt of the same request, None for none. Raises Problem where the key was another request's."""
        for known in document.receipts:
            if hmac.compare_digest(known.key, self.key) and self.at - known.at < RECEIPT_LIFE_MS:
                if hmac.compare_digest(known.digest, self.digest):
                    return known
                raise Problem(
                    "invalid-request",
                    "Idempotency-Key: used before for another request; make a new one for each change.",
                )
        return None

    def receipt(self, generation: int, records: Iterable[SecretRecord]) -> Receipt:
        """Return the receipt of the commit `generation` that made `records`, in the order of the request's names."""
        fingerprint = " ".join([self.digest, self.client, *(brought(record).kid for record in records)])
        return Receipt(self.key, fingerprint, generation, self.at)


@dataclass(frozen=True, slots=True)
class Carried:
    """A change that was carried out.

    With `document`; where there is a `receipt`, by an earlier request, and `document` is the one in force.
    """

    document: Document
    receipt: Receipt | None = None

    def kids(self, names: Sequence[str]) -> dict[str, str | None]:
        """Return the kid that the request made of each of its names; None where that can't be told any more."""
        if self.receipt is not None and self.receipt.kids:
            return dict(zip(names, self.receipt.kids, strict=True))
        return {name: self._kid(self.document.secrets.get(name)) for name in names}

    def _kid(self, record: SecretRecord | None) -> str | None:
        # A receipt that lost its kids, or is of release 0.1.0, knows the generation only.
        if record is None or (self.receipt is not None and record.generation != self.receipt.generation):
            return None
        return brought(record).kid


def remembered(receipts: Sequence[Receipt]) -> tuple[Receipt, ...]:
    """Return those of the receipts, newest first, that are kept; the newest one always is.

    Where there are too many, the client that has the most loses its oldest: none can push out what another has that has
    fewer. Where they have too many kids, so it is with these, be it the newest one's; the receipt stays without them.
    """
    kept = list(receipts)
    while len(kept) > RECEIPTS_MOST:
        del kept[_oldest_of_most(kept, [1] * len(kept))]
    counts = [len(receipt.kids) for receipt in kept]
    while sum(counts) > KIDS_MOST:
        place = _oldest_of_most(kept, counts)
        kept[place], counts[place] = kept[place].without_kids(), 0
    return tuple(kept)


def _oldest_of_most(receipts: Sequence[Receipt], weights: Sequence[int]) -> int:
    """Return the place of the oldest receipt that weighs anything, of the client whose weigh the most together."""
    load: Counter[str] = Counter()
    for receipt, weight in zip(receipts, weights, strict=True):
        load[receipt.client] += weight
    return max((load[receipts[place].client], place) for place, weight in enumerate(weights) if weight)[1]


def _digest(secret: Sensitive, *parts: bytes) -> str:
    framed = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    return b64url_encode(hmac.new(secret.reveal(), framed, hashlib.sha256).digest())

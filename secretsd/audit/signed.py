"""Documents that the log's key signs though they are no lines of it: a backup's manifest, the record of a pruning.

One object in canonical JSON and a newline. The signature is over the object without `signature`. Its `kind` keeps it
apart from events, which have none, and from the other documents.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from msgspec import Struct
from secretsd_bus import KeyRing, Refused, SigningKey, b64url_decode, b64url_encode, canonical

from secretsd.errors import SecretsdError

KIND_PREFIX: Final = "jarvis.secretsd."


class NotSigned(SecretsdError):
    """A document isn't of its kind, isn't canonical, or its signature fails; the message says which."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A document that was read, its signature not yet checked. `members` lacks kind, keyid and signature."""

    members: Mapping[str, Any]
    keyid: str
    _covered: bytes
    _signature: bytes

    def check(self, ring: KeyRing) -> None:
        """Return when a key of `ring` signed it. Raises NotSigned."""
        key = ring.get(self.keyid)
        if key is None:
            raise NotSigned(f"it is signed by the key {self.keyid}, which is none of those trusted")
        if not key.verify(self._signature, self._covered):
            raise NotSigned(f"its signature is not that of the key {self.keyid}: it was altered")


def encode(kind: str, members: Struct, key: SigningKey) -> bytes:
    """Return the document's bytes. `members` holds what canonical JSON can."""
    document = {**msgspec.json.decode(msgspec.json.encode(members)), "kind": KIND_PREFIX + kind, "keyid": key.keyid}
    document["signature"] = b64url_encode(key.sign(canonical.encode(document)))
    return canonical.encode(document) + b"\n"


def decode(kind: str, data: bytes) -> Signed:
    """Return the document in `data`. Raises NotSigned when it isn't one of this kind."""
    try:
        document = canonical.decode(data.removesuffix(b"\n"))
        signature = b64url_decode(str(document.pop("signature")))
        covered = canonical.encode(document)
        keyid = str(document.pop("keyid"))
        found = document.pop("kind")
    except (Refused, KeyError, ValueError) as error:
        raise NotSigned("it is truncated or was edited") from error
    if found != KIND_PREFIX + kind:
        raise NotSigned(f"it is no {kind.replace('-', ' ')}")
    return Signed(document, keyid, covered, signature)

"""Events as the daemon writes them: CloudEvents in canonical JSON, chained and signed (docs/events.md)."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, Self

from msgspec import Struct

from secretsd_bus import canonical
from secretsd_bus.keys import SigningKey, b64url_encode
from secretsd_bus.payloads import Introduction

PREFIX: Final = "jarvis.secretsd."
SOURCE_PREFIX: Final = "/jarvis/secretsd/"
ZERO_HASH: Final = "A" * 43
"""`prev` of a log's first line."""

UNCHAINED: Final = frozenset({"secret.state", "audit.checkpoint", "daemon.status"})
"""The types that stand in no log: without `sequence` and `prev`."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TIME: Final = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?Z", re.ASCII)


class Event(Struct, frozen=True):
    """One event. `type` is without `jarvis.secretsd.`; `raw` holds the signed bytes as they travel."""

    type: str
    subject: str | None
    time: str
    id: str
    source: str
    keyid: str
    data: dict[str, Any]
    sequence: int | None
    prev: str | None
    raw: bytes


def rfc3339(ms: int) -> str:
    """Return epoch milliseconds as RFC 3339 in UTC: `2026-11-23T17:00:00.123Z`.

    Raises ValueError outside the years 1 to 9999.
    """
    return f"{_second(ms // 1000)}.{ms % 1000:03}Z"


@lru_cache(maxsize=4096)
def _second(seconds: int) -> str:
    """Return epoch seconds up to RFC 3339's fraction: many times fall into one second."""
    try:
        moment = _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        raise ValueError("a time outside the years 1 to 9999") from None
    return moment.isoformat(timespec="seconds")[: -len("+00:00")]


def parse_time(text: str) -> int:
    """Return epoch milliseconds of an RFC 3339 time in UTC (`Z`), finer digits cut off. Raises ValueError."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError("not a time in RFC 3339 with Z, such as 2026-11-23T17:00:00.123Z")
    whole, fraction = match.groups()
    seconds = (datetime.fromisoformat(whole + "+00:00") - _EPOCH) // timedelta(seconds=1)
    return seconds * 1000 + int(((fraction or "") + "000")[:3])


def line_hash(raw: bytes) -> str:
    """Return the base64url SHA-256 of a line's bytes (without its newline): the next line's `prev`."""
    return b64url_encode(hashlib.sha256(raw).digest())


def key_rotated(new: SigningKey) -> dict[str, Any]:
    """Return the `data` of an `audit.key_rotated` that introduces `new`; the old key signs the event."""
    jwk = new.public.to_jwk()
    return Introduction(jwk=jwk, proof=b64url_encode(new.sign(canonical.encode(jwk)))).data()


class _Signer:
    """What both kinds of events share: who writes, and how an envelope becomes signed bytes."""

    def __init__(self, *, log_id: str, node: str, key: SigningKey) -> None:
        self.log_id = log_id
        self.key = key
        self.node = node
        self._source = SOURCE_PREFIX + node

    def _sign(
        self,
        type: str,  # noqa: A002 — CloudEvents' own word
        subject: str | None,
        data: dict[str, Any],
        time: str,
        *,
        id: str,  # noqa: A002
        place: tuple[int, str] | None,
    ) -> Event:
        envelope: dict[str, Any] = {
            "specversion": "1.0",
            "id": id,
            "source": self._source,
            "type": PREFIX + type,
            "time": time,
            "datacontenttype": "application/json",
            "keyid": self.key.keyid,
            "data": data,
        }
        if subject is not None:
            envelope["subject"] = subject
        sequence, prev = place or (None, None)
        if place is not None:
            envelope["sequence"] = f"{sequence:020}"
            envelope["prev"] = prev
        unsigned = canonical.encode(envelope)
        signature = b64url_encode(self.key.sign(unsigned)).encode()
        # The object need not be encoded twice: `signature` sorts right before `source`, whose last occurrence
        # is the envelope's own, since `data` comes earlier and no string holds an unescaped quote.
        at = unsigned.rindex(b',"source":')
        raw = b'%b,"signature":"%b"%b' % (unsigned[:at], signature, unsigned[at:])
        return Event(type, subject, time, id, self._source, self.key.keyid, data, sequence, prev, raw)


class Chain(_Signer):
    """Gives events their sequence, the hash of the line before, and their signature. Pure: writes nothing."""

    def __init__(self, *, log_id: str, node: str, key: SigningKey, sequence: int = 0, head: str = ZERO_HASH) -> None:
        """Continue after the line `sequence`, whose hash is `head`."""
        super().__init__(log_id=log_id, node=node, key=key)
        self.sequence = sequence
        self.head = head

    def append(
        self,
        type: str,  # noqa: A002 — CloudEvents' own word
        subject: str | None,
        data: dict[str, Any],
        time: str,
    ) -> Event:
        """Return the next event of the log and advance. `type` is without prefix, `time` RFC 3339.

        Raises ValueError when `data` holds what canonical JSON doesn't; then the chain stays where it was.
        """
        sequence = self.sequence + 1
        event = self._sign(type, subject, data, time, id=f"{self.log_id}-{sequence}", place=(sequence, self.head))
        self.sequence, self.head = sequence, line_hash(event.raw)
        return event

    def copy(self) -> Self:
        """Return a chain at the same place: kept while a batch is written, put back when it couldn't be."""
        return type(self)(log_id=self.log_id, node=self.node, key=self.key, sequence=self.sequence, head=self.head)


class Unchained(_Signer):
    """Seals states, checkpoints and statuses: signed alike, in no log, numbered within one broker session."""

    def __init__(self, *, log_id: str, node: str, key: SigningKey, session: int) -> None:
        super().__init__(log_id=log_id, node=node, key=key)
        self.session = session
        self._count = 0

    def seal(
        self,
        type: str,  # noqa: A002 — CloudEvents' own word
        subject: str | None,
        data: dict[str, Any],
        time: str,
    ) -> Event:
        """Return the event, signed, with the id `<log id>-<session>-<n>`; ValueError as in Chain.append."""
        self._count += 1
        return self._sign(type, subject, data, time, id=f"{self.log_id}-{self.session}-{self._count}", place=None)

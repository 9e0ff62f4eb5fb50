"""The readers' side: is this message what the daemon said? Shares no code with the writer.

It parses strictly, spells the object anew with another implementation of RFC 8785, checks the envelope, the
signature and the topic by itself; so a mistake of the writer can't hide behind the same mistake here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import rfc8785

from secretsd_bus._strict import parse
from secretsd_bus.errors import Refused
from secretsd_bus.events import Event, parse_time
from secretsd_bus.keys import KeyRing, VerifyKey, b64url_decode
from secretsd_bus.topics import Topics

_TYPE: Final = re.compile(r"jarvis\.secretsd\.([a-z][a-z_]*\.[a-z][a-z_]*)", re.ASCII)
_SOURCE: Final = re.compile(r"/jarvis/secretsd/[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_SEQUENCE: Final = re.compile(r"[0-9]{20}", re.ASCII)
_HASH: Final = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_NOT_PLAIN: Final = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_WITHOUT_PLACE: Final = ("secret.state", "audit.checkpoint", "daemon.status")
_INTEGER_LIMIT: Final = 2**53


class Verifier:
    """Verifies messages as they come from the broker. Follows no key by itself: see KeyRing.follow."""

    def __init__(self, topics: Topics, keyring: KeyRing) -> None:
        self._topics = topics
        self._keyring = keyring

    def verify(self, topic: str, payload: bytes) -> Event:
        """Return the event in `payload` if the daemon signed it and it counts on `topic`.

        Raises Refused with the first that holds of not-json, not-canonical, unknown-key, bad-signature,
        wrong-topic. Whether it is stale only the reader knows, who remembers what came before.
        """
        event = verify_line(payload, self._keyring)
        if topic not in self._topics.of(event):
            raise Refused("wrong-topic", "its content names another topic")
        return event


def verify_line(raw: bytes, keyring: KeyRing) -> Event:
    """Return the event in one line of an audit log (without newline), wherever it stands. Raises Refused."""
    envelope = parse(raw)
    if not _is_plain(envelope) or rfc8785.dumps(envelope) != raw:
        raise Refused("not-canonical", "not the canonical spelling of its content")
    event, signature = _read(envelope, raw)
    key = keyring.get(event.keyid)
    if key is None:
        raise Refused("unknown-key", f"signed by {event.keyid[:16]}, which is not trusted")
    del envelope["signature"]
    try:
        good = key.verify(b64url_decode(signature), rfc8785.dumps(envelope))
    except ValueError:
        good = False
    if not good:
        raise Refused("bad-signature", "the signature is not the key's over this content")
    return event


def follow_published(key: VerifyKey, jwks: Iterable[Mapping[str, Any]]) -> tuple[VerifyKey, int]:
    """Return the key that `key` was rotated to, however often, and the sequence of the last rotation.

    `jwks` is what `GET /keys` and the topic `keys` have: nobody vouches for it, so each step counts only by its line
    (`rotated`), signed by the key of the step before and agreed to by the next. Where nothing leads on from `key` it is
    returned itself, with -1.
    """
    lines = [jwk.get("rotated") for jwk in jwks if isinstance(jwk, Mapping)]
    left = [line.encode("utf-8", "replace") for line in lines if isinstance(line, str)]
    sequence, found = -1, True
    while found:
        found = False
        signed = f'"keyid":"{key.keyid}"'.encode()
        for line in (one for one in left if signed in one):
            ring = KeyRing([key])
            try:
                event = verify_line(line, ring)
            except Refused:
                continue
            new = ring.follow(event)
            if new is not None and event.sequence is not None and event.sequence > sequence:
                key, sequence, found = new, event.sequence, True
                break
    return key, sequence


def _is_plain(value: object) -> bool:
    """Tell whether the value is of the subset that any reader, jq included, spells alike."""
    match value:
        case str():
            return _NOT_PLAIN.search(value) is None
        case bool() | None:
            return True
        case int():
            return -_INTEGER_LIMIT < value < _INTEGER_LIMIT
        case dict():
            return all(key.isascii() and _is_plain(key) and _is_plain(member) for key, member in value.items())
        case list():
            return all(_is_plain(element) for element in value)
    return False


def _read(envelope: dict[str, Any], raw: bytes) -> tuple[Event, str]:
    """Return the event and its signature; raise Refused when a member of the envelope is missing or wrong."""
    if envelope.get("specversion") != "1.0" or envelope.get("datacontenttype") != "application/json":
        raise Refused("not-canonical", "not a CloudEvent 1.0 with JSON data")
    data = envelope.get("data")
    if not isinstance(data, dict):
        raise Refused("not-canonical", "data is not an object")
    kind = _TYPE.fullmatch(_text(envelope, "type"))
    if kind is None or _SOURCE.fullmatch(_text(envelope, "source")) is None:
        raise Refused("not-canonical", "type or source is not the daemon's")
    subject = _text(envelope, "subject") if "subject" in envelope else None
    try:
        parse_time(_text(envelope, "time"))
    except ValueError as error:
        raise Refused("not-canonical", str(error)) from error
    sequence, prev = (None, None) if kind[1] in _WITHOUT_PLACE else _place(envelope)
    if sequence is None and ("sequence" in envelope or "prev" in envelope):
        raise Refused("not-canonical", "a message outside the log names a place in it")
    event = Event(
        type=kind[1],
        subject=subject,
        time=_text(envelope, "time"),
        id=_text(envelope, "id"),
        source=_text(envelope, "source"),
        keyid=_text(envelope, "keyid"),
        data=data,
        sequence=sequence,
        prev=prev,
        raw=raw,
    )
    return event, _text(envelope, "signature")


def _text(envelope: dict[str, Any], member: str) -> str:
    value = envelope.get(member)
    if not isinstance(value, str) or not value:
        raise Refused("not-canonical", f"{member} is missing or not a text")
    return value


def _place(envelope: dict[str, Any]) -> tuple[int, str]:
    sequence, prev = _text(envelope, "sequence"), _text(envelope, "prev")
    if _SEQUENCE.fullmatch(sequence) is None or not 0 < int(sequence) < _INTEGER_LIMIT:
        raise Refused("not-canonical", "sequence is not 20 digits of a number from 1 on")
    if _HASH.fullmatch(prev) is None:
        raise Refused("not-canonical", "prev is not a hash")
    return int(sequence), prev

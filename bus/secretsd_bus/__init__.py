"""What jarvis-secretsd says on MQTT: topics, signed events, their verification, the broker's connection."""

from secretsd_bus import canonical
from secretsd_bus.errors import BusCommandFailed, BusDenied, BusError, BusLost, BusRejected, BusUnreachable, Refused
from secretsd_bus.events import (
    PREFIX,
    ZERO_HASH,
    Chain,
    Event,
    Unchained,
    key_rotated,
    line_hash,
    parse_time,
    rfc3339,
)
from secretsd_bus.keys import KeyRing, SigningKey, VerifyKey, b64url_decode, b64url_encode
from secretsd_bus.link import Link, Message, Will
from secretsd_bus.settings import BusSettings
from secretsd_bus.topics import SECRET_VERBS, Topics
from secretsd_bus.verify import Verifier, follow_published, verify_line

__all__ = [
    "PREFIX",
    "SECRET_VERBS",
    "ZERO_HASH",
    "BusCommandFailed",
    "BusDenied",
    "BusError",
    "BusLost",
    "BusRejected",
    "BusSettings",
    "BusUnreachable",
    "Chain",
    "Event",
    "KeyRing",
    "Link",
    "Message",
    "Refused",
    "SigningKey",
    "Topics",
    "Unchained",
    "Verifier",
    "VerifyKey",
    "Will",
    "b64url_decode",
    "b64url_encode",
    "canonical",
    "follow_published",
    "key_rotated",
    "line_hash",
    "parse_time",
    "rfc3339",
    "verify_line",
]

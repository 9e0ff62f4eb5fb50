"""Everything that can go wrong on the bus, in one tree.

BusError
├── Refused             a message that has no effect; `slug` says why
├── BusUnreachable      no broker answers at the address, or TLS with it fails
├── BusRejected         the broker refuses the connection: credentials, rights, its rules
├── BusDenied           the broker refuses one publish or subscription; `reason_code` is MQTT's
├── BusCommandFailed    the broker's plugin refuses a command
└── BusLost             the connection went before the broker answered
"""

from __future__ import annotations

from typing import Literal

Slug = Literal["not-json", "not-canonical", "unknown-key", "bad-signature", "wrong-topic", "stale"]


class BusError(Exception):
    """The root of all errors of this package."""


class Refused(BusError):
    """A message that must have no effect. `slug` is the reason as docs/events.md names it."""

    def __init__(self, slug: Slug, detail: str = "") -> None:
        super().__init__(f"{slug}: {detail}" if detail else slug)
        self.slug: Slug = slug


class BusUnreachable(BusError):
    """Nobody answers as an MQTT broker at the address: no listener, no route, no time, no TLS."""


class BusRejected(BusError):
    """The broker answered and refuses the connection. `reason_code` is its CONNACK's."""

    def __init__(self, message: str, reason_code: int) -> None:
        super().__init__(message)
        self.reason_code = reason_code


class BusDenied(BusError):
    """The broker refuses one publish or subscription. `reason_code` is MQTT's (0x80 or more)."""

    def __init__(self, message: str, reason_code: int) -> None:
        super().__init__(message)
        self.reason_code = reason_code


class BusCommandFailed(BusError):
    """The broker's dynamic security plugin was asked for something and says no."""


class BusLost(BusError):
    """The connection went, or was closed, before the broker acknowledged."""

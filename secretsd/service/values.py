"""Values and wishes as requests carry them, checked. No message repeats what was sent."""

from __future__ import annotations

import base64
import binascii

from msgspec import UnsetType

from secretsd.config import Security
from secretsd.crypto.sensitive import Sensitive
from secretsd.errors import Problem
from secretsd.model import MAX_VALUE_BYTES, CreateSecret, Encoding, SecretType
from secretsd.policy import SecretRule, SecretSettings, ending, endless, requested_ms
from secretsd.rotation.generate import check_supplied
from secretsd.vault.document import Wishes

NEVER_WISHED = -1


def supplied(text: str, encoding: Encoding, kind: SecretType) -> Sensitive:
    """Return the value that a request gives. Raises Problem `invalid-request` or `too-large`."""
    try:
        data = text.encode("utf-8") if encoding == "utf-8" else base64.b64decode(text, validate=True)
    except (UnicodeEncodeError, binascii.Error, ValueError):
        raise Problem(
            "invalid-request",
            'value: not UTF-8 text; send bytes as base64 with "encoding": "base64".'
            if encoding == "utf-8"
            else 'value: not base64 (RFC 4648, padded); or leave out "encoding" for text.',
        ) from None
    if not data:
        raise Problem(
            "invalid-request",
            "value: empty; a value has 1 byte to 64 KiB. Leave it out to have one generated.",
        )
    if len(data) > MAX_VALUE_BYTES:
        raise Problem(
            "too-large",
            f"value: over 64 KiB ({MAX_VALUE_BYTES} bytes); keep a key to it here and the rest elsewhere.",
        )
    value = Sensitive(data)
    try:
        check_supplied(kind, value)
    except ValueError as error:
        raise Problem("invalid-request", f"value: {error}.") from None
    return value


def delivered(value: Sensitive, encoding: Encoding) -> str:
    """Return the value as an answer carries it."""
    data = value.reveal()
    return data.decode("utf-8") if encoding == "utf-8" else base64.b64encode(data).decode("ascii")


def wishes(request: CreateSecret) -> Wishes:
    """Return what the request asks to be kept in mind beside the policy's rule."""
    return Wishes(
        rotation=None if isinstance(request.rotation, UnsetType) else request.rotation,
        rotation_ms=_wished(requested_ms("rotation", request.rotation_period, request.rotation_days)),
        grace_ms=_wished(requested_ms("grace", request.grace_period, request.grace_days)),
    )


def settled(kind: SecretType, wished: Wishes, rule: SecretRule, defaults: Security) -> SecretSettings:
    """Return what holds for an existing secret now: the rule, else its wishes, else the defaults."""
    rotation = rule.rotation or wished.rotation or "manual"
    return SecretSettings(
        type=kind,
        rotation="manual" if kind == "external" else rotation,
        rotation_ms=None if rule.cron else _first(rule.rotation_ms, wished.rotation_ms, defaults.rotation_ms),
        grace_ms=ending(rule, _first(rule.grace_ms, wished.grace_ms, defaults.grace_ms)),
        jwks=rule.jwks and kind == "jwt_signing_key",
        cron=rule.cron,
        window=rule.window,
        converges=rule.converges,
    )


def grace_asked(period: str | UnsetType, days: int | UnsetType, settings: SecretSettings) -> int | UnsetType | None:
    """Return the grace asked for one change in ms, None for until told, UNSET for none. Raises `invalid-request`.

    Where a grace ends when all have moved on, what is asked for is its deadline.
    """
    asked = requested_ms("grace", period, days)
    if asked is None and settings.converges:
        raise endless()
    return asked


def _wished(period: int | UnsetType | None) -> int | None:
    if isinstance(period, UnsetType):
        return None
    return NEVER_WISHED if period is None else period


def _first(ruled: int | UnsetType | None, wished: int | None, default: int | None) -> int | None:
    if not isinstance(ruled, UnsetType):
        return ruled
    if wished is None:
        return default
    return None if wished == NEVER_WISHED else wished

"""What a new secret becomes: what the policy says, else the request, else the configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeVar

from msgspec import UNSET, UnsetType

from secretsd.config import Security
from secretsd.errors import Problem
from secretsd.model import DAY_MS, CreateSecret, Rotation, SecretType, parse_duration
from secretsd.policy.cron import Cron
from secretsd.policy.rules import SecretRule
from secretsd.policy.windows import Window

T = TypeVar("T")

DEADLINE_MS: Final = 7 * DAY_MS
"""When a grace until all have moved on ends at the latest, where the default grace is "never"."""


@dataclass(frozen=True, slots=True)
class SecretSettings:
    """How a secret is kept. The periods are milliseconds, None stands for never; `cron` is in place of a period."""

    type: SecretType
    rotation: Rotation
    rotation_ms: int | None
    grace_ms: int | None
    jwks: bool
    cron: Cron | None = None
    window: Window | None = None
    converges: bool = False


def requested_ms(what: str, period: str | UnsetType, days: int | UnsetType) -> int | UnsetType | None:
    """Return the milliseconds that a request's `{what}_period` or `{what}_days` asks for, None for "never".

    UNSET where it gives neither. Raises Problem invalid-request (422) for both, and for what is no duration.
    """
    if isinstance(period, UnsetType):
        return UNSET if isinstance(days, UnsetType) else days * DAY_MS
    if not isinstance(days, UnsetType):
        raise Problem("invalid-request", f"{what}_period and {what}_days say the same; give one of the two.")
    try:
        return parse_duration(period)
    except ValueError as error:
        raise Problem("invalid-request", f"{what}_period: {error}.") from None


def decide(rule: SecretRule, request: CreateSecret, defaults: Security) -> SecretSettings:
    """Return how the secret that `request` creates is kept, under the `rule` of its name.

    What the rule says holds; where it leaves something open the request may say it, then `defaults` do. A
    type that nobody names is `external` if a value was given, else `generic`; also `generic` where the rule
    says that the secret rotates by itself, which an external one never does. Raises Problem invalid-request
    (422) where the request contradicts the rule or itself.
    """
    asked_rotation_ms = requested_ms("rotation", request.rotation_period, request.rotation_days)
    asked_grace_ms = requested_ms("grace", request.grace_period, request.grace_days)
    rotation_said = "rotation_period" if isinstance(request.rotation_days, UnsetType) else "rotation_days"
    grace_said = "grace_period" if isinstance(request.grace_days, UnsetType) else "grace_days"
    if rule.converges and asked_grace_ms is None:
        raise endless()
    if asked_rotation_ms == 0:
        raise Problem("invalid-request", 'rotation_period: at least "1s"; "never" if the secret never expires.')
    kind: SecretType | UnsetType = _agree("type", rule.type or UNSET, request.type)
    rotation: Rotation | UnsetType = _agree("rotation", rule.rotation or UNSET, request.rotation)
    if isinstance(kind, UnsetType):
        given = not isinstance(request.value, UnsetType)
        kind = "external" if given and rule.rotation != "auto" else "generic"
    if kind == "external":
        if request.rotation == "auto":
            raise Problem(
                "invalid-request",
                "rotation: an external secret is issued elsewhere and never rotates by itself; leave "
                "rotation out, or name a type that can be generated.",
            )
        rotation = "manual"
    if rule.cron is not None and not isinstance(asked_rotation_ms, UnsetType):
        raise Problem(
            "invalid-request",
            f"{rotation_said}: the policy has a rotation_schedule for this name; leave {rotation_said} out, or have "
            "the rule changed.",
        )
    return SecretSettings(
        type=kind,
        rotation="manual" if isinstance(rotation, UnsetType) else rotation,
        rotation_ms=None
        if rule.cron
        else _or(_agree(rotation_said, rule.rotation_ms, asked_rotation_ms), defaults.rotation_ms),
        grace_ms=ending(rule, _or(_agree(grace_said, rule.grace_ms, asked_grace_ms), defaults.grace_ms)),
        jwks=rule.jwks and kind == "jwt_signing_key",
        cron=rule.cron,
        window=rule.window,
        converges=rule.converges,
    )


def ending(rule: SecretRule, grace_ms: int | None) -> int | None:
    """Return the grace that holds under `rule`: one until all have moved on always has an end."""
    return DEADLINE_MS if rule.converges and grace_ms is None else grace_ms


def endless() -> Problem:
    """Return the problem of a request for a grace without end where the rule says `until-converged`."""
    return Problem(
        "invalid-request",
        "grace_period: the policy ends this grace when all consumers have moved on, and never would be no deadline; "
        "give a duration, or leave it out.",
    )


def _or(value: int | UnsetType | None, default: int | None) -> int | None:
    return default if isinstance(value, UnsetType) else value


def _agree(member: str, ruled: T | UnsetType, asked: T | UnsetType) -> T | UnsetType:
    """Return what the rule says, else what the request asks."""
    if isinstance(ruled, UnsetType):
        return asked
    if not isinstance(asked, UnsetType) and asked != ruled:
        raise Problem(
            "invalid-request",
            f"{member}: the policy has a rule for this name that says something else; leave {member} out, or "
            "have the rule changed.",
        )
    return ruled

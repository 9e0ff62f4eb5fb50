"""The kinds of rotators: ours, and those that other distributions bring; and a rule of the policy as values."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import ValidationError

from secretsd.config.misfits import Words, reworded
from secretsd.config.reader import nearest, shown
from secretsd.model import parse_duration
from secretsd.rotators.interface import Rotator, RotatorConfig

ENTRY_POINTS: Final = "secretsd.rotators"
"""The group of entry points in which another distribution names its kinds: `kind = "package.module:Class"`."""

TIMEOUT_MS: Final = 30_000
MOST_TIMEOUT_MS: Final = 3_600_000
RETRIES: Final = 5
MOST_RETRIES: Final = 100


class _Own(NamedTuple):
    """Where a kind of ours is, and the extra of the distribution that it needs."""

    target: str
    extra: str | None = None


BUILT_IN: Final[Mapping[str, _Own]] = {
    "command": _Own("secretsd.rotators.command:Command"),
    "mosquitto": _Own("secretsd.rotators.mosquitto:Mosquitto"),
    "webhook": _Own("secretsd.rotators.webhook:Webhook"),
    "postgres": _Own("secretsd.rotators.postgres:Postgres", "postgres"),
}
"""Imported when a policy first names them, so that nobody pays for what isn't used."""

_COMMON: Final = ("kind", "timeout", "retries")
YAML_WORDS: Final[Words] = {
    str: "a string",
    int: "an integer",
    bool: "a boolean",
    type(None): "nothing",
    list: "a list",
    dict: "a mapping",
}


class Misconfigured(ValueError):
    """What stands under `rotator:` can't be used; `path` leads to the member at fault."""

    def __init__(self, complaint: str, path: tuple[str, ...] = ()) -> None:
        super().__init__(complaint)
        self.complaint = complaint
        self.path = path


@dataclass(frozen=True, slots=True)
class RotatorRule:
    """What a rule of the policy says of a secret's other end."""

    kind: str
    rotator: type[Rotator[Any]]
    config: RotatorConfig
    timeout_ms: int = TIMEOUT_MS
    """How long one step may take."""
    retries: int = RETRIES
    """How often a failed step is tried again soon, before it is reported and tried more slowly."""

    def build(self) -> Rotator[Any]:
        """Return a rotator for one step."""
        return self.rotator(self.config)


def kinds() -> tuple[str, ...]:
    """Return the kinds that a policy can name, in order."""
    return tuple(sorted({*BUILT_IN, *(point.name for point in entry_points(group=ENTRY_POINTS))}))


def configure(members: Mapping[str, object]) -> RotatorRule:
    """Return the rule that the plain members of a `rotator:` mapping give. Raises Misconfigured."""
    kind = members.get("kind")
    if not isinstance(kind, str):
        raise Misconfigured(f"kind is missing or no string; allowed: {', '.join(kinds())}", ("kind",))
    rotator = _find(kind)
    own = {key: value for key, value in members.items() if key not in _COMMON}
    return RotatorRule(
        kind,
        rotator,
        _config(rotator.config_type, own),
        timeout_ms=_timeout(members.get("timeout")),
        retries=_retries(members.get("retries")),
    )


def _find(kind: str) -> type[Rotator[Any]]:
    """Return the class of `kind`; ours can't be replaced by another distribution's."""
    own = BUILT_IN.get(kind)
    if own is not None:
        module, _, name = own.target.partition(":")
        try:
            return _checked(kind, getattr(importlib.import_module(module), name))
        except ImportError as error:
            raise Misconfigured(
                f"{kind} needs a library that isn't installed ({error.name}): "
                f"pip install 'jarvis-secretsd[{own.extra}]'",
                ("kind",),
            ) from error
    points = tuple(entry_points(group=ENTRY_POINTS, name=kind))
    if not points:
        near = nearest(kind, kinds())
        hint = f"did you mean {near}? " if near else ""
        raise Misconfigured(f"there is no kind {shown(kind)}; {hint}allowed: {', '.join(kinds())}", ("kind",))
    if len(points) > 1:
        raise Misconfigured(f"several installed distributions bring a kind {shown(kind)}; keep one", ("kind",))
    return _load(kind, points[0])


def _load(kind: str, point: EntryPoint) -> type[Rotator[Any]]:
    try:
        found = point.load()
    except (Exception, SystemExit) as error:  # another distribution's import can raise anything
        raise Misconfigured(
            f"the kind {shown(kind)} can't be loaded from {point.value}: {type(error).__name__}; repair or remove "
            "the distribution that brings it",
            ("kind",),
        ) from error
    return _checked(kind, found)


def _checked(kind: str, found: object) -> type[Rotator[Any]]:
    config = getattr(found, "config_type", None)
    if (
        isinstance(found, type)
        and issubclass(found, Rotator)
        and isinstance(config, type)
        and issubclass(config, RotatorConfig)
    ):
        return found
    raise Misconfigured(
        f"the kind {shown(kind)} is no rotator: a subclass of secretsd.rotators.Rotator with a config_type that is a "
        "subclass of RotatorConfig",
        ("kind",),
    )


def _config(kind: type[RotatorConfig], members: Mapping[str, object]) -> RotatorConfig:
    try:
        return msgspec.convert(members, kind)
    except ValidationError as error:
        misfit = reworded(str(error), kind, members, YAML_WORDS, beside=_COMMON)
        raise Misconfigured(misfit.complaint, misfit.path) from None


def _timeout(given: object) -> int:
    if given is None:
        return TIMEOUT_MS
    try:
        milliseconds = parse_duration(given) if isinstance(given, str) else None
    except ValueError as error:
        raise Misconfigured(f"{error}", ("timeout",)) from None
    if milliseconds is None or not 0 < milliseconds <= MOST_TIMEOUT_MS:
        raise Misconfigured('a duration in quotes from "1s" to "60m"', ("timeout",))
    return milliseconds


def _retries(given: object) -> int:
    if given is None:
        return RETRIES
    if not isinstance(given, int) or isinstance(given, bool) or not 0 <= given <= MOST_RETRIES:
        raise Misconfigured(f"a whole number from 0 to {MOST_RETRIES}", ("retries",))
    return given

"""The values of the client: a secret as callers see it, the daemon's answers, what the bus announces."""

import base64
import re
from dataclasses import dataclass, field
from typing import Any, Literal, TypeGuard, TypeVar

import msgspec
from secretsd_bus import Event, parse_time

from secretsd_client._errors import SecretNotFound, SecretsUnavailable

T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_GENERATION = re.compile(r"([^:\s]{1,128}):([0-9]{1,16})")


def check_name(name: str) -> str:
    """Return `name`; raise SecretNotFound when no secret can be called that."""
    if _NAME.fullmatch(name) is None:
        raise SecretNotFound(f"{name[:128]!r} can't be a secret's name: letters, digits, '.', '_' and '-', at most 128")
    return name


@dataclass(frozen=True, slots=True)
class Secret:
    """One version of a secret; repr doesn't show the value, which is base64 where `encoding` says so."""

    name: str
    value: str = field(repr=False)
    kid: str
    version: int
    expires_at: str
    """RFC 3339 UTC; `9999-12-31T23:59:59.999Z` means never. Expired secrets are still served."""
    encoding: Literal["utf-8", "base64"] = "utf-8"
    stale: bool = False
    """The daemon couldn't be asked, and this was current when it last could."""

    @property
    def data(self) -> bytes:
        """The value as bytes, decoded if it is base64."""
        return base64.b64decode(self.value) if self.encoding == "base64" else self.value.encode()


class SecretBody(msgspec.Struct, frozen=True):
    """What the client reads of the answer to `GET /secret/{name}`."""

    name: str
    value: str
    kid: str
    version: int
    expires_at: str
    encoding: Literal["utf-8", "base64"] = "utf-8"

    def secret(self) -> Secret:
        """Return it as callers see it."""
        return Secret(self.name, self.value, self.kid, self.version, self.expires_at, self.encoding)


class Change(msgspec.Struct, frozen=True):
    """One name in the answer to `GET /changes`."""

    name: str
    version: int
    kid: str
    status: str
    generation: int


class Changes(msgspec.Struct, frozen=True):
    """The answer to `GET /changes`."""

    epoch: str
    generation: int
    session: int
    uptime_ms: int
    changes: tuple[Change, ...]


class BusInfo(msgspec.Struct, frozen=True):
    """The answer to `GET /bus`."""

    url: str
    topic_prefix: str
    node: str


class JwkSet(msgspec.Struct, frozen=True):
    """The answer to `GET /keys`; a past key has a member that says the last sequence it signed."""

    keys: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Fetched:
    """A secret's answer: the secret, or None for a 304, and the vault's epoch and generation as of then."""

    secret: Secret | None
    epoch: str
    generation: int


def decode(body: bytes, kind: type[T]) -> T:
    """Return the body as `kind`; SecretsUnavailable when it isn't that, without quoting any of it."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        pass  # raised below: msgspec's message may quote the body
    raise SecretsUnavailable(f"the answer isn't what jarvis-secretsd sends ({kind.__name__}): is it the right URL?")


def parse_generation(header: str | None) -> tuple[str, int]:
    """Return epoch and generation of a `Vault-Generation` header."""
    match = _GENERATION.fullmatch(header or "")
    if match is None:
        raise SecretsUnavailable("the answer carries no Vault-Generation: is that URL jarvis-secretsd's?")
    return match[1], int(match[2])


@dataclass(frozen=True)
class Announcement:
    """What a verified secret event or state says about a name."""

    name: str
    epoch: str
    generation: int
    kid: str
    status: str
    urgent: bool
    previous_kid: str | None
    grace_until_ms: int | None
    time_ms: int
    spread_secs: float


@dataclass(frozen=True)
class Checkpoint:
    """What a verified `audit.checkpoint` says about the daemon."""

    epoch: str
    generation: int
    session: int
    uptime_ms: int
    interval_secs: float


def announcement(event: Event) -> Announcement | None:
    """Return what a secret event or state announces, None when its data lacks what this client needs."""
    data: dict[str, Any] = event.data
    previous = data.get("previous")
    try:
        grace = None if previous is None else parse_time(previous["grace_until"])
        spread_ms = data.get("spread_ms")
        found = Announcement(
            name=data["name"],
            epoch=data["epoch"],
            generation=data["generation"],
            kid=data["kid"],
            status="deleted" if event.type == "secret.deleted" else data["status"],
            urgent=data.get("urgent") is True,
            previous_kid=None if previous is None else previous["kid"],
            grace_until_ms=grace,
            time_ms=parse_time(event.time),
            spread_secs=min(spread_ms, 60_000) / 1000 if _is_count(spread_ms) else 0.2,
        )
    except (KeyError, TypeError, ValueError):
        return None
    texts = isinstance(found.name, str) and isinstance(found.epoch, str) and isinstance(found.kid, str)
    return found if texts and _is_count(found.generation) else None


def checkpoint(event: Event) -> Checkpoint | None:
    """Return what a checkpoint says, None when its data lacks what this client needs."""
    data: dict[str, Any] = event.data
    epoch, interval = data.get("epoch"), data.get("interval_secs")
    generation, session, uptime_ms = data.get("generation"), data.get("session"), data.get("uptime_ms")
    if (
        isinstance(epoch, str)
        and _is_count(generation)
        and _is_count(session)
        and _is_count(uptime_ms)
        and _is_count(interval)
    ):
        return Checkpoint(epoch, generation, session, uptime_ms, float(min(max(interval, 1), 3600)))
    return None


def session_of(event: Event) -> int | None:
    """Return the session that a `daemon.status` names."""
    session = event.data.get("session")
    return session if _is_count(session) else None


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0

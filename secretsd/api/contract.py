"""What the HTTP layer needs of the service behind it, so that a test can stand in for it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Container
from typing import Protocol

from prometheus_client import CollectorRegistry

from secretsd.auth import Caller, Claims
from secretsd.model import (
    AcknowledgedVersion,
    AcknowledgeRequest,
    BusInfo,
    Changes,
    Consumers,
    CreateSecret,
    CreateSecrets,
    Health,
    KeyRotated,
    Metadata,
    PutSecret,
    RestoreRequest,
    Rotated,
    RotateKeyRequest,
    RotateRequest,
    Schedule,
    SecretList,
)
from secretsd.service import Answered, KeySet, ReadResult, Selector


class Metrics(Protocol):
    """Where requests and connections are counted."""

    @property
    def registry(self) -> CollectorRegistry:
        """Return what `GET /metrics` shows."""

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answered request under its route's template."""

    def connection_refused(self) -> None:
        """Count one connection that there was no room for."""


class Service(Protocol):
    """The decisions; every method raises `secretsd.errors.Problem`."""

    @property
    def metrics(self) -> Metrics:
        """Return where requests are counted."""

    @property
    def position(self) -> str:
        """Return the vault's `EPOCH:GENERATION`."""

    async def identify(self, claims: Claims, action: str, name: str | None) -> Caller:
        """Return who is asking; Problem missing-client, unknown-client or bad-credential."""

    async def refuse_foreign(self, claims: Claims, action: str, reason: str) -> None:
        """Write the audit line of a foreign request; the caller refuses it then."""

    async def read(
        self,
        caller: Caller,
        name: str,
        selector: Selector,
        *,
        if_none_match: Container[str] | None,
        min_generation: int | None,
        head: bool = False,
    ) -> Answered[ReadResult]:
        """Return a secret's value; the body is None when its kid is in `if_none_match`. With `head` it isn't sent."""

    async def consumers(self, caller: Caller, name: str) -> Answered[Consumers]:
        """Return who has which version of a secret."""

    async def acknowledge(self, caller: Caller, name: str, body: AcknowledgeRequest) -> Answered[AcknowledgedVersion]:
        """Take in that the caller uses a version."""

    async def list_secrets(self, caller: Caller) -> Answered[SecretList]:
        """Return the metadata of what the caller may read."""

    async def changes(self, caller: Caller, since: str | None) -> Answered[Changes]:
        """Return what changed since a position."""

    async def schedule(self, caller: Caller, *, days: int, pattern: str | None) -> Answered[Schedule]:
        """Return what happens by itself."""

    async def create(self, caller: Caller, body: CreateSecret, *, idempotency_key: str | None) -> Answered[Metadata]:
        """Make a secret."""

    async def create_all(
        self, caller: Caller, body: CreateSecrets, *, idempotency_key: str | None
    ) -> Answered[SecretList]:
        """Make secrets, and new versions of others, all or none."""

    async def update(
        self,
        caller: Caller,
        name: str,
        body: PutSecret,
        *,
        if_match: str | None,
        idempotency_key: str | None,
    ) -> Answered[Metadata]:
        """Make a new version of a given value; `if_match` is the kid that must be the current one."""

    async def rotate(self, caller: Caller, body: RotateRequest, *, idempotency_key: str | None) -> Answered[Rotated]:
        """Make new versions, all or none."""

    async def restore(
        self, caller: Caller, name: str, body: RestoreRequest, *, idempotency_key: str | None
    ) -> Answered[Metadata]:
        """Make a version in grace the current value again."""

    async def cancel(self, caller: Caller, name: str, *, idempotency_key: str | None) -> Answered[Metadata]:
        """Give up a rotation that is under way."""

    async def delete(self, caller: Caller, name: str, *, idempotency_key: str | None) -> Answered[None]:
        """Leave a tombstone."""

    async def rotate_key(
        self, caller: Caller, body: RotateKeyRequest, *, idempotency_key: str | None
    ) -> Answered[KeyRotated]:
        """Make a new key of the daemon's own, or another passphrase."""

    async def audit_lines(
        self, caller: Caller, *, after: int | None, since_ms: int | None, limit: int
    ) -> Answered[AsyncGenerator[bytes, None]]:
        """Return signed lines as they stand, in pieces that end with a line."""

    def bus_info(self, caller: Caller) -> Answered[BusInfo]:
        """Return where the broker is."""

    def health(self) -> Health:
        """Return whether the daemon can serve."""

    def event_keys(self) -> dict[str, object]:
        """Return the JWK set of the event-signing keys."""

    def jwks(self) -> KeySet:
        """Return the JWK set of the published secrets."""

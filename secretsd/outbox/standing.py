"""What the bus is told of the vault as it stands: what the service has to offer for that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from secretsd.crypto.sensitive import Sensitive
from secretsd.outbox.homeassistant.overview import Trouble
from secretsd.outbox.witness import Position
from secretsd.vault.document import SecretRecord


class Standing(Protocol):
    """What the bus is told of the vault as it stands."""

    def position(self) -> Position:
        """Return epoch, generation and sequence."""

    def names(self) -> Sequence[str]:
        """Return every name that has a state, deleted ones too."""

    def state(self, name: str) -> Mapping[str, Any] | None:
        """Return the `data` of a name's state, None when it has none."""

    def secrets(self) -> Mapping[str, SecretRecord]:
        """Return the secrets in force."""

    def troubles(self) -> list[Trouble]:
        """Return what is wrong with the daemon, the bus aside."""

    def checkpoint(self) -> Mapping[str, Any]:
        """Return sequence, head, epoch, generation and uptime_ms."""

    def key_set(self) -> Mapping[str, Any]:
        """Return the JWK set of the event-signing keys."""

    def clock_in_doubt(self) -> bool:
        """Tell whether the clock can't be trusted: how old something is can't be told by it then."""

    async def logins(self) -> Sequence[tuple[str, Sensitive]]:
        """Return the daemon's own passwords at the broker with their kids, in the order to try them.

        None of them where the vault has no such secret. Raises AuditWriteError, SealError.
        """

    def rolled_back(self, reason: str) -> None:
        """Stop serving: the broker remembers a newer vault."""

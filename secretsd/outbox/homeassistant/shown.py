"""What is shown to Home Assistant of the vault and the daemon as they stand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import msgspec

from secretsd.clock import Clock
from secretsd.config import HomeAssistant
from secretsd.outbox.homeassistant.overview import Trouble, overview
from secretsd.outbox.homeassistant.tally import Tally
from secretsd.policy import NameSet
from secretsd.vault.document import SecretRecord


class Standing(Protocol):
    """As much of the vault's standing as is shown."""

    def names(self) -> Iterable[str]:
        """Return every name that has a state, deleted ones too."""

    def secrets(self) -> Mapping[str, SecretRecord]:
        """Return the secrets in force."""

    def troubles(self) -> list[Trouble]:
        """Return what is wrong with the daemon, the bus aside."""


class Shown:
    """Answers the questions of the announcements."""

    def __init__(
        self,
        settings: HomeAssistant,
        standing: Standing,
        clock: Clock,
        bus_status: Callable[[], str],
        tally: Callable[[], Tally],
    ) -> None:
        self._wanted = NameSet(settings.secrets)
        self._standing = standing
        self._clock = clock
        self._bus_status = bus_status
        self._tally = tally
        self._counted: tuple[Mapping[str, SecretRecord], int] = ({}, 0)

    def names(self) -> Iterable[str]:
        """Return every name that there is or was."""
        return self._standing.names()

    def shown(self, name: str) -> bool:
        """Tell whether a name is that of a secret which gets entities."""
        return name in self._standing.secrets() and name in self._wanted

    def shown_count(self) -> int:
        """Return how many secrets get entities; counted once for each generation of the vault."""
        secrets = self._standing.secrets()
        if self._counted[0] is not secrets:
            self._counted = (secrets, sum(name in self._wanted for name in secrets))
        return self._counted[1]

    def overview(self) -> bytes:
        """Return the overview as JSON, members in order, so that what is the same has the same bytes."""
        troubles = self._standing.troubles()
        if self._bus_status() == "denied":
            troubles = [*troubles, Trouble("broker", "it denies what the daemon has to publish")]
        stands = overview(self._standing.secrets(), troubles, self._tally(), self._clock.now_ms())
        return msgspec.json.encode(stands, order="sorted")

"""What is shown to Home Assistant of the vault and the daemon as they stand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
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
        self._most = settings.secrets_most
        self._of: Mapping[str, SecretRecord] | None = None
        self._shown: frozenset[str] = frozenset()
        self._hidden = 0

    def names(self) -> Iterable[str]:
        """Return every name that there is or was."""
        return self._standing.names()

    def shown(self) -> AbstractSet[str]:
        """Return the names of the secrets that get entities; worked out once for each generation of the vault."""
        secrets = self._standing.secrets()
        if self._of is not secrets:
            matching = sorted(name for name in secrets if name in self._wanted)
            self._shown, self._of = frozenset(matching[: self._most]), secrets
            self._hidden = max(0, len(matching) - self._most)
        return self._shown

    def overview(self) -> bytes:
        """Return the overview as JSON, members in order, so that what is the same has the same bytes."""
        troubles = self._standing.troubles()
        if self._bus_status() == "denied":
            troubles = [*troubles, Trouble("broker", "it denies what the daemon has to publish")]
        stands = overview(self._standing.secrets(), troubles, self._tally(), self._clock.now_ms())
        self.shown()
        stands["hidden"] = self._hidden
        return msgspec.json.encode(stands, order="sorted")

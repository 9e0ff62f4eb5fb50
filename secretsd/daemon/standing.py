"""The vault as it stands, as the bus is told about it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from secretsd.crypto.sensitive import Sensitive
from secretsd.outbox.homeassistant.overview import NAMES_MOST, Trouble
from secretsd.outbox.witness import Position
from secretsd.reserve import SPENT
from secretsd.rotation.announce import Announcer
from secretsd.rotation.pending import is_failing, tidying
from secretsd.service import Core, Service
from secretsd.service.convergence import Lagging
from secretsd.service.ownuse import BusLogin
from secretsd.vault.document import SecretRecord

log = logging.getLogger(__name__)


class VaultStanding:
    """Answers the publisher's questions from the document in force."""

    def __init__(self, core: Core, service: Service) -> None:
        self._core = core
        self._service = service
        self._lagging = Lagging(core)
        name = core.config.bus.password_secret
        self._login = None if name is None else BusLogin(core, name)

    def position(self) -> Position:
        """Return epoch, generation and sequence."""
        document = self._core.document
        return Position(
            epoch=document.epoch,
            past_epochs=frozenset(past.epoch for past in document.past_epochs),
            generation=document.generation,
            sequence=self._core.log.sequence,
        )

    def names(self) -> Sequence[str]:
        """Return every name that has a state, deleted ones too."""
        return [*self._core.document.secrets, *self._core.document.tombstones]

    def state(self, name: str) -> Mapping[str, Any] | None:
        """Return the `data` of a name's state, None when it has none."""
        document = self._core.document
        announcer = Announcer(document.epoch, self._core.config.bus.spread_ms)
        record = document.secrets.get(name)
        if record is not None:
            return announcer.state(name, record)
        stone = document.tombstones.get(name)
        return None if stone is None else announcer.state_of_deleted(name, stone)

    def secrets(self) -> Mapping[str, SecretRecord]:
        """Return the secrets in force."""
        return self._core.document.secrets

    def troubles(self) -> list[Trouble]:
        """Return what is wrong with the daemon, the bus aside, in words that name no value."""
        core = self._core
        found = {
            "rotation": core.schedule_failure,
            "chain": core.log.failure or (SPENT if core.reserve.spent else None),
            "clock": core.guard.doubt,
            "laggards": self._lagging.words(),
        }
        troubles = [Trouble(kind, words) for kind, words in found.items() if words is not None]
        failing = {name: record for name, record in sorted(core.document.secrets.items()) if is_failing(record)}
        said = {
            "doesn't take the new value of": [name for name, record in failing.items() if tidying(record) is None],
            "can't be tidied up after the rotation of": [name for name, record in failing.items() if tidying(record)],
        }
        for words, names in said.items():
            if names:
                more = f" and {len(names) - NAMES_MOST} more" if len(names) > NAMES_MOST else ""
                troubles.append(Trouble("other end", f"{words} {', '.join(names[:NAMES_MOST])}{more}"))
        return troubles

    def checkpoint(self) -> Mapping[str, Any]:
        """Return where log and vault are."""
        document = self._core.document
        return {
            "sequence": self._core.log.sequence,
            "head": self._core.log.head,
            "epoch": document.epoch,
            "generation": document.generation,
            "uptime_ms": self._core.uptime_ms,
        }

    def key_set(self) -> Mapping[str, Any]:
        """Return the JWK set of the event-signing keys."""
        return self._service.event_keys()

    def clock_in_doubt(self) -> bool:
        """Tell whether the clock can't be trusted, as of now."""
        return not self._core.guard.check()

    async def logins(self) -> Sequence[tuple[str, Sensitive]]:
        """Return the passwords of `[bus] password_secret`, in the order to try them."""
        return () if self._login is None else await self._login.candidates()

    def rolled_back(self, reason: str) -> None:
        """Stop serving: the broker remembers a newer vault."""
        self._core.stopped_serving = (
            f"Rollback: {reason}. Stop the daemon and restore the newer files; if they are lost, run "
            "`secretsctl vault accept-rollback`, then start it again."
        )
        log.error("%s", self._core.stopped_serving)

"""All calls in one object, as the HTTP layer uses it."""

from __future__ import annotations

from collections.abc import Sequence

from secretsd_bus import Event

from secretsd.auth import Caller, Claims
from secretsd.metrics import Metrics
from secretsd.service.batches import Batches
from secretsd.service.consumers import ConsumerCalls
from secretsd.service.core import Core
from secretsd.service.keyrotations import KeyRotations
from secretsd.service.planning import Planning


class Service(ConsumerCalls, Planning, Batches, KeyRotations):
    """Identification, reads and writes over one core."""

    def __init__(self, core: Core) -> None:
        ConsumerCalls.__init__(self, core)
        Planning.__init__(self, core)
        Batches.__init__(self, core)
        KeyRotations.__init__(self, core)
        self.core = core

    def written(self, events: Sequence[Event]) -> None:
        """Follow the log: what was seen of consumers, then what a new signing key needs."""
        self.core.follower.written(events)
        super().written(events)

    @property
    def metrics(self) -> Metrics:
        """Where requests are counted."""
        return self.core.metrics

    @property
    def position(self) -> str:
        """The vault's `EPOCH:GENERATION`."""
        return self.core.document.position

    async def identify(self, claims: Claims, action: str, name: str | None) -> Caller:
        """Return who is asking to do `action`, with the secret `name` where the request's path has one.

        Raises Problem `missing-client`, `unknown-client`, `bad-credential`.
        """
        return await self.core.gate.identify(claims, action, name)

    async def refuse_foreign(self, claims: Claims, action: str, reason: str) -> None:
        """Write the audit line of a request that came from elsewhere; its caller refuses it then."""
        await self.core.gate.refuse_foreign(claims, action, reason)

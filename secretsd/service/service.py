"""All calls in one object, as the HTTP layer uses it."""

from __future__ import annotations

from secretsd.auth import Caller, Claims
from secretsd.metrics import Metrics
from secretsd.service.core import Core
from secretsd.service.reads import Reads
from secretsd.service.writes import Writes


class Service(Reads, Writes):
    """Identification, reads and writes over one core."""

    def __init__(self, core: Core) -> None:
        Reads.__init__(self, core)
        Writes.__init__(self, core)
        self.core = core

    @property
    def metrics(self) -> Metrics:
        """Where requests are counted."""
        return self.core.metrics

    async def identify(self, claims: Claims) -> Caller:
        """Return who is asking. Raises Problem `missing-client`, `unknown-client`, `bad-credential`."""
        return await self.core.gate.identify(claims)

    async def refuse_foreign(self, claims: Claims, action: str, reason: str) -> None:
        """Write the audit line of a request that came from elsewhere; its caller refuses it then."""
        await self.core.gate.refuse_foreign(claims, action, reason)

"""Values that the daemon itself uses: audited like any other reader's, before they are opened."""

from __future__ import annotations

import secrets

from secretsd_bus.payloads import Accessed

from secretsd.audit.log import Entry
from secretsd.crypto.sensitive import Sensitive
from secretsd.policy.rules import SCHEDULE
from secretsd.service.core import Core
from secretsd.vault.document import VersionRecord


def own_read(name: str, version: VersionRecord, *, current: bool, action: str, reason: str | None = None) -> Entry:
    """Return the line of a value that the daemon opens for itself; `action` says for what."""
    accessed = Accessed(
        client=SCHEDULE,
        auth="daemon",
        action=action,
        name=name,
        kid=version.kid,
        version=version.version,
        superseded=not current,
        outcome="ok",
        reason=reason,
        peer="daemon",
        request_id=secrets.token_hex(16),
    )
    return Entry("secret.read", name, accessed.data())


class BusLogin:
    """The passwords that the broker may know the daemon by, from the vault.

    Each version is opened once in the life of the process and kept: connecting again and again leaves no more lines.
    """

    def __init__(self, core: Core, name: str) -> None:
        self.name = name
        self._core = core
        self._opened: dict[str, Sensitive] = {}

    async def candidates(self) -> tuple[tuple[str, Sensitive], ...]:
        """Return kids and values in the order to try them; none where there is no such secret.

        First the current version, then what a rotation has brought to the broker or is about to, then what is in grace.
        Raises AuditWriteError, and SealError for a value that was altered.
        """
        document, keys = self._core.document, self._core.vault.keys
        record = document.secrets.get(self.name)
        if record is None:
            return ()
        versions = (record.current, *(one for one in record.sealed if one is not record.current))
        new = [one for one in versions if one.kid not in self._opened]
        if new:
            lines = [own_read(self.name, one, current=one is record.current, action="bus") for one in new]
            await self._core.log.append(*lines)
        opened = {one.kid: self._opened.get(one.kid) or keys.open(self.name, one) for one in versions}
        self._opened = opened
        return tuple(opened.items())

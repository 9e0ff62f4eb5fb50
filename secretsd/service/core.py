"""What the service's parts share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from secretsd.audit.eventkeys import EventKeyFiles, EventKeys
from secretsd.audit.log import AuditLog
from secretsd.clock import Clock, ClockGuard
from secretsd.config import Config
from secretsd.consumers.follower import Follower
from secretsd.errors import Problem
from secretsd.metrics import Metrics
from secretsd.policy import Policy
from secretsd.reserve import Reserve
from secretsd.service.commits import Committer
from secretsd.service.gate import Gate
from secretsd.vault.document import Document
from secretsd.vault.masterfile import MasterKeyFile
from secretsd.vault.vault import Vault

BusStatus = Literal["connected", "disconnected", "denied", "disabled"]


class BusState(Protocol):
    """What the service has to know of the bus."""

    @property
    def status(self) -> BusStatus:
        """Whether the broker takes what is published."""

    @property
    def session(self) -> int:
        """The number of the broker connection."""


@dataclass(frozen=True, slots=True)
class NoBus:
    """The bus that isn't there."""

    status: BusStatus = "disabled"
    session: int = 0


@dataclass(slots=True)
class Core:
    """The daemon's parts, put together by `daemon`. `policy` is replaced by a reload."""

    config: Config
    policy: Policy
    vault: Vault
    log: AuditLog
    committer: Committer
    gate: Gate
    clock: Clock
    guard: ClockGuard
    metrics: Metrics
    event_keys: EventKeys
    key_files: EventKeyFiles
    master_file: MasterKeyFile
    audit_path: Path
    started_at_ms: int
    reserve: Reserve
    follower: Follower
    bus: BusState = field(default_factory=NoBus)
    stopped_serving: str | None = None
    """Why the vault must not be served, None while it may be."""
    schedule_failure: str | None = None
    """Why what is due could not be carried out when that was last tried."""

    @property
    def document(self) -> Document:
        """The document in force."""
        return self.vault.document

    @property
    def uptime_ms(self) -> int:
        """Milliseconds since the daemon started."""
        return self.clock.elapsed_ms() - self.started_at_ms

    @property
    def graces_until_ms(self) -> int:
        """The instant up to which graces are over: now; none is while the clock is in doubt.

        Their end is the schedule's, which waits then: what it has not ended stays readable, however late the clock says
        that it is.
        """
        return self.clock.now_ms() if self.guard.check() else 0

    def serving(self) -> None:
        """Return while the vault may be served. Raises Problem `vault-unavailable`."""
        if self.stopped_serving is not None:
            raise Problem("vault-unavailable", self.stopped_serving)

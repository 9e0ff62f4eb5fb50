"""Gauges that are read off the running parts when Prometheus asks."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from secretsd import files
from secretsd.daemon.firststart import StateFiles
from secretsd.model import NEVER_MS
from secretsd.outbox.publisher import Publisher
from secretsd.rotation.pending import in_way, is_failing
from secretsd.service import BusStatus, Core, Service
from secretsd.service.convergence import Lagging
from secretsd.service.reads import VERSION
from secretsd.service.scheduler import Scheduler

_STATUSES: Final = ("active", "expiring", "expired")
_BUS_STATUSES: Final[tuple[BusStatus, ...]] = ("connected", "disconnected", "denied")


def meter(service: Service, scheduler: Scheduler, publisher: Publisher | None) -> None:
    """Register what is only known at the moment of asking."""
    core, metrics = service.core, service.metrics
    metrics.build.labels(VERSION).set(1)
    metrics.watch_by(
        "secretsd_secrets",
        "Secrets by status",
        "status",
        {status: partial(_count, core, status) for status in _STATUSES},
    )
    metrics.watch(
        "secretsd_rotations_under_way",
        "Rotations that are on their way to the other end",
        lambda: sum(1 for record in core.document.secrets.values() if in_way(record) is not None),
    )
    metrics.watch(
        "secretsd_rotations_failing",
        "Rotations that don't get through to the other end, where the old value is in force, "
        "or can't be tidied up there",
        lambda: sum(1 for record in core.document.secrets.values() if is_failing(record)),
    )
    metrics.watch(
        "secretsd_next_expiry_seconds",
        "Seconds to the next expiry, +Inf for none",
        partial(_next_expiry, core),
    )
    metrics.watch(
        "secretsd_next_due_seconds",
        "Seconds to the next scheduled change, +Inf for none",
        lambda: _until(core, scheduler.next_instant),
    )
    metrics.watch(
        "secretsd_policy_generation",
        "The generation since which the policy is in force",
        lambda: core.document.policy.generation,
    )
    metrics.watch(
        "secretsd_clients_without_proof",
        "Clients of the policy that the header alone names",
        lambda: len(core.policy.unproven),
    )
    metrics.watch("secretsd_vault_generation", "The vault's generation", lambda: core.document.generation)
    metrics.watch("secretsd_audit_sequence", "The newest durable audit line", lambda: core.log.sequence)
    metrics.watch(
        "secretsd_clock_in_doubt",
        "1 while nothing scheduled happens because of the clock",
        lambda: core.guard.doubt is not None,
    )
    metrics.watch(
        "secretsd_serving",
        "1 while secrets are given out, as /healthz says it",
        lambda: service.health().status == "ok",
    )
    metrics.watch(
        "secretsd_schedule_failing",
        "1 while what is due can't be carried out",
        lambda: core.schedule_failure is not None,
    )
    metrics.watch(
        "secretsd_rotations_held",
        "Rotations that are due and wait for their window or for a distance to others",
        lambda: scheduler.held,
    )
    metrics.watch(
        "secretsd_lagging_consumers",
        "Consumers that use a version more than half of whose grace is over",
        Lagging(core).count,
    )
    _meter_files(core)
    metrics.watch("secretsd_uptime_seconds", "Seconds since the daemon started", lambda: core.uptime_ms / 1000)
    if publisher is not None:
        owed: dict[str, Callable[[], float]] = {
            "changes": partial(publisher.owed, "changes"),
            "audit": partial(publisher.owed, "audit"),
        }
        metrics.watch_by("secretsd_owed_events", "Events that the broker has not acknowledged", "lane", owed)
        metrics.watch(
            "secretsd_bus_connected",
            "1 while the broker is connected and accepts what is published",
            partial(_bus_is, core, "connected"),
        )
        metrics.watch_by(
            "secretsd_bus_status",
            "1 for what the bus is now, 0 for the others",
            "status",
            {status: partial(_bus_is, core, status) for status in _BUS_STATUSES},
        )


def _meter_files(core: Core) -> None:
    """Register what the state's files tell; each is looked at when asked, so that a change by hand is seen."""
    state = StateFiles(core.config)
    core.metrics.watch(
        "secretsd_reserve_spent",
        "1 while the disk is full and only changes by hand are written",
        lambda: core.reserve.spent,
    )
    core.metrics.watch_by(
        "secretsd_disk_free_bytes",
        "Free space where the vault and the audit log lie",
        "files",
        {"vault": partial(_free, state.vault.parent), "audit": partial(_free, state.audit.parent)},
    )
    core.metrics.watch_by(
        "secretsd_key_timestamp_seconds",
        "When the key's file was last written, as Unix time; 0 where it can't be seen",
        "key",
        {"master": partial(_written, state.master_key), "signing": partial(_written, state.sign_key)},
    )
    core.metrics.watch(
        "secretsd_backup_timestamp_seconds",
        "When the newest backup was made, as Unix time; 0 for none",
        partial(_backed_up, state.backup),
    )


class _Backup(Struct, frozen=True):
    """What is needed here of the record of the newest backup."""

    created_at: str


def _backed_up(record: Path) -> float:
    try:
        made = msgspec.json.decode(files.read_regular(record), type=_Backup).created_at
        return datetime.fromisoformat(made).timestamp()
    except (OSError, ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return 0


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0


def _free(folder: Path) -> float:
    try:
        space = os.statvfs(folder)
    except OSError:
        return 0
    return space.f_bavail * space.f_frsize


def _bus_is(core: Core, status: BusStatus) -> float:
    return core.bus.status == status


def _count(core: Core, status: str) -> float:
    return sum(1 for record in core.document.secrets.values() if record.status == status)


def _next_expiry(core: Core) -> float:
    now_ms = core.clock.now_ms()
    ahead = (record.expires_at for record in core.document.secrets.values() if record.expires_at > now_ms)
    return _until(core, min(ahead, default=NEVER_MS))


def _until(core: Core, instant_ms: int) -> float:
    return float("inf") if instant_ms >= NEVER_MS else (instant_ms - core.clock.now_ms()) / 1000

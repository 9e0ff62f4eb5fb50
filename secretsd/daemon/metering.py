"""Gauges that are read off the running parts when Prometheus asks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from secretsd.model import NEVER_MS
from secretsd.outbox.publisher import Publisher
from secretsd.service import Core
from secretsd.service.reads import VERSION
from secretsd.service.scheduler import Scheduler

_STATUSES: Final = ("active", "expiring", "expired")


def meter(core: Core, scheduler: Scheduler, publisher: Publisher | None) -> None:
    """Register what is only known at the moment of asking."""
    metrics = core.metrics
    metrics.build.labels(VERSION).set(1)
    metrics.watch_by(
        "secretsd_secrets",
        "Secrets by status",
        "status",
        {status: partial(_count, core, status) for status in _STATUSES},
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
    metrics.watch("secretsd_vault_generation", "The vault's generation", lambda: core.document.generation)
    metrics.watch("secretsd_audit_sequence", "The newest durable audit line", lambda: core.log.sequence)
    metrics.watch(
        "secretsd_clock_in_doubt",
        "1 while nothing scheduled happens because of the clock",
        lambda: core.guard.doubt is not None,
    )
    metrics.watch("secretsd_uptime_seconds", "Seconds since the daemon started", lambda: core.uptime_ms / 1000)
    if publisher is not None:
        owed: dict[str, Callable[[], float]] = {
            "changes": partial(publisher.owed, "changes"),
            "audit": partial(publisher.owed, "audit"),
        }
        metrics.watch_by("secretsd_owed_events", "Events that the broker has not acknowledged", "lane", owed)


def _count(core: Core, status: str) -> float:
    return sum(1 for record in core.document.secrets.values() if record.status == status)


def _next_expiry(core: Core) -> float:
    now_ms = core.clock.now_ms()
    ahead = (record.expires_at for record in core.document.secrets.values() if record.expires_at > now_ms)
    return _until(core, min(ahead, default=NEVER_MS))


def _until(core: Core, instant_ms: int) -> float:
    return float("inf") if instant_ms >= NEVER_MS else (instant_ms - core.clock.now_ms()) / 1000

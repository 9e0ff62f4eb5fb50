"""What Prometheus is told. No label holds the name of a secret or a client.

So cardinality stays bounded, and the endpoint, which needs no client, gives nothing away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_LINES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The daemon's metrics in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "secretsd_requests",
            "Requests by route, method and status",
            ["route", "method", "status"],
            registry=self.registry,
        )
        self._latency = Histogram(
            "secretsd_request_seconds",
            "Time from a request's arrival to its answer",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._audit_seconds = Histogram(
            "secretsd_audit_commit_seconds",
            "Time to make a batch of audit lines durable",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._audit_lines = Histogram(
            "secretsd_audit_batch_lines",
            "Audit lines that shared one fdatasync",
            buckets=_LINES,
            registry=self.registry,
        )
        self.audit_failures = Counter(
            "secretsd_audit_failures",
            "Batches of audit lines that could not be made durable",
            registry=self.registry,
        )
        self.refusals = Counter("secretsd_refusals", "Refused requests by reason", ["reason"], registry=self.registry)
        self._vault_seconds = Histogram(
            "secretsd_vault_commit_seconds",
            "Time to replace vault.json",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.changes = Counter("secretsd_changes", "Changes of secrets by event type", ["type"], registry=self.registry)
        self.publish_seconds = Histogram(
            "secretsd_publish_ack_seconds",
            "Time from publishing to the broker's acknowledgement",
            ["lane"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.publish_denied = Counter(
            "secretsd_publish_denied", "Messages that the broker refused", ["lane"], registry=self.registry
        )
        self.bus_connected = Gauge(
            "secretsd_bus_connected",
            "1 while the broker is connected and accepts what is published",
            registry=self.registry,
        )
        self.build = Gauge("secretsd_build_info", "The running version", ["version"], registry=self.registry)
        self._series: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answered request. `route` is the route's template, never a path."""
        key = (route, method, status)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = (
                self._requests.labels(route, method, str(status)),
                self._latency.labels(route),
            )
        series[0].inc()
        series[1].observe(seconds)

    def audit_batch(self, lines: int, seconds: float) -> None:
        """Count one durable batch of audit lines."""
        self._audit_seconds.observe(seconds)
        self._audit_lines.observe(lines)

    def vault_commit(self, seconds: float) -> None:
        """Count one replacement of vault.json."""
        self._vault_seconds.observe(seconds)

    def watch(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Add a gauge that is read when Prometheus asks."""
        Gauge(name, text, registry=self.registry).set_function(read)

    def watch_by(self, name: str, text: str, label: str, reads: Mapping[str, Callable[[], float]]) -> None:
        """Add a gauge with one label, whose series are read when Prometheus asks."""
        gauge = Gauge(name, text, [label], registry=self.registry)
        for value, read in reads.items():
            gauge.labels(value).set_function(read)

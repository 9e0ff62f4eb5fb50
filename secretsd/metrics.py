"""What Prometheus is told. No label holds the name of a secret or a client.

So cardinality stays bounded, and the endpoint, which needs no client, gives nothing away.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from secretsd_bus import SECRET_VERBS

_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_LINES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

# Series are there from the start: `increase` doesn't see a counter's first step where it only then appears.
_REFUSALS: Final = ("denied", "failed")
_CHANGES: Final = (*(f"secret.{verb}" for verb in SECRET_VERBS), "policy.reloaded")
_STEPS: Final = ("set", "test", "rollback", "finish")
_OUTCOMES: Final = ("ok", "failed", "refused")
_LANES: Final = ("changes", "audit", "homeassistant")


class Metrics:
    """The daemon's metrics in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = _Requests(self.registry)
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
        self._connections_refused = Counter(
            "secretsd_connections_refused",
            "Connections that there was no room for",
            registry=self.registry,
        )
        self.refusals = Counter("secretsd_refusals", "Refused requests by reason", ["reason"], registry=self.registry)
        self.previous_reads = Counter(
            "secretsd_previous_version_reads",
            "Reads answered with an older version, in its grace",
            registry=self.registry,
        )
        self.left_behind = Counter(
            "secretsd_retired_laggards",
            "Consumers that still used a version when its grace ended",
            registry=self.registry,
        )
        self._vault_seconds = Histogram(
            "secretsd_vault_commit_seconds",
            "Time to replace vault.json",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.changes = Counter("secretsd_changes", "Changes of secrets by event type", ["type"], registry=self.registry)
        self.rotation_steps = Counter(
            "secretsd_rotation_steps",
            "Steps of rotations at other ends, by what was done and what came of it",
            ["step", "outcome"],
            registry=self.registry,
        )
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
        self.last_publish = Gauge(
            "secretsd_last_publish_timestamp_seconds",
            "When the broker last acknowledged a message, as Unix time; 0 before the first",
            registry=self.registry,
        )
        self.build = Gauge("secretsd_build_info", "The running version", ["version"], registry=self.registry)
        for reason in _REFUSALS:
            self.refusals.labels(reason)
        for type_ in _CHANGES:
            self.changes.labels(type_)
        for step in _STEPS:
            for outcome in _OUTCOMES:
                self.rotation_steps.labels(step, outcome)
        for lane in _LANES:
            self.publish_seconds.labels(lane)
            self.publish_denied.labels(lane)
        self.publish_denied.labels("retained")

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answered request. `route` is the route's template, never a path."""
        self._requests.count(route, method, status, seconds)

    def connection_refused(self) -> None:
        """Count one connection that there was no room for."""
        self._connections_refused.inc()

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


class _Requests(Collector):
    """Requests in plain numbers, worded when Prometheus asks: its own counters lock, four times a request."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counts: defaultdict[tuple[str, str, int], int] = defaultdict(int)
        self._spread: defaultdict[str, list[int]] = defaultdict(lambda: [0] * (len(_SECONDS) + 1))
        self._seconds: defaultdict[str, float] = defaultdict(float)
        registry.register(self)

    def count(self, route: str, method: str, status: int, seconds: float) -> None:
        self._counts[route, method, status] += 1
        self._spread[route][bisect_left(_SECONDS, seconds)] += 1
        self._seconds[route] += seconds

    def collect(self) -> Iterator[Metric]:
        counts = CounterMetricFamily(
            "secretsd_requests", "Requests by route, method and status", labels=["route", "method", "status"]
        )
        for (route, method, status), count in self._counts.items():
            counts.add_metric([route, method, str(status)], count)
        yield counts
        times = HistogramMetricFamily(
            "secretsd_request_seconds", "Time from a request's arrival to its answer", labels=["route"]
        )
        bounds = [*map(str, _SECONDS), "+Inf"]
        for route, spread in self._spread.items():
            times.add_metric([route], list(zip(bounds, accumulate(spread), strict=True)), self._seconds[route])
        yield times

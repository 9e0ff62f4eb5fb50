"""What the daemon tells Prometheus, as far as one screen shows it. Anyone may ask for it, and no log tells of it."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True)
class Measured:
    """The daemon's own numbers. None: this daemon doesn't say."""

    owed: dict[str, int] | None
    """Events that the broker has not acknowledged, by lane; None where there is no bus."""
    audit_line: int | None
    """The newest durable line of the audit log."""
    audit_failures: int | None
    """Batches of lines that could not be written since it started."""
    schedule_failing: bool
    clients_without_proof: int | None
    secrets: dict[str, int]
    """How many there are of each status."""


def parse(text: str) -> Measured:
    """Return what an exposition says. Raises ValueError for what is none."""
    single: dict[str, float] = {}
    labelled: dict[str, dict[str, int]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if not sample.labels:
                single[sample.name] = sample.value
            elif sample.name in {"secretsd_owed_events", "secretsd_secrets"}:
                labelled.setdefault(sample.name, {})[next(iter(sample.labels.values()))] = int(sample.value)

    def number(name: str) -> int | None:
        return int(single[name]) if name in single else None

    return Measured(
        owed=labelled.get("secretsd_owed_events"),
        audit_line=number("secretsd_audit_sequence"),
        audit_failures=number("secretsd_audit_failures_total"),
        schedule_failing=bool(number("secretsd_schedule_failing")),
        clients_without_proof=number("secretsd_clients_without_proof"),
        secrets=labelled.get("secretsd_secrets", {}),
    )

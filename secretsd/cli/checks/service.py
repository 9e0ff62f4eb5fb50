"""The running daemon: what it says of itself, of the bus, and of the secrets."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Final

from msgspec import UnsetType

from secretsd.cli.checks.context import Context
from secretsd.cli.checks.finding import Check, Finding, Skip, combined, failure, listed, ok, plural, warning
from secretsd.cli.output import NEVER_YEAR, duration_text
from secretsd.model import NOT_BACK, Health, Metadata, PendingRotation
from secretsd.service.reads import VERSION

OVERDUE_SECS: Final = 300.0
"""The schedule rotates within seconds; after this long it isn't going to."""
OWED_MANY: Final = 1000
_LOG: Final = "journalctl -u jarvis-secretsd -n 50"


def daemon(context: Context) -> Finding:
    """Ask the daemon how it is."""
    health = context.health_or_trouble
    if isinstance(health, str):
        if context.holder is not None:
            return failure(
                f"process {context.holder} has the vault and doesn't answer: {health}",
                "name its address with --url, or JARVIS_SECRETS_URL",
                *_about_tls(context.url),
                _LOG,
            )
        return warning(f"no daemon runs on this vault: {health}", "systemctl start jarvis-secretsd")
    return judge_health(health, context.url)


def _about_tls(url: str) -> list[str]:
    if not url.startswith("https://"):
        return []
    return [
        "where its certificate is from an authority of your own: --ca-file CA.pem",
        "where it asks for a client certificate: --cert-file CLIENT.pem --key-file CLIENT.key",
    ]


def judge_health(health: Health, url: str) -> Finding:
    """Judge what /healthz says."""
    if health.status != "ok":
        return failure(f"it can't serve: {health.reason or 'it gives no reason'}", _LOG)
    if health.version != VERSION:
        return warning(f"version {health.version} runs, {VERSION} is installed", "systemctl restart jarvis-secretsd")
    up, secrets = duration_text(health.uptime_secs), plural(health.secrets_count, "secret")
    return ok(f"version {health.version} at {url}, up {up}, {secrets}")


def bus(context: Context) -> Finding:
    """Ask the daemon whether it gets rid of its events."""
    return judge_bus(context.health, context.config.bus.topic_prefix, enabled=context.config.bus.enabled)


def judge_bus(health: Health, prefix: str, *, enabled: bool) -> Finding:
    """Judge the daemon's own view of the bus."""
    match health.bus:
        case "connected":
            return ok("the daemon is connected, and the broker accepts what it publishes")
        case "denied":
            return failure(
                "the broker refuses what the daemon publishes, or its credentials",
                f"give its user in the broker's ACL: topic readwrite {prefix}/#   (see mosquitto/acl)",
                _LOG,
            )
        case "disconnected":
            return failure(
                "the daemon has no connection to the broker: nobody hears of changes, they stay owed",
                "see `broker` and `broker-login`",
                _LOG,
            )
        case "disabled":
            if enabled:
                return warning(
                    "the running daemon has no bus, the configuration has", "systemctl restart jarvis-secretsd"
                )
            raise Skip("bus.enabled is false")


def owed(context: Context) -> Finding:
    """See how many events the broker has not acknowledged."""
    metrics = context.metrics
    lanes = {lane: metrics.get(f"secretsd_owed_events:{lane}") for lane in ("changes", "audit")}
    if None in lanes.values():
        raise Skip("the daemon has no bus")
    return judge_owed({lane: int(count or 0) for lane, count in lanes.items()})


def judge_owed(lanes: dict[str, int]) -> Finding:
    """Judge the backlog by lane."""
    said = f"{lanes['changes']:,} changes and {lanes['audit']:,} audit events wait for the broker"
    if max(lanes.values()) > OWED_MANY:
        return warning(said, "they go out by themselves once the broker takes them; see `bus`")
    return ok(said)


def audit_writes(context: Context) -> Finding:
    """See whether the running daemon has failed to write its log."""
    failed = int(context.metrics.get("secretsd_audit_failures_total", 0))
    if failed == 0:
        return ok("every line could be written since the daemon started")
    return warning(
        f"{plural(failed, 'batch').replace('batchs', 'batches')} of audit lines could not be written since the daemon "
        "started, and those requests were refused",
        _LOG,
    )


def expiries(context: Context) -> Finding:
    """See which secrets have expired or soon will, and that those which rotate by themselves do."""
    try:
        secrets = context.secrets
    except Skip as skip:
        return judge_counts(
            {status: int(context.metrics.get(f"secretsd_secrets:{status}", 0)) for status in ("expiring", "expired")},
            str(skip),
        )
    now = datetime.fromtimestamp(context.now_ms() / 1000, UTC)
    late = any(one.rotation == "auto" and _seconds_past(one, now) > OVERDUE_SECS for one in secrets.seen)
    finding = judge_expiries(secrets.seen, now, context.held if late else frozenset())
    if secrets.complete:
        return finding
    seen = f"of the {len(secrets.seen)} of {secrets.total} that this client may read: "
    return Finding(finding.status, seen + finding.found, finding.fixes)


def judge_counts(counts: dict[str, int], why_no_names: str) -> Finding:
    """Judge the numbers alone, which need no client."""
    if not any(counts.values()):
        return ok("no secret has expired or soon will")
    return warning(f"{counts['expired']} expired, {counts['expiring']} expiring", f"to see which: {why_no_names}")


def judge_expiries(secrets: Sequence[Metadata], now: datetime, held: Collection[str] = ()) -> Finding:
    """Judge each secret. An expired one is still served, so it is a warning; a schedule that stands still is not.

    `held` are those whose rotation waits for its window or for others: that is in order, but not for ever.
    """
    overdue: list[Metadata] = []
    kept_waiting: list[Metadata] = []
    expired, expiring = [], []
    for one in secrets:
        late = _seconds_past(one, now)
        if one.rotation == "auto":
            # One that is on its way to another end is judged by `rotations`.
            if late > OVERDUE_SECS and isinstance(one.pending, UnsetType):
                (kept_waiting if one.name in held else overdue).append(one)
        elif one.status == "expired" or late > 0:
            expired.append(one)
        elif one.status == "expiring":
            expiring.append(one)
    findings = []
    if overdue:
        names = listed([one.name for one in overdue])
        findings.append(failure(f"should have been rotated by now: {names}", "see `clock`", _LOG))
    too_long = [one for one in kept_waiting if one.status == "expired"]
    if too_long:
        names = listed([one.name for one in too_long])
        findings.append(
            failure(
                f"due for over eight days, and held by a window or a distance to others: {names}",
                "secretsctl schedule   # says for what, and until when; by hand they rotate at once",
                *map(_renewal, too_long),
            )
        )
    for said, ones in (("expired", expired), ("expiring", expiring)):
        if ones:
            names = listed([f"{one.name} ({one.expires_at[:10]})" for one in ones])
            findings.append(warning(f"{said}: {names}", *map(_renewal, ones)))
    return combined(f"none of {plural(len(secrets), 'secret')} has expired or soon will", findings)


def rotations(context: Context) -> Finding:
    """See whether rotations get through to their other ends."""
    failing = int(context.metrics.get("secretsd_rotations_failing", 0))
    try:
        secrets: Sequence[Metadata] = context.secrets.seen
    except Skip:
        secrets = ()
    return judge_rotations(secrets, failing)


def judge_rotations(secrets: Sequence[Metadata], failing: int) -> Finding:
    """Judge those that are known to fail: `failing` by the daemon's count, named as far as the client may read them."""
    if failing == 0:
        return ok("every rotation gets through to its other end")
    known = [(one.name, one.pending) for one in secrets if not isinstance(one.pending, UnsetType)]
    tidied = {name: pending.failure for name, pending in known if pending.failing and pending.step == "finish"}
    stuck = {name: pending for name, pending in known if pending.failing and pending.step != "finish"}
    said, fixes = [], []
    for at_risk, meaning in ((True, "which may refuse the old value too"), (False, "the old value is in force")):
        named = [f"{name} ({one.failure})" for name, one in stuck.items() if _may_refuse_both(one) == at_risk]
        if named:
            said.append(f"not through to the other end, {meaning}: {listed(named)}")
    fixes += [f"secretsctl rotate {name}   # once that is corrected; or --cancel" for name in stuck]
    if tidied:
        words = listed([f"{name} ({failure})" for name, failure in tidied.items()])
        said.append(f"the new value is in force, and the other end can't be tidied up: {words}")
        fixes += [f"secretsctl rotate --cancel {name}   # leaves it untidied; tried again by itself" for name in tidied]
    if not said:
        said.append(f"not through to the other end, or not tidied up there: {plural(failing, 'rotation')}")
        fixes.append("secretsctl ls   # shows which, to a client who may read them")
    return warning("; ".join(said), *fixes)


def _may_refuse_both(pending: PendingRotation) -> bool:
    """Tell whether the other end couldn't be given the old value again, so that it may take neither."""
    return pending.step == "undo" or (pending.failure or "").startswith(NOT_BACK)


def _seconds_past(secret: Metadata, now: datetime) -> float:
    if secret.expires_at.startswith(NEVER_YEAR):
        return float("-inf")
    try:
        return (now - datetime.fromisoformat(secret.expires_at)).total_seconds()
    except ValueError:
        return float("-inf")


def _renewal(secret: Metadata) -> str:
    if secret.type == "external":
        return f"secretsctl put {secret.name}   # with the new value on standard input"
    return f"secretsctl rotate {secret.name}"


CHECKS: Final = (
    Check("daemon", "Does the daemon answer, and can it serve?", daemon),
    Check("audit-writes", "Could every audit line be written since the daemon started?", audit_writes),
    Check("expiries", "Has a secret expired, or will it soon?", expiries),
    Check("rotations", "Do rotations get through to their other ends?", rotations),
    Check("bus", "Is the daemon connected to the broker, and may it publish?", bus),
    Check("owed", "Are many events waiting for the broker?", owed),
)

"""What `secretsctl doctor` looks at: a module for each group, a function from context to finding for each check."""

from __future__ import annotations

from typing import Final

from secretsd_bus import BusError

from secretsd.cli.checks import (
    announced,
    backups,
    broker,
    canary,
    configuration,
    host,
    keys,
    laggards,
    limits,
    log,
    service,
    state,
    unit,
)
from secretsd.cli.checks.context import Context
from secretsd.cli.checks.finding import Check, Finding, Skip, failure, skipped

CHECKS: Final[tuple[Check, ...]] = (
    *configuration.CHECKS,
    *state.CHECKS,
    *keys.CHECKS,
    *host.CHECKS,
    *unit.CHECKS,
    *log.CHECKS,
    *backups.CHECKS,
    *service.CHECKS,
    *laggards.CHECKS,
    *broker.CHECKS,
    *canary.CHECKS,
    *limits.CHECKS,
    *announced.CHECKS,
)
"""All checks, in the order in which they are made: what others build on comes first."""


def run(check: Check, context: Context) -> Finding:
    """Make one check. What it can't do is a finding too: one broken check must not hide the others' findings."""
    try:
        return check.look(context)
    except Skip as skip:
        return skipped(str(skip))
    except PermissionError as error:
        where = error.filename or "a file"
        return skipped(f"this user may not look at {where}", "run it as root or as the daemon's user")
    except BusError as error:
        return failure(f"the broker's connection was lost in the middle: {error}", "look once more; see `broker`")
    except OSError as error:
        return failure(f"{error.filename or 'a file'}: {error.strerror or type(error).__name__}")
    except Exception as error:  # noqa: BLE001 — the message may hold anything, so only the kind is told
        return failure(f"the check itself failed ({type(error).__name__})", "report this as a bug of secretsctl")

"""Who goes on using a version whose grace runs out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from secretsd.cli.checks.context import Context
from secretsd.cli.checks.finding import Check, Finding, Skip, listed, ok, plural, warning
from secretsd.cli.errors import Failed
from secretsd.cli.session import decoded, secret_path
from secretsd.model import Consumers

ASKED_MOST: Final = 20
"""Secrets whose consumers are asked for: each question is a line of the audit log."""


def laggards(context: Context) -> Finding:
    """See whether consumers still use versions more than half of whose grace is over."""
    count = context.metrics.get("secretsd_lagging_consumers")
    if count is None:
        raise Skip("the running daemon is too old to know its consumers")
    if not count:
        return ok("no consumer uses a version whose grace is half over")
    try:
        in_grace = [one.name for one in context.secrets.seen if one.previous is not None]
        found = [_consumers(context, name) for name in in_grace[:ASKED_MOST]]
    except Skip as skip:
        return judge_laggards(int(count), {}, f"to see who: {skip}")
    except Failed as failed:
        return judge_laggards(int(count), {}, f"to see who: {failed.message}")
    return judge_laggards(int(count), {one.name: _lagging(one) for one in found if _lagging(one)}, "")


def judge_laggards(count: int, lagging: Mapping[str, Sequence[str]], why_no_names: str) -> Finding:
    """Judge who lags behind with which secret; `why_no_names` stands in for names that can't be had."""
    said = f"{plural(count, 'consumer')} still on a version whose grace is half over"
    if not lagging:
        return warning(said, why_no_names or "secretsctl consumers NAME   # for each secret in its grace")
    named = listed([f"{name} ({listed(list(keys))})" for name, keys in lagging.items()])
    return warning(
        f"{said}: {named}",
        "start these services anew, or mend what keeps them from reading the secret; who is gone: take its right away",
        *(f"secretsctl consumers {name}" for name in lagging),
    )


def _consumers(context: Context, name: str) -> Consumers:
    return decoded(context.session.get(f"{secret_path(name)}/consumers"), Consumers)


def _lagging(found: Consumers) -> list[str]:
    return [f"{one.client}/{one.instance}" if one.instance else one.client for one in found.consumers if one.lags]


CHECKS: Final = (Check("laggards", "Does everybody use the current versions in time?", laggards),)

"""consumers: who has which version of a secret."""

from __future__ import annotations

from typing import Final

import click
import msgspec
from rich.text import Text

from secretsd.cli.options import NAME, Settings, connection_options
from secretsd.cli.output import Cell, distance, emit_json, print_table, when
from secretsd.cli.session import Session, decoded, secret_path
from secretsd.model import Consumer, Consumers, ConsumerState

_STYLES: Final[dict[ConsumerState, str]] = {
    "in-use": "green",
    "current": "green",
    "previous": "yellow",
    "outdated": "bold red",
    "never": "dim",
}


@click.command
@click.argument("name", type=NAME)
@connection_options
@click.pass_obj
def consumers(settings: Settings, name: str) -> None:
    """Show who has the current version of a secret, who still an earlier one, and who never read it.

    STATE is in-use (the current version, acknowledged), current (that, read), previous (an earlier one that is still
    readable), outdated (one whose grace is over) or never (not read, as far as is known); "lags" is added when more
    than half of the grace is over. Needs the right to rotate the secret, or audit.
    """
    with Session.open(settings) as session, session.suggesting(name):
        found = decoded(session.get(f"{secret_path(name)}/consumers"), Consumers)
    if settings.as_json:
        emit_json(msgspec.to_builtins(found))
        return
    click.echo(_headline(found))
    print_table(
        ("CLIENT", "VERSION", "STATE", "READ", "ACKNOWLEDGED", "LAST SEEN"), [_row(one) for one in found.consumers]
    )


def _headline(found: Consumers) -> str:
    said = f"{found.name}: version {found.version} since {when(found.current_since)}"
    if found.previous is not None:
        until = (
            "readable until all have moved on, at the latest" if found.grace == "until-converged" else "readable until"
        )
        said += f"; version {found.previous.version} {until} {when(found.previous.grace_until)}"
    if not found.complete:
        said += "\nThe audit log doesn't reach back far enough: others may have read earlier versions."
    return said


def _row(one: Consumer) -> list[Cell]:
    state, style = (f"{one.state}, lags", "bold red") if one.lags else (one.state, _STYLES[one.state])
    seen = "never" if one.seen_at is None else distance(one.seen_at)
    if not one.live and one.seen_at is not None:
        seen += " (taken to be gone)"
    elif not one.counts:
        seen += " (no consumer)"
    acknowledged = one.acknowledged_at
    return [
        one.client if one.instance is None else f"{one.client}/{one.instance}",
        "" if one.version is None else str(one.version),
        Text(state, style=style),
        "" if one.read_at is None else distance(one.read_at),
        "" if acknowledged is None else f"v{one.acknowledged_version} {distance(acknowledged)}",
        seen,
    ]

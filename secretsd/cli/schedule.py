"""schedule: what will happen by itself, and why then."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urlencode

import click
import msgspec
from rich.text import Text

from secretsd.cli.options import Settings, Whole, complete_names, connection_options
from secretsd.cli.output import Cell, distance, emit_json, print_table
from secretsd.cli.session import Session, decoded
from secretsd.cli.terminal import printable
from secretsd.model import Occurrence, Schedule

_STYLES: Final = {"rotate": "green", "warn": "yellow", "expire": "bold red", "grace ends": "dim"}
_SLACK: Final = timedelta(seconds=1)


@click.command
@click.option("--days", type=Whole(1, 366), default=90, show_default=True, help="How far to look ahead.")
@click.option(
    "--secret",
    metavar="GLOB",
    shell_complete=complete_names,
    help="Only the secret of this name, or those that a glob (* and ?) matches.",
)
@connection_options
@click.pass_obj
def schedule(settings: Settings, days: int, secret: str | None) -> None:
    """Show what will happen by itself to the secrets that the client may read, and why it happens then.

    It is what the daemon's schedule will do if nobody rotates anything by hand. Times are those of this machine, with
    UTC beside them.
    """
    query = {"days": str(days), **({} if secret is None else {"secret": secret})}
    with Session.open(settings) as session:
        found = decoded(session.get(f"/schedule?{urlencode(query)}"), Schedule)
    if settings.as_json:
        emit_json(msgspec.to_builtins(found))
        return
    if found.doubt is not None:
        click.secho(printable(f"Nothing happens while the clock is in doubt: {found.doubt}"), fg="yellow", err=True)
    if not found.occurrences:
        click.echo(f"Nothing will happen by itself within {days} days.")
        return
    now = datetime.fromisoformat(found.now)
    print_table(("WHEN", "UTC", "IN", "NAME", "WHAT", "WHY"), [_row(one, now) for one in found.occurrences])
    if not found.complete:
        fewer = "fewer --days" if secret is not None else "fewer --days, or for one --secret"
        click.echo(f"… and more until {found.until[:10]}: ask for {fewer}", err=True)


def _row(one: Occurrence, now: datetime) -> list[Cell]:
    at = datetime.fromisoformat(one.at)
    return [
        f"{at.astimezone():%a %Y-%m-%d %H:%M %Z}",
        f"{at.astimezone(UTC):%m-%d %H:%MZ}",
        distance(one.at, now).removeprefix("in "),
        one.name,
        Text(f"{one.what} v{one.version}", style=_STYLES.get(one.what, "")),
        reason(one),
    ]


def reason(one: Occurrence) -> str:
    """Return why it happens, and why not earlier, in words."""
    if one.what == "grace ends":
        return "its grace is over"
    if one.what == "warn":
        return f"expires {one.due_at[:10]}"
    said = f"schedule {one.schedule}" if one.schedule is not None else "period"
    if one.what == "expire":
        late = datetime.fromisoformat(one.at) - datetime.fromisoformat(one.due_at) > _SLACK
        return "its rotation is held back" if late else f"{said}; doesn't rotate by itself"
    if one.window is not None:
        said += f"; window {one.window}"
    if one.moved:
        said += f"; moved by not_with {one.moved_by or 'another secret'}"
    late_by = datetime.fromisoformat(one.at) - datetime.fromisoformat(one.due_at)
    if late_by > _SLACK:
        said += f"; due {one.due_at[:16].replace('T', ' ')}Z"
    return said

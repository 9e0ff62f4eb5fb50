"""ls and info: metadata, which no value is fetched for."""

from __future__ import annotations

import fnmatch
from typing import Literal, get_args

import click
import msgspec
from msgspec import UnsetType
from rich.text import Text

from secretsd.cli import carried
from secretsd.cli.errors import Failed
from secretsd.cli.options import NAME, Settings, complete_names, connection_options
from secretsd.cli.output import Cell, distance, emit_json, print_fields, print_table, status_text, when
from secretsd.cli.schedule import reason
from secretsd.cli.session import Session, decoded, near
from secretsd.cli.terminal import printable
from secretsd.model import Metadata, Schedule, Status

_Order = Literal["name", "expiry"]


@click.command
@click.argument("pattern", required=False, shell_complete=complete_names)
@click.option("--status", type=click.Choice(get_args(Status)), help="Only those of this status.")
@click.option("--sort", type=click.Choice(get_args(_Order)), default="name", show_default=True, help="In which order.")
@connection_options
@click.pass_obj
def ls(settings: Settings, pattern: str | None, status: str | None, sort: _Order) -> None:
    """List the secrets that the client may read, never their values.

    PATTERN is a glob of names (* and ?, quoted from the shell).
    """
    with Session.open(settings) as session:
        found = select(session.secrets(), pattern, status, sort)
    if settings.as_json:
        emit_json({"secrets": msgspec.to_builtins(found)})
        return
    print_table(("NAME", "TYPE", "VERSION", "STATUS", "ROTATION", "EXPIRES", "GRACE"), [_row(one) for one in found])


def select(secrets: list[Metadata], pattern: str | None, status: str | None, sort: _Order) -> list[Metadata]:
    """Return those that match, in order; those that expire together by name."""
    found = [
        one
        for one in secrets
        if (pattern is None or fnmatch.fnmatchcase(one.name, pattern.replace("[", "[[]")))
        and (status is None or one.status == status)
    ]
    return sorted(found, key=lambda one: (one.expires_at if sort == "expiry" else "", one.name))


def _status(secret: Metadata) -> Text:
    """Return the status, and whether a rotation is on its way to another end."""
    pending = secret.pending
    line = status_text(secret.status)
    if isinstance(pending, UnsetType):
        return line
    if pending.failing:
        said = "tidying up fails" if pending.step == "finish" else "rotation fails"
        return line.append(f", {said}", style="bold red")
    return line.append(", rotating", style="yellow")


def _row(secret: Metadata) -> list[Cell]:
    previous = secret.previous
    grace = "" if previous is None else f"v{previous.version} {distance(previous.grace_until).removeprefix('in ')}"
    return [
        secret.name,
        secret.type,
        str(secret.version),
        _status(secret),
        secret.rotation,
        distance(secret.expires_at),
        grace,
    ]


@click.command
@click.argument("name", type=NAME)
@connection_options
@click.pass_obj
def info(settings: Settings, name: str) -> None:
    """Show what is known about a secret, but its value: the audit log has no reading of it."""
    with Session.open(settings) as session:
        secrets = session.secrets()
        secret = next((one for one in secrets if one.name == name), None)
        shown = secret is not None and secret.rotation == "auto" and not settings.as_json
        coming = next_rotation(session, name) if shown else None
    if secret is None:
        raise Failed(
            f"this client may not read {name}, or there is no such secret",
            hint=near(name, (one.name for one in secrets)),
        )
    if settings.as_json:
        emit_json(msgspec.to_builtins(secret))
        return
    previous = secret.previous
    print_fields(
        [
            ("name", secret.name),
            ("type", secret.type),
            ("status", _status(secret)),
            ("version", f"{secret.version}, kid {secret.kid}"),
            ("created", when(secret.created_at)),
            ("expires", when(secret.expires_at)),
            ("rotation", secret.rotation),
            *([] if coming is None else [("next", coming)]),
            (
                "in grace",
                "nothing"
                if previous is None
                else f"version {previous.version}, kid {previous.kid}, until {when(previous.grace_until)}",
            ),
            *_upcoming(secret),
            *(
                []
                if isinstance(secret.pending, UnsetType)
                else [("rotating", printable(carried.progress(secret.pending)))]
            ),
            ("generation", str(secret.generation)),
        ]
    )


def next_rotation(session: Session, name: str) -> str | None:
    """Return when a secret rotates next by itself and why then, None where it doesn't or the daemon can't say.

    Where its next version is published before that, this is said first.
    """
    try:
        plan = decoded(session.get(f"/schedule?days=366&secret={name}"), Schedule)
    except Failed:
        return None
    said = []
    for one in plan.occurrences:
        if one.what == "publish":
            said.append(f"publish v{one.version}, {when(one.at)}")
        elif one.what == "rotate":
            return ", then ".join([*said, f"rotate v{one.version}, {when(one.at)}: {reason(one)}"])
    return None


def _upcoming(secret: Metadata) -> list[tuple[str, Cell]]:
    upcoming = secret.upcoming
    if isinstance(upcoming, UnsetType):
        return []
    said = f"version {upcoming.version}, kid {upcoming.kid}, since {when(upcoming.published_at)}"
    return [("published ahead", said)]

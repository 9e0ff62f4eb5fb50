"""rotate, restore and rm."""

from __future__ import annotations

from pathlib import Path

import click

from secretsd.cli import material
from secretsd.cli.options import (
    NAME,
    Settings,
    connection_options,
    grace_option,
    insist,
    reason_option,
    urgent_option,
)
from secretsd.cli.output import emit_json, version_line
from secretsd.cli.session import Session, decoded, secret_path
from secretsd.model import MAX_SAFE_INTEGER, Metadata, Rotated


@click.command
@click.argument("names", type=NAME, nargs=-1, required=True, metavar="NAME...")
@click.option(
    "--value-file",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    help="Take the new value of the one NAME from FILE (`-`: standard input) instead of generating it.",
)
@click.option("--raw", is_flag=True, help="Keep a newline at the end of that value; else one is taken off.")
@grace_option
@urgent_option
@reason_option
@connection_options
@click.pass_obj
def rotate(
    settings: Settings,
    names: tuple[str, ...],
    value_file: Path | None,
    grace: str | None,
    reason: str | None,
    *,
    raw: bool,
    urgent: bool,
) -> None:
    """Make new versions of secrets, all of them or none, in one commit.

    The old versions stay readable until their grace is over. A secret that is issued elsewhere (external) needs its
    new value: --value-file.
    """
    wanted = list(dict.fromkeys(names))
    if value_file is not None and len(wanted) > 1:
        raise click.UsageError("--value-file holds the value of one secret; name one, or rotate them one by one")
    if raw and value_file is None:
        raise click.UsageError("--raw is about the value in --value-file")
    body: dict[str, object] = {"names": wanted}
    if value_file is not None:
        value = material.as_json(material.read_value(value_file, raw=raw, prompt=f"New value of {wanted[0]}"))
        body["values"] = {wanted[0]: value if "encoding" in value else value["value"]}
    if grace is not None:
        body["grace_period"] = grace
    if urgent:
        body["urgent"] = True
    if reason is not None:
        body["reason"] = reason
    with Session.open(settings) as session, session.suggesting(*wanted):
        answer = session.change("POST", "/rotate", body)
    if settings.as_json:
        emit_json(answer.json())
        return
    for secret in decoded(answer, Rotated).rotated:
        click.echo(version_line("rotated", secret))


@click.command
@click.argument("name", type=NAME)
@click.argument("version", type=click.IntRange(1, MAX_SAFE_INTEGER))
@reason_option
@connection_options
@click.pass_obj
def restore(settings: Settings, name: str, version: int, reason: str | None) -> None:
    """Undo a rotation: the value of VERSION, which must be in grace still, becomes a new version of NAME."""
    body = {"version": version, **({} if reason is None else {"reason": reason})}
    with Session.open(settings) as session, session.suggesting(name):
        answer = session.change("POST", f"{secret_path(name)}/restore", body)
    if settings.as_json:
        emit_json(answer.json())
    else:
        click.echo(version_line("restored", decoded(answer, Metadata)))


@click.command
@click.argument("names", type=NAME, nargs=-1, required=True, metavar="NAME...")
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
@connection_options
@click.pass_obj
def rm(settings: Settings, names: tuple[str, ...], *, yes: bool) -> None:
    """Delete secrets with all their versions. There is no way back.

    Clients drop the values at once. A new secret of the same name goes on from the old one's version.
    """
    wanted = list(dict.fromkeys(names))
    insist(f"Delete {', '.join(wanted)} with all versions, for good?", yes=yes)
    deleted: list[str] = []
    try:
        with Session.open(settings) as session:
            for name in wanted:
                with session.suggesting(name):
                    session.change("DELETE", secret_path(name))
                deleted.append(name)
                if not settings.as_json:
                    click.echo(f"deleted {name}")
    finally:
        if settings.as_json:
            emit_json({"deleted": deleted})

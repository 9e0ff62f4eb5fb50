"""rotate, restore and rm."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from secretsd.cli import carried, material
from secretsd.cli.errors import Failed
from secretsd.cli.options import (
    NAME,
    Settings,
    Whole,
    connection_options,
    grace_option,
    insist,
    reason_option,
    urgent_option,
)
from secretsd.cli.output import emit_json
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
@click.option("--no-wait", is_flag=True, help="Wait 10 s at most for another end to take the new value.")
@click.option("--cancel", is_flag=True, help="Give up rotations that are on their way; the old values stay.")
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
    no_wait: bool,
    cancel: bool,
    urgent: bool,
) -> None:
    """Make new versions of secrets, all of them or none, in one commit.

    The old versions stay readable until their grace is over. A secret that is issued elsewhere (external) needs its
    new value: --value-file. Where a rotator brings the value to another end, the new version is current once it has
    arrived there: that is waited for, a minute at most, and the exit status is 1 if it is known to fail.
    """
    wanted = list(dict.fromkeys(names))
    if cancel:
        if value_file is not None or grace is not None or urgent or reason is not None:
            raise click.UsageError("--cancel gives rotations up; it goes with names alone")
        _cancel(settings, wanted)
        return
    if value_file is not None and len(wanted) > 1:
        raise click.UsageError("--value-file holds the value of one secret; name one, or rotate them one by one")
    if raw and value_file is None:
        raise click.UsageError("--raw is about the value in --value-file")
    body: dict[str, object] = {"names": wanted, "grace_period": grace, "urgent": urgent or None, "reason": reason}
    if value_file is not None:
        value = material.as_json(material.read_value(value_file, raw=raw, prompt=f"New value of {wanted[0]}"))
        body["values"] = {wanted[0]: value if "encoding" in value else value["value"]}
    given = {member: said for member, said in body.items() if said is not None}
    with Session.open(settings) as session, session.suggesting(*wanted):
        try:
            found = decoded(session.change("POST", "/rotate", given), Rotated).rotated
        except Failed as failed:
            raise _explained(failed, wanted) from None
        if not no_wait:
            found = carried.settled(session, found)
    _tell(settings, "rotated", found)


def _explained(failed: Failed, names: list[str]) -> Failed:
    """Return the refusal with the name that it is about; the daemon says its place only."""
    found = failed.place("names")
    if found is None or found[0] >= len(names):
        return failed
    return Failed(f"{names[found[0]]}: {found[1]} Nothing was rotated.", hint=failed.hint, slug=failed.slug)


def _tell(settings: Settings, done: str, found: list[Metadata]) -> None:
    """Say what became of each, and end with 1 where one is known not to get through."""
    if settings.as_json:
        emit_json({done: msgspec.to_builtins(found)})
    else:
        for secret in found:
            click.echo(carried.outcome_line(done, secret))
    if any(map(carried.is_failing, found)):
        raise click.exceptions.Exit(1)


def _cancel(settings: Settings, names: list[str]) -> None:
    with Session.open(settings) as session, session.suggesting(*names):
        found = [decoded(session.change("DELETE", f"{secret_path(name)}/rotation"), Metadata) for name in names]
        found = carried.settled(session, found)
    _tell(settings, "cancelled", found)


@click.command
@click.argument("name", type=NAME)
@click.argument("version", type=Whole(1, MAX_SAFE_INTEGER))
@reason_option
@connection_options
@click.pass_obj
def restore(settings: Settings, name: str, version: int, reason: str | None) -> None:
    """Undo a rotation: the value of VERSION, which must be in grace still, becomes a new version of NAME."""
    body = {"version": version, **({} if reason is None else {"reason": reason})}
    with Session.open(settings) as session, session.suggesting(name):
        (secret,) = carried.settled(
            session, [decoded(session.change("POST", f"{secret_path(name)}/restore", body), Metadata)]
        )
    if settings.as_json:
        emit_json(msgspec.to_builtins(secret))
    else:
        click.echo(carried.outcome_line("restored", secret))
    if carried.is_failing(secret):
        raise click.exceptions.Exit(1)


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

"""put: a value in, as a new secret or a new version of an old one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import click
import msgspec
from secretsd_client import Response

from secretsd.cli import carried, material
from secretsd.cli.errors import Failed
from secretsd.cli.options import (
    DURATION,
    KID,
    NAME,
    Settings,
    connection_options,
    grace_option,
    reason_option,
    urgent_option,
)
from secretsd.cli.output import emit_json
from secretsd.cli.session import Session, decoded, secret_path
from secretsd.cli.terminal import note
from secretsd.model import Metadata, Rotation, SecretType


@click.command(context_settings={"allow_extra_args": True})
@click.argument("name", type=NAME)
@click.option(
    "--file",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    help="Read the value from FILE; without it, or with `-`: from standard input.",
)
@click.option("--raw", is_flag=True, help="Keep a newline at the end; else one is taken off.")
@click.option("--generate", is_flag=True, help="Let the daemon make the value of a new secret, by --type.")
@click.option(
    "--type", "kind", type=click.Choice(get_args(SecretType)), help="What it is; a rule of the policy beats it."
)
@click.option("--rotation", type=click.Choice(get_args(Rotation)), help="Whether it rotates when it expires.")
@click.option(
    "--rotation-period", type=DURATION, metavar="DURATION", help="How long a version lasts (90d, 12h, never)."
)
@grace_option
@click.option("--create", "only_create", is_flag=True, help="Fail if the secret exists.")
@click.option("--replace", "only_replace", is_flag=True, help="Fail if it doesn't exist.")
@click.option(
    "--if-kid",
    type=KID,
    metavar="KID",
    help="Replace it only if KID is still the current version's (compare and set).",
)
@urgent_option
@reason_option
@connection_options
@click.pass_context
def put(
    ctx: click.Context,
    name: str,
    file: Path | None,
    kind: str | None,
    rotation: str | None,
    rotation_period: str | None,
    grace: str | None,
    if_kid: str | None,
    reason: str | None,
    *,
    raw: bool,
    generate: bool,
    only_create: bool,
    only_replace: bool,
    urgent: bool,
) -> None:
    """Create a secret, or give it a new value.

    The value is read from standard input or --file; on a terminal it is asked for twice, without echo. One newline
    at its end is taken off unless --raw. Bytes that aren't UTF-8 are kept as base64. --type, --rotation and
    --rotation-period are for a new secret, --urgent and --reason for a new value of an old one.
    """
    _check(
        ctx.args,
        create_only=only_create or generate,
        replace_only=only_replace or if_kid is not None,
        generate=generate,
        value_given=file is not None or raw,
    )
    value = {} if generate else material.as_json(material.read_value(file, raw=raw, prompt=f"Value of {name}"))
    with Session.open(ctx.obj) as session:
        if not only_replace and if_kid is None:
            answer = _create(
                session,
                {"name": name, **value, "type": kind, "rotation": rotation, "rotation_period": rotation_period}
                | {"grace_period": grace},
                must=only_create or generate,
            )
            if answer is not None:
                _report(ctx.obj, "created", decoded(answer, Metadata))
                return
            if kind or rotation or rotation_period:
                note(f"{name} exists: its type, rotation and rotation period stay as they are")
        with session.suggesting(name):
            answer = session.change(
                "PUT",
                secret_path(name),
                _given({**value, "grace_period": grace, "urgent": urgent or None, "reason": reason}),
                headers={} if if_kid is None else {"If-Match": f'"{if_kid}"'},
            )
            (updated,) = carried.settled(session, [decoded(answer, Metadata)])
        _report(ctx.obj, "updated", updated)
        if carried.is_failing(updated):
            raise click.exceptions.Exit(1)


def _check(extra: list[str], *, create_only: bool, replace_only: bool, generate: bool, value_given: bool) -> None:
    """Raise UsageError for options that don't go together."""
    if extra:  # not repeated in the message: most likely it is the value
        raise click.UsageError(
            "a value never comes from the command line, where other users and the shell's history see it: "
            "pipe it in, or use --file"
        )
    if create_only and replace_only:
        raise click.UsageError("--create and --generate make a new secret: they exclude --replace and --if-kid")
    if generate and value_given:
        raise click.UsageError("--generate has the daemon make the value: it excludes --file and --raw")


def _create(session: Session, fields: Mapping[str, object], *, must: bool) -> Response | None:
    """Return the answer, None where the secret exists; that is Failed too if it `must` be created."""
    try:
        return session.change("POST", "/secret", _given(fields))
    except Failed as failed:
        if failed.slug != "exists":
            raise
        if must:
            failed.hint = "`secretsctl put` without --create gives it a value, `secretsctl rotate` generates one"
            raise
        return None


def _given(fields: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in fields.items() if value is not None}


def _report(settings: Settings, done: str, secret: Metadata) -> None:
    if settings.as_json:
        emit_json(msgspec.to_builtins(secret))
    else:
        click.echo(carried.outcome_line(done, secret))

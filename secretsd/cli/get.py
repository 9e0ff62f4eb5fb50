"""get: a value out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from secretsd.cli import material
from secretsd.cli.options import KID, NAME, Settings, connection_options
from secretsd.cli.output import emit_json
from secretsd.cli.session import Session, decoded, secret_path
from secretsd.model import MAX_SAFE_INTEGER, SecretAnswer


class _Version(click.ParamType[str]):
    """Which version: a number, or the newest in grace."""

    name = "version"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        number = text.isascii() and text.isdecimal() and len(text) < 17 and 0 < int(text) <= MAX_SAFE_INTEGER
        if text != "previous" and not number:
            self.fail("a version is a number from 1 on, or `previous`", param, ctx)
        return text


@click.command
@click.argument("name", type=NAME)
@click.option("--version", type=_Version(), metavar="VERSION", help="A version in grace: its number, or `previous`.")
@click.option("--kid", type=KID, metavar="KID", help="The version of this kid.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    help="Write the value to FILE, mode 0600, instead of printing it.",
)
@connection_options
@click.pass_obj
def get(settings: Settings, name: str, version: str | None, kid: str | None, output: Path | None) -> None:
    """Print a secret's value.

    It is printed as it is; on a terminal a newline follows. Values kept as base64 are printed as the bytes that
    they stand for. With --json it is the daemon's answer, metadata included.
    """
    if version is not None and kid is not None:
        raise click.UsageError("--version and --kid exclude each other")
    if output is not None and str(output) != "-":
        material.refuse_unfit(output)
    query = f"?version={version}" if version else f"?kid={kid}" if kid else ""
    with Session.open(settings) as session, session.suggesting(name):
        answer = session.get(secret_path(name) + query)
    if settings.as_json and output is None:
        emit_json(answer.json())
        return
    value = material.from_answer(decoded(answer, SecretAnswer))
    if output is None or str(output) == "-":
        material.print_value(value)
    else:
        material.save_value(value, output)

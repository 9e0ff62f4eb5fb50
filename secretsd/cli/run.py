"""run: a service that needs to know nothing of secretsd."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click
from secretsd_client import AsyncSecretsClient, SecretsError

from secretsd.cli.errors import Failed
from secretsd.cli.options import DURATION, Settings, complete_names, connection_options
from secretsd.cli.running.choice import BadChoice, Choice, Plan, parse_variable, plan
from secretsd.cli.running.command import OwnErrors, client_settings
from secretsd.cli.running.folder import Folder
from secretsd.cli.running.supervisor import Orders, Supervisor
from secretsd.cli.session import Session
from secretsd.model import parse_duration
from secretsd.policy.names import is_pattern

_SIGNALS: Final = ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "WINCH")


class _Signal(click.Choice[str]):
    """A signal's name, with or without SIG before it, as kill takes it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return super().convert(str(value).upper().removeprefix("SIG"), param, ctx)


@click.command(cls=OwnErrors, context_settings={"allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="[--] COMMAND [ARG]...")
@click.option(
    "-e",
    "--env",
    "variables",
    multiple=True,
    metavar="[VARIABLE=]SECRET",
    shell_complete=complete_names,
    help="Put a secret into this variable, by itself its name in upper case; may be repeated.",
)
@click.option(
    "-s",
    "--secret",
    "globs",
    multiple=True,
    metavar="GLOB",
    shell_complete=complete_names,
    help="Give the secrets that match (quote it), each as a variable, or a file, of its own name; may be repeated.",
)
@click.option("--all", "everything", is_flag=True, help="Give all secrets that the client may read.")
@click.option(
    "--prefix", default="", metavar="TEXT", help="Begin the variables that --secret and --all make with this."
)
@click.option(
    "--files",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Make what --secret and --all choose files in DIR, which is private and in memory (tmpfs).",
)
@click.option("--on-disk", is_flag=True, help="Let DIR be on a disk, to which the values are then written.")
@click.option(
    "--signal",
    "signal_name",
    type=_Signal(_SIGNALS, case_sensitive=False),
    help="Send this signal when files have changed, instead of starting the command anew.",
)
@click.option(
    "--stop-timeout",
    type=DURATION,
    default="10s",
    show_default=True,
    metavar="DURATION",
    help="How long the command may take to end after SIGTERM, before SIGKILL.",
)
@connection_options
@click.pass_context
def run(
    ctx: click.Context,
    command: tuple[str, ...],
    variables: tuple[str, ...],
    globs: tuple[str, ...],
    *,
    everything: bool,
    prefix: str,
    folder: Path | None,
    on_disk: bool,
    signal_name: str | None,
    stop_timeout: str,
) -> None:
    """Run COMMAND with secrets in its environment, or as files, and tell it when they are rotated.

    A rotation is fetched first. Then COMMAND is ended (SIGTERM, after a while SIGKILL) and started anew; with
    --files and --signal it is signalled instead. When it ends by itself, that is the end, and its status is ours;
    125 is an error of our own, 126 and 127 say that COMMAND can't be executed or found.
    """
    settings: Settings = ctx.obj
    if signal_name and folder is None:
        raise click.UsageError("--signal needs --files: a signal can't bring new values into a running environment")
    if on_disk and folder is None:
        raise click.UsageError("--on-disk is about --files DIR")
    choice = _choice(variables, ("*", *globs) if everything else globs, prefix, as_files=folder is not None)
    milliseconds = parse_duration(stop_timeout)
    orders = Orders(
        command,
        signal.Signals[f"SIG{signal_name.upper()}"] if signal_name else None,
        None if milliseconds is None else milliseconds / 1000,
    )
    chosen = _planned(settings, choice)
    place = None if folder is None else Folder.open(folder, on_disk=on_disk)
    with Session.open(settings) as session, session.suggesting(*chosen.secrets):
        status = asyncio.run(_supervise(settings, chosen, place, orders))
    ctx.exit(status)


def _choice(variables: tuple[str, ...], globs: tuple[str, ...], prefix: str, *, as_files: bool) -> Choice:
    if not variables and not globs:
        raise click.UsageError("no secret is asked for: --env [VARIABLE=]SECRET, --secret GLOB or --all")
    if not all(map(is_pattern, globs)):
        raise click.UsageError("--secret takes a secret's name, or a glob of names with * and ?")
    if as_files and not globs:
        raise click.UsageError("--files needs to know which: --secret GLOB or --all")
    if prefix and (as_files or not globs):
        raise click.UsageError("--prefix is for the variables of --secret and --all")
    try:
        return Choice(tuple(map(parse_variable, variables)), globs, prefix, as_files)
    except BadChoice as error:
        raise click.UsageError(str(error)) from None


def _planned(settings: Settings, choice: Choice) -> Plan:
    """Return what goes where; the daemon is asked for names only where a glob stands for some."""
    readable: list[str] = []
    if choice.globs:
        with Session.open(settings) as session:
            readable = [one.name for one in session.secrets()]
    try:
        return plan(choice, readable)
    except BadChoice as error:
        raise Failed(str(error)) from None


async def _supervise(settings: Settings, chosen: Plan, folder: Folder | None, orders: Orders) -> int:
    try:
        chosen_settings = client_settings(settings)
        # Its callbacks only wake the supervisor, which says itself when the child has the new version.
        client = AsyncSecretsClient(replace(chosen_settings, acknowledge=False))
    except SecretsError as error:
        raise Failed(str(error)) from None
    orders = replace(orders, acknowledge=chosen_settings.acknowledge)
    async with client:
        return await Supervisor(client, chosen, folder, orders).run()

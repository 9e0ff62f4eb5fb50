"""template: files made from secrets, and made anew when those are rotated."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click
from secretsd_client import AsyncSecretsClient, SecretsError

from secretsd.cli.errors import Failed
from secretsd.cli.material import print_value
from secretsd.cli.options import DURATION, EXISTING_FILE, Settings, connection_options
from secretsd.cli.rendering.jobs import BadJob, Entry, Job, job, read_list, read_template
from secretsd.cli.rendering.keeper import Keeper
from secretsd.cli.rendering.sources import Sources
from secretsd.cli.rendering.template import Template
from secretsd.cli.running.command import OwnErrors, client_settings
from secretsd.cli.session import Session
from secretsd.crypto.sensitive import Sensitive
from secretsd.model import parse_duration

SETTLE: Final = "1s"


@click.command(cls=OwnErrors)
@click.argument("file", required=False, type=EXISTING_FILE)
@click.option(
    "-t",
    "--to",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PATH",
    help="The file to make of it. Without it, it is rendered once, to standard output.",
)
@click.option(
    "--config",
    type=EXISTING_FILE,
    metavar="TOML",
    help="A file that lists several templates, each as a table [[template]] of these options.",
)
@click.option("--mode", metavar="OCTAL", help="The file's mode.  [default: 0600]")
@click.option("--owner", metavar="USER[:GROUP]", help="To whom the file belongs; by itself to who runs this.")
@click.option(
    "--check",
    metavar="COMMAND",
    help="Put the file in its place only if COMMAND succeeds; {} in it is the new file. Without {} it is in its place "
    "already, and taken back if COMMAND fails.",
)
@click.option("--reload", metavar="COMMAND", help="Run COMMAND when the file has changed.")
@click.option("--shell", is_flag=True, help="Let /bin/sh run the commands.")
@click.option("--timeout", type=DURATION, metavar="DURATION", help="How long a command may take.  [default: 30s]")
@click.option("--once", is_flag=True, help="Bring the files up to date, and end.")
@click.option(
    "--settle",
    type=DURATION,
    metavar="DURATION",
    help="Wait until nothing has changed for so long, at most ten times as long: many rotations at once are one "
    f"reload.  [default: {SETTLE}]",
)
@connection_options
@click.pass_context
def template(
    ctx: click.Context,
    /,
    file: Path | None,
    to: Path | None,
    config: Path | None,
    *,
    once: bool,
    settle: str | None,
    **options: Any,
) -> None:
    """Render a Jinja2 template with secrets, and again whenever one of them is rotated.

    In FILE, {{ secret("name") }} is a secret's value, and .version, .kid and .expires_at what is known of it; filters:
    b64, b64decode, hex, json, from_json, shell, and Jinja's own. What is in place is only ever replaced as a whole,
    and when the check fails the old file stays in force. The exit status is 0, also when SIGTERM has ended it; with
    --once it is 1 when a check or a reload failed; 125 is an error of our own, 126 and 127 say that a command can't be
    executed or found.
    """
    settings: Settings = ctx.obj
    given = {name: value for name, value in options.items() if value}
    if config is not None and (file is not None or to is not None or given):
        raise click.UsageError("--config has everything about the templates in it: only --once and --settle go with it")
    if config is None and to is None and (given or once or settle):
        raise click.UsageError("without --to it is rendered once, to standard output, and nothing else is done")
    if config is None and to is None:
        read = read_template(_named(file))
        ctx.exit(_run(settings, read.names, lambda sources: _print(sources, read)))
    jobs, settle_secs = _wanted(file, to, config, given, settle)
    keep = _once if once else _keep
    names = [name for one in jobs for name in one.read().names]
    ctx.exit(_run(settings, names, lambda sources: keep(sources, jobs, settle_secs)))


def _named(file: Path | None) -> Path:
    if file is None:
        raise click.UsageError("which template? Name its FILE, or a list of several with --config")
    return file


def _wanted(
    file: Path | None, to: Path | None, config: Path | None, given: dict[str, Any], settle: str | None
) -> tuple[list[Job], float]:
    """Return the templates, and how many seconds of quiet are waited for."""
    listed = None
    try:
        if config is not None:
            jobs, listed = read_list(config)
        elif to is not None:
            jobs = [job(Entry(str(_named(file)), str(to), **given))]
        milliseconds = parse_duration(settle or listed or SETTLE)
    except (BadJob, ValueError) as error:
        raise click.UsageError(str(error)) from None
    if milliseconds is None:
        raise click.UsageError("a change is taken up some time: --settle can't be never")
    return jobs, milliseconds / 1000


def _run(settings: Settings, names: Iterable[str], work: Callable[[Sources], Awaitable[int]]) -> int:
    """Do the work with a client; a name that the daemon refuses brings those that come near."""
    with Session.open(settings) as session, session.suggesting(*names):
        return asyncio.run(_with_client(settings, work))


async def _with_client(settings: Settings, work: Callable[[Sources], Awaitable[int]]) -> int:
    try:
        chosen = client_settings(settings)
        # Its callbacks only wake the keeper, which says itself when the files are in force.
        client = AsyncSecretsClient(replace(chosen, acknowledge=False))
    except SecretsError as error:
        raise Failed(str(error)) from None
    async with client:
        return await work(Sources(client, acknowledge=chosen.acknowledge))


async def _print(sources: Sources, template: Template) -> int:
    print_value(Sensitive((await sources.render(template, {})).data))
    return 0


async def _once(sources: Sources, jobs: Sequence[Job], settle_secs: float) -> int:
    with Keeper(sources, jobs, settle_secs) as keeper:
        return await keeper.once()


async def _keep(sources: Sources, jobs: Sequence[Job], settle_secs: float) -> int:
    with Keeper(sources, jobs, settle_secs) as keeper:
        return await keeper.keep()

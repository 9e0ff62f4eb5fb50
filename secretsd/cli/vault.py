"""vault: what is done to the vault's files while the daemon is stopped."""

from __future__ import annotations

from pathlib import Path

import click

from secretsd.cli.errors import Failed
from secretsd.cli.options import Commands, Settings, config_option, insist, json_option
from secretsd.cli.output import emit_json
from secretsd.config import load
from secretsd.daemon.acceptance import accept_rollback as accept
from secretsd.errors import SecretsdError


@click.group(cls=Commands)
def vault() -> None:
    """Look after the vault's files."""


@vault.command("accept-rollback")
@config_option()
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
@json_option
@click.pass_obj
def accept_rollback(settings: Settings, config: Path, *, yes: bool) -> None:
    """Go on with an older vault or audit log, knowingly.

    For when the newer files are lost: what they had acknowledged is lost with them. A new epoch begins, so that every
    client drops its cache, and the audit log says so. The daemon must be stopped.
    """
    insist("Give up what the newer files held, and go on with these?", yes=yes)
    try:
        accepted = accept(load(config))
    except SecretsdError as error:
        raise Failed(str(error)) from None
    if settings.as_json:
        emit_json({"epoch": accepted.epoch, "generation": accepted.generation, "sequence": accepted.sequence})
        return
    click.echo(
        f"accepted: epoch {accepted.epoch}, generation {accepted.generation}; the log goes on from line "
        f"{accepted.sequence}. Start the daemon now, and rotate what was rotated in the lost time."
    )
    if not accepted.broker_asked:
        click.echo(
            "The broker could not be asked what it remembers: should the daemon refuse its checkpoint, run this once "
            "more while the broker runs.",
            err=True,
        )

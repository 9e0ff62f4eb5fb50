"""health: one question, for whoever restarts what doesn't answer."""

from __future__ import annotations

from pathlib import Path

import click

from secretsd.cli.checks.context import Context
from secretsd.cli.errors import Failed
from secretsd.cli.options import Settings, config_option, connection_options
from secretsd.cli.output import emit_json
from secretsd.cli.session import decoded
from secretsd.model import Health


@click.command
@config_option("The daemon's configuration, which says where it listens; --url beats it.")
@connection_options
@click.pass_obj
def health(settings: Settings, config: Path) -> None:
    """Ask whether the daemon can serve: 0 when it can, 1 when it says no, 3 when it doesn't answer.

    No client is named and nothing is read, so nothing is written to the audit log however often this is asked. It
    is what the container's HEALTHCHECK runs.
    """
    with Context(config, settings) as context:
        answer = context.session.health()
    said = decoded(answer, Health)
    if settings.as_json:
        emit_json(answer.json())
    else:
        click.echo(f"{said.status}, bus {said.bus}")
    if said.status != "ok":
        raise Failed(f"the daemon can't serve: {said.reason or 'it gives no reason'}")

"""What `run` and `template` share as commands: errors that can't be taken for a child's, and the client's settings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import click
import secretsd_client

from secretsd.cli.options import Settings
from secretsd.cli.running.child import CannotStart

FAILED: Final = 125
"""The exit code of what we can't do, so that the child's own can be told from it, as env(1) and timeout(1) have it."""


class OwnErrors(click.Command):
    """A command whose own errors, slips on the command line too, are none of the child's."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse the command line."""
        try:
            return super().make_context(*args, **kwargs)
        except click.ClickException as error:
            error.show()
        raise click.exceptions.Exit(FAILED)

    def invoke(self, ctx: click.Context) -> Any:
        """Run it."""
        try:
            return super().invoke(ctx)
        except CannotStart:
            raise
        except click.ClickException as error:
            error.show()
        raise click.exceptions.Exit(FAILED)


def client_settings(settings: Settings) -> secretsd_client.Settings:
    """Return the client's settings: those of its environment, and the options over them."""
    environment = secretsd_client.Settings.from_env()
    return replace(
        environment,
        url=settings.url or environment.url,
        client_id=settings.client,
        token=None if settings.token_file else environment.token,
        token_file=settings.token_file,
        ca_file=settings.ca_file,
        cert_file=settings.cert_file,
        key_file=settings.key_file,
    )

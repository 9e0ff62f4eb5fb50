"""What several commands take: who asks whom, names, durations, reasons."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from click.shell_completion import CompletionItem

from secretsd.cli.errors import Failed

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_CONFIG: Final = Path("/etc/jarvis-secretsd/config.toml")
_SENTENCE: Final = 200
EXISTING_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
# Whether it is there is seen where it is used: a variable that names a lost token is no matter to what asks no daemon.
CONNECTION_FILE: Final = click.Path(dir_okay=False, path_type=Path)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The global options; None: not given."""

    url: str | None = None
    client: str | None = None
    token_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    as_json: bool = False


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Let an option that stands after the command win over the one before it."""
    if value:
        ctx.obj = replace(ctx.obj, **{str(param.name): value})


_JSON: Final = click.option(
    "--json", "as_json", is_flag=True, expose_value=False, callback=_remember, help="Print JSON instead of text."
)
_CONNECTION: Final = (
    click.option("--url", metavar="URL", expose_value=False, callback=_remember, hidden=True),
    click.option("--client", metavar="NAME", expose_value=False, callback=_remember, hidden=True),
    *(
        click.option(
            option,
            type=CONNECTION_FILE,
            expose_value=False,
            callback=_remember,
            hidden=True,
        )
        for option in ("--token-file", "--ca-file", "--cert-file", "--key-file")
    ),
)


def config_option(text: str = "The daemon's configuration.") -> Callable[[F], F]:
    """Return the option --config, for commands that work on the daemon's files; `text` is its help."""
    return click.option(
        "--config",
        type=click.Path(path_type=Path),
        default=DEFAULT_CONFIG,
        show_default=True,
        metavar="FILE",
        help=text,
    )


def pubkey_option(text: str) -> Callable[[F], F]:
    """Return the option --pubkey: a signing key that is trusted whatever the daemon or the log says of itself."""
    return click.option(
        "--pubkey", type=EXISTING_FILE, envvar="JARVIS_SECRETS_PUBKEY", show_envvar=True, metavar="PEM", help=text
    )


def json_option(function: F) -> F:
    """Let `--json` stand after the command too."""
    return _JSON(function)


def connection_options(function: F) -> F:
    """Let the global options stand after the command too."""
    for option in _CONNECTION:
        function = option(function)
    return json_option(function)


class Commands(click.Group):
    """A group that says in whole sentences what its commands do."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands and their first sentences, folded instead of cut."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, one.get_short_help_str(_SENTENCE)) for name, one in found if one is not None])


class _Name(click.ParamType[str]):
    """A secret's name. What isn't one is not repeated: it may be a value in the wrong place."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from secretsd.model import is_name  # noqa: PLC0415 — --help needs no msgspec

        if not is_name(str(value)):
            self.fail(
                "not a secret's name: letters, digits, dot, underscore, hyphen; a letter or digit first; at most 128",
                param,
                ctx,
            )
        return str(value)

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,
        incomplete: str,
    ) -> list[CompletionItem]:
        """Return the names that begin so, of those that the caller may list."""
        return complete_names(ctx, param, incomplete)


def complete_names(
    ctx: click.Context,
    param: click.Parameter,  # noqa: ARG001 — click's signature
    incomplete: str,
) -> list[CompletionItem]:
    """Return the secrets' names that begin so, of those that the caller may list; of VARIABLE=NAME the second part."""
    from secretsd.cli.session import names_for_completion  # noqa: PLC0415 — asks the daemon

    variable, equals, begun = incomplete.rpartition("=")
    return [CompletionItem(f"{variable}{equals}{name}") for name in names_for_completion(ctx) if name.startswith(begun)]


class Whole(click.IntRange):
    """A whole number between two limits."""

    name = "whole number"


class _Duration(click.ParamType[str]):
    """A duration as the daemon takes it, checked here so that a slip is a usage error."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from secretsd.model import parse_duration  # noqa: PLC0415 — --help needs no msgspec

        try:
            parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return str(value)


class _Kid(click.ParamType[str]):
    """A version's kid."""

    name = "kid"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(r"[A-Za-z0-9_-]{16,64}", str(value)):
            self.fail("a kid is 16 to 64 of A-Z, a-z, 0-9, _ and -", param, ctx)
        return str(value)


NAME: Final = _Name()
KID: Final = _Kid()
DURATION: Final = _Duration()


def insist(question: str, *, yes: bool) -> None:
    """Return when the operator wants what can't be undone. Raises UsageError where nobody can be asked, Failed."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("nobody is there to ask: give --yes if that is meant")
    if not click.confirm(question, err=True):
        raise Failed("nothing was done")


grace_option = click.option(
    "--grace",
    type=DURATION,
    metavar="DURATION",
    help="How long the version before stays readable (90d, 12h, 30m, 45s, never: without end).",
)
urgent_option = click.option(
    "--urgent", is_flag=True, help="The old versions have leaked: end the grace of all of them at once."
)
reason_option = click.option(
    "--reason", metavar="TEXT", help="Why, for the audit log and the event; at most 200 characters."
)

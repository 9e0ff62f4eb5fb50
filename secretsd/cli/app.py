"""All of secretsctl's commands: where each one is, and what `--help` says of it without loading it.

A command's module may import what it needs (aiohttp, rich, cryptography); it is loaded when that command runs.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from secretsd.cli.options import CONNECTION_FILE, Settings

INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141
"""What a shell reports of a process that SIGINT or SIGPIPE ended."""

SECTIONS: Final[dict[str, dict[str, tuple[str, str]]]] = {
    "Secrets": {
        "get": ("get", "Print a secret's value."),
        "put": ("put", "Create a secret, or give it a new value."),
        "rotate": ("changes", "Make new versions; the old ones stay readable in grace."),
        "restore": ("changes", "Undo: make a version in grace the current value again."),
        "rm": ("changes", "Delete secrets with all their versions."),
        "ls": ("listing", "List secrets, never their values."),
        "info": ("listing", "Show what is known about a secret, but its value."),
        "consumers": ("consumers", "Show who has which version of a secret."),
    },
    "Moving in": {
        "import-env": ("import_env", "Move the secrets of a .env file into the vault."),
        "restore-env": ("restore_env", "Bring a .env file back from its sealed backup."),
        "scan": ("scan", "Find values of the vault in files and git histories."),
    },
    "Services": {
        "run": ("run", "Run a command with secrets; told of rotations."),
        "template": ("render", "Make files from secrets, anew when those are rotated."),
    },
    "Watching": {
        "tail": ("tail", "Print events as they happen, each one verified."),
        "audit": ("audit", "Look after the audit log."),
        "schedule": ("schedule", "Show what will happen by itself, and why."),
        "why": ("why", "Say which line of the policy decides, offline."),
        "policy": ("policy", "Try a policy out on what the audit log has recorded."),
        "status": ("status", "Show on one screen how the daemon is doing."),
        "health": ("health", "Ask whether the daemon can serve; for health checks."),
        "doctor": ("doctor", "Look the whole installation over; each finding comes with its fix."),
    },
    "Setting up": {
        "init": ("init", "Write a configuration, a policy and an empty vault."),
        "broker": ("broker", "Set the MQTT broker up."),
        "vault": ("vault", "Look after the vault's files."),
        "backup": ("backup", "Back vault and audit log up while the daemon serves; restore them."),
        "key": ("keys", "Rotate the daemon's own keys while it serves."),
        "recovery": ("recovery", "Keep the master key safe elsewhere, and bring it back."),
        "completion": ("completion", "Print the shell's completion script."),
    },
}
"""By section of the help: the command, the module here that holds it, its line."""

COMMANDS: Final = {name: place for section in SECTIONS.values() for name, place in section.items()}


class Root(click.Group):
    """A group whose commands are loaded one at a time, and which ends quietly on Ctrl-C and broken pipes."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 — click's signature
        """Return the names of the commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 — click's signature
        """Load a command: the attribute of its module that bears its name."""
        if cmd_name not in COMMANDS:
            return None
        module, line = COMMANDS[cmd_name]
        command = getattr(import_module(f"secretsd.cli.{module}"), cmd_name.replace("-", "_"))
        if not isinstance(command, click.Command):
            raise TypeError(f"secretsd.cli.{module} holds no command {cmd_name}")
        command.short_help = line
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; for a slip, say what may have been meant."""
        if args and args[0] not in COMMANDS and args[0][:1].isalnum() and not ctx.resilient_parsing:
            meant = " or ".join(get_close_matches(args[0], COMMANDS, cutoff=0.6))
            ctx.fail(f"there is no command {args[0]!r}" + (f"; did you mean {meant}?" if meant else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 — as above
        """Write the commands by section, without loading them."""
        for section, commands in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(name, line) for name, (_, line) in commands.items()], col_spacing=3)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete a command's name without loading any."""
        if not incomplete.startswith("-"):
            return [
                CompletionItem(name, help=line) for name, (_, line) in COMMANDS.items() if name.startswith(incomplete)
            ]
        return super().shell_complete(ctx, incomplete)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the command line, or print the help that it asks for."""
        with _ending_quietly():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _ending_quietly():
            return super().invoke(ctx)


@contextlib.contextmanager
def _ending_quietly() -> Iterator[None]:
    """Make an interrupt and a reader that went away the end, and no errors to tell of."""
    try:
        yield
        sys.stdout.flush()
    except (KeyboardInterrupt, click.Abort):
        raise click.exceptions.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        _discard_output()
        raise click.exceptions.Exit(BROKEN_PIPE) from None


def _discard_output() -> None:
    """Let the interpreter's last flush go nowhere; it would complain about the broken pipe once more."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


@click.group(cls=Root, context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=True)
@click.option(
    "--url",
    envvar="JARVIS_SECRETS_URL",
    show_envvar=True,
    metavar="URL",
    help="Where the daemon is: http://host:port, https://host:port or unix:///path. Default: the packaged Unix "
    "socket where there is one, else http://127.0.0.1:8081.",
)
@click.option(
    "--client",
    envvar="JARVIS_CLIENT_ID",
    show_envvar=True,
    metavar="NAME",
    help="The client of the policy to act as.",
)
@click.option(
    "--token-file",
    type=CONNECTION_FILE,
    envvar="JARVIS_CLIENT_TOKEN_FILE",
    show_envvar=True,
    metavar="FILE",
    help="The file that holds the client's token. JARVIS_CLIENT_TOKEN may hold the token itself.",
)
@click.option(
    "--ca-file",
    type=CONNECTION_FILE,
    envvar="JARVIS_SECRETS_CA_FILE",
    show_envvar=True,
    metavar="PEM",
    help="With https://: whom to trust, where that isn't one of the system's authorities.",
)
@click.option(
    "--cert-file",
    type=CONNECTION_FILE,
    envvar="JARVIS_CLIENT_CERT_FILE",
    show_envvar=True,
    metavar="PEM",
    help="With https://: a certificate that proves the client; --key-file is its key.",
)
@click.option(
    "--key-file",
    type=CONNECTION_FILE,
    envvar="JARVIS_CLIENT_KEY_FILE",
    show_envvar=True,
    metavar="PEM",
    help="The key of --cert-file, without a passphrase.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
@click.version_option(package_name="jarvis-secretsd", prog_name="secretsctl")
@click.pass_context
def root(ctx: click.Context, /, url: str | None, client: str | None, *, as_json: bool, **files: Path | None) -> None:
    """Operate jarvis-secretsd: keep secrets, rotate them, watch who reads them.

    Values come from standard input or a file, never from the command line. These options may also stand after the
    command.
    """
    ctx.obj = Settings(url=url or None, client=client or None, as_json=as_json, **files)

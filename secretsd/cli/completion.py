"""completion: what the shell needs to complete commands, options and names."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    bash: add `eval "$(secretsctl completion bash)"` to ~/.bashrc. zsh: the same with zsh in ~/.zshrc. fish: write it
    to ~/.config/fish/completions/secretsctl.fish. Names of secrets are completed where the client may list them.
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"there is no completion for {shell}")
    click.echo(kind(ctx.find_root().command, {}, "secretsctl", "_SECRETSCTL_COMPLETE").source())

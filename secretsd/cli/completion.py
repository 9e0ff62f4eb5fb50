"""completion: what the shell needs to complete commands, options and names."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete


class _Zsh(ZshComplete):
    """click's script tells by the wrong sign that it is a function from zsh's path: true at its first call only."""

    source_template = ZshComplete.source_template.replace(
        "$zsh_eval_context[-1] == loadautofunc", "$funcstack[1] == _secretsctl"
    )


_KINDS: Final[dict[str, type[ShellComplete]]] = {"bash": BashComplete, "zsh": _Zsh, "fish": FishComplete}


@click.command
@click.argument("shell", type=click.Choice(list(_KINDS)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    bash: add `eval "$(secretsctl completion bash)"` to ~/.bashrc. zsh: the same with zsh in ~/.zshrc. fish: write it
    to ~/.config/fish/completions/secretsctl.fish. Names of secrets are completed where the client may list them.
    """
    kind = _KINDS[shell]
    click.echo(kind(ctx.find_root().command, {}, "secretsctl", "_SECRETSCTL_COMPLETE").source())

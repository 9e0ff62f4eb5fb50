"""why: which line of the policy decides, without a daemon."""

from __future__ import annotations

from pathlib import Path

import click

from secretsd.cli.errors import Failed
from secretsd.cli.options import EXISTING_FILE, NAME, Settings, config_option, json_option
from secretsd.cli.output import emit_json
from secretsd.cli.terminal import printable, styled
from secretsd.config import load
from secretsd.errors import SecretsdError
from secretsd.policy.explain import CONCERN_ALL, NEEDS, Explained


@click.command
@click.argument("client", metavar="CLIENT")
@click.argument("action", type=click.Choice(list(NEEDS)), metavar="ACTION")
@click.argument("name", type=NAME, required=False, metavar="[NAME]")
@click.option(
    "--policy",
    type=EXISTING_FILE,
    metavar="FILE",
    help="The policy to look at. Default: the one that the configuration names.",
)
@config_option("The daemon's configuration, where no --policy is given.")
@json_option
@click.pass_context
def why(ctx: click.Context, client: str, action: str, name: str | None, policy: Path | None, config: Path) -> None:
    """Say whether CLIENT may do ACTION with the secret NAME, and which line of the policy decides.

    ACTION is a right (read, write, rotate, delete, audit) or what the audit log calls it (list, create, update,
    restore). The file is asked, not the daemon, which may have an older one in force. The exit status is 1 where it
    is denied.
    """
    settings: Settings = ctx.obj
    capability = NEEDS[action]
    if (name is None) != (capability in CONCERN_ALL):
        raise click.UsageError(
            f"{action} is about one secret: name it" if name is None else f"{action} concerns no single secret: no NAME"
        )
    path = policy or _configured(config)
    verdict = explained(path).why(client, capability, name)
    if settings.as_json:
        emit_json(
            {
                "allowed": verdict.allowed,
                "client": client,
                "action": action,
                "needs": capability,
                "name": name,
                "file": str(path),
                "line": verdict.line,
                "reason": verdict.reason,
            }
        )
    else:
        answer = styled("allowed", "green") if verdict.allowed else styled("denied", "red")
        what = action if name is None else f"{action} {name}"
        click.echo(f"{answer}: {printable(client)} {'may' if verdict.allowed else 'may not'} {what}")
        click.echo(printable(f"{path}:{verdict.line}: {verdict.reason}"))
    ctx.exit(0 if verdict.allowed else Failed.exit_code)


def explained(path: Path) -> Explained:
    """Return the policy in the file at `path`. Raises Failed with each mistake and its line."""
    try:
        return Explained(path.read_bytes(), source=str(path))
    except OSError as error:
        failed = Failed(f"{path} can't be read: {error.strerror}")
    except SecretsdError as error:
        failed = Failed(str(error))
    raise failed


def _configured(config: Path) -> Path:
    try:
        return load(config).security.rbac_policy_path
    except (SecretsdError, OSError) as error:
        raise Failed(str(error), hint="name the policy with --policy, or its configuration with --config") from None

"""import-env: the secrets of a .env file, taken over and read back."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import click
from rich.text import Text

from secretsd.cli import material
from secretsd.cli.dotenv_file import Choice, Variable, read_variables
from secretsd.cli.errors import Failed
from secretsd.cli.options import Settings, connection_options
from secretsd.cli.output import emit_json, print_table, progress
from secretsd.cli.session import Session, decoded, secret_path
from secretsd.model import SecretAnswer

Action = Literal["new", "unchanged", "differs", "skipped", "created", "updated", "failed"]

_STYLE: Final = {
    "new": "green",
    "created": "green",
    "updated": "cyan",
    "differs": "yellow",
    "skipped": "dim",
    "failed": "bold red",
}


@dataclass(frozen=True)
class Step:
    """What is to be done, or was done, with one variable."""

    variable: Variable
    action: Action
    reason: str = ""
    kid: str = ""
    """The current version's, where the secret exists."""


@click.command("import-env")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-n", "--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
@click.option(
    "--only", multiple=True, metavar="GLOB", help="Take only variables (or names) that match; may be repeated."
)
@click.option("--skip", multiple=True, metavar="GLOB", help="Leave these out; may be repeated.")
@click.option("--prefix", default="", metavar="TEXT", help="Begin each secret's name with this.")
@click.option("--overwrite", is_flag=True, help="Give secrets whose value differs the one of the file.")
@click.option("--no-expand", is_flag=True, help="Take ${NAME} in a value as it stands.")
@connection_options
@click.pass_obj
def import_env(
    settings: Settings,
    file: Path,
    only: tuple[str, ...],
    skip: tuple[str, ...],
    prefix: str,
    *,
    dry_run: bool,
    overwrite: bool,
    no_expand: bool,
) -> None:
    """Take the secrets of a .env FILE over.

    Each variable becomes a secret whose name is the variable's in lower case. The file is read as python-dotenv
    reads it: quotes, export, values of several lines, ${NAME}. Empty variables are skipped, secrets that exist are
    left alone unless --overwrite. Every value is read back and compared. Values are never shown.
    """
    variables = read_variables(file, Choice(only, skip, prefix, expand=not no_expand))
    with Session.open(settings) as session:
        steps = _compare(session, variables)
        if not dry_run:
            steps = _carry_out(session, steps, overwrite=overwrite)
    if settings.as_json:
        emit_json({"file": str(file), "dry_run": dry_run, "variables": [_as_json(step) for step in steps]})
    else:
        _show(steps)
    failed = sum(step.action == "failed" for step in steps)
    if failed:
        raise Failed(f"{failed} of {len(steps)} variables could not be taken over; the reasons are in the list")


def _compare(session: Session, variables: list[Variable]) -> list[Step]:
    """Return what is to be done, by looking at each secret that exists and that the client may read."""
    existing = {one.name for one in session.secrets()}
    steps: list[Step] = []
    with progress("comparing", len(variables)) as advance:
        for one in variables:
            if one.value is None:
                steps.append(Step(one, "skipped", one.reason))
            elif one.name not in existing:
                steps.append(Step(one, "new"))
            else:
                answer = decoded(session.get(secret_path(one.name)), SecretAnswer)
                same = material.from_answer(answer) == one.value
                steps.append(Step(one, "unchanged" if same else "differs", kid=answer.kid))
            advance()
    return steps


def _carry_out(session: Session, steps: list[Step], *, overwrite: bool) -> list[Step]:
    """Return what was done. A refusal is one variable's; an unreachable daemon ends it all."""
    done: list[Step] = []
    with progress("importing", len(steps)) as advance:
        for step in steps:
            try:
                done.append(_carry_out_one(session, step, overwrite=overwrite))
            except Failed as failed:
                if failed.exit_code != Failed.exit_code:
                    raise
                reason = failed.message if failed.slug != "exists" else "it exists, and this client may not read it"
                done.append(replace(step, action="failed", reason=reason))
            advance()
    return done


def _carry_out_one(session: Session, step: Step, *, overwrite: bool) -> Step:
    variable = step.variable
    if variable.value is None or step.action not in {"new", "differs"}:
        return step
    if step.action == "differs" and not overwrite:
        return replace(step, reason="left alone; --overwrite replaces it")
    sent = material.as_json(variable.value)
    path = secret_path(variable.name)
    action: Action
    if step.action == "new":
        session.change("POST", "/secret", {"name": variable.name, **sent})
        action = "created"
    else:
        # Only if it is still the version that was compared: nobody's change of a moment ago is lost.
        session.change("PUT", path, sent, headers={"If-Match": f'"{step.kid}"'})
        action = "updated"
    back = material.from_answer(decoded(session.get(path), SecretAnswer))
    if back != variable.value:
        raise Failed("read back, it is not what was sent")
    return replace(step, action=action)


def _as_json(step: Step) -> dict[str, object]:
    variable = step.variable
    return {
        "variable": variable.key,
        "line": variable.line,
        "name": variable.name,
        "action": step.action,
        "reason": step.reason,
        "expanded": variable.expanded,
    }


def _show(steps: list[Step]) -> None:
    rows = [
        (
            str(step.variable.line),
            step.variable.key,
            step.variable.name if step.variable.value is not None else "",
            Text(step.action, style=_STYLE.get(step.action, "")),
            "; ".join(filter(None, (step.reason, "${…} was replaced" if step.variable.expanded else ""))),
        )
        for step in steps
    ]
    print_table(("LINE", "VARIABLE", "SECRET", "ACTION", "WHY"), rows)
    counts = Counter(step.action for step in steps)
    click.echo(", ".join(f"{count} {action}" for action, count in counts.items()) or "the file has no variables")

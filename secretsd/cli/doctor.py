"""doctor: the whole installation looked over, each finding with its fix."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
from rich.table import Table
from rich.text import Text

from secretsd.cli.checks import CHECKS, run
from secretsd.cli.checks.context import Context, Foreign, usage_checked
from secretsd.cli.checks.finding import Check, Finding, Standing, plural
from secretsd.cli.options import EXISTING_FILE, Settings, config_option, connection_options
from secretsd.cli.output import console, emit_json, print_table
from secretsd.cli.terminal import printable

_NAMES: Final = [check.name for check in CHECKS]
_WIDTH: Final = max(map(len, _NAMES))

MARKS: Final[dict[Standing, tuple[str, str]]] = {
    "ok": ("✓", "green"),
    "warning": ("!", "bold yellow"),
    "failure": ("✗", "bold red"),
    "skipped": ("–", "dim"),
}
"""What stands before a check on a terminal, and its colour."""


@dataclass(frozen=True, slots=True)
class Looked:
    """A check, and what came of it."""

    check: Check
    finding: Finding
    took_ms: int


@click.command
@config_option()
@click.option(
    "--only",
    type=click.Choice(_NAMES),
    multiple=True,
    metavar="NAME",
    help="Make this check only; may be repeated.",
)
@click.option(
    "--skip", type=click.Choice(_NAMES), multiple=True, metavar="NAME", help="Leave this check out; may be repeated."
)
@click.option("--foreign-user", metavar="NAME", help="A user of the broker who has no rights under the prefix.")
@click.option("--foreign-password-file", type=EXISTING_FILE, metavar="FILE", help="The file with that user's password.")
@click.option("--list", "list_only", is_flag=True, help="List the checks, make none.")
@connection_options
@click.pass_obj
def doctor(
    settings: Settings,
    config: Path,
    only: tuple[str, ...],
    skip: tuple[str, ...],
    foreign_user: str | None,
    foreign_password_file: Path | None,
    *,
    list_only: bool,
) -> None:
    """Look the installation over: files, rights, clock, daemon, log, broker. Each finding comes with its fix.

    Works with a running daemon and a stopped one; what can't be looked at is skipped, with the reason. Run it as root
    or as the daemon's user. Nothing is changed. The exit status is 1 if a check fails; warnings leave it 0.
    """
    if (foreign_user is None) is not (foreign_password_file is None):
        raise click.UsageError("--foreign-user and --foreign-password-file go together")
    chosen = [check for check in CHECKS if (not only or check.name in only) and check.name not in skip]
    if not chosen:
        raise click.UsageError("no check is left to make")
    if list_only:
        _list(settings, chosen)
        return
    foreign = None
    if foreign_user is not None and foreign_password_file is not None:
        foreign = Foreign(foreign_user, foreign_password_file)
    looked = []
    with Context(config, settings, foreign=foreign) as context:
        usage_checked(context)
        for check in chosen:
            one = _look(check, context)
            looked.append(one)
            if not settings.as_json:
                _show(one)
        url = context.url
    counts = Counter(one.finding.status for one in looked)
    if settings.as_json:
        emit_json(_as_json(looked, counts, config, url))
    else:
        _summarise(counts)
    if counts["failure"]:
        raise click.exceptions.Exit(1)


def _look(check: Check, context: Context) -> Looked:
    started = time.perf_counter()
    out = console(err=True)
    if out.is_terminal and not check.shows_progress:
        with out.status(f"{check.name} …"):
            finding = run(check, context)
    else:
        finding = run(check, context)
    return Looked(check, finding, round((time.perf_counter() - started) * 1000))


def _list(settings: Settings, checks: Sequence[Check]) -> None:
    if settings.as_json:
        emit_json({"checks": [{"name": check.name, "asks": check.asks} for check in checks]})
    else:
        print_table(("CHECK", "WHAT IT ASKS"), [(check.name, check.asks) for check in checks])


def _show(one: Looked) -> None:
    """Print a line for the check, and under it a line for each fix."""
    finding = one.finding
    out = console()
    if not out.is_terminal:
        click.echo(printable(f"{finding.status:<7}  {one.check.name:<{_WIDTH}}  {finding.found}"))
        for fix in finding.fixes:
            click.echo(printable(f"{'':<7}  {'':<{_WIDTH}}  fix: {fix}"))
        return
    mark, style = MARKS[finding.status]
    line = Table.grid(padding=(0, 2, 0, 0))
    line.add_column(width=1)
    line.add_column(width=_WIDTH)
    line.add_column(overflow="fold")
    quiet = "dim" if finding.status == "skipped" else ""
    line.add_row(Text(mark, style=style), Text(one.check.name, style=quiet or "bold"), _text(finding.found, quiet))
    out.print(line)
    for fix in finding.fixes:
        # Not folded, so that a command can be copied.
        out.print(Text(f"{'':<{_WIDTH + 5}}→ ").append_text(_text(fix, "cyan")), soft_wrap=True)


def _text(text: str, style: str) -> Text:
    return Text(printable(text), style=style)


def _summarise(counts: Counter[Standing]) -> None:
    out = console()
    words = {"warning": plural(counts["warning"], "warning"), "failure": plural(counts["failure"], "failure")}
    summary = Text()
    for status, (_, style) in MARKS.items():
        said = words.get(status, f"{counts[status]} {status}")
        summary.append(", " if summary else "").append(said, style=style if counts[status] else "dim")
    if out.is_terminal:
        out.print()
        out.print(summary)
    else:
        click.echo(summary.plain)


def _as_json(looked: Sequence[Looked], counts: Counter[Standing], config: Path, url: str) -> dict[str, Any]:
    return {
        "ok": counts["failure"] == 0,
        "config": str(config),
        "url": url,
        "summary": {status: counts[status] for status in MARKS},
        "checks": [
            {
                "name": one.check.name,
                "asks": one.check.asks,
                "status": one.finding.status,
                "found": one.finding.found,
                "fixes": list(one.finding.fixes),
                "took_ms": one.took_ms,
            }
            for one in looked
        ],
    }

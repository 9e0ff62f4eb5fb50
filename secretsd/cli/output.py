"""Tables, progress and JSON. Nothing of a user's or the daemon's is ever taken for markup."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

from secretsd.cli.terminal import printable
from secretsd.model import Metadata

NEVER_YEAR: Final = "9999-"
_WIDE: Final = 100_000

STATUS_STYLE: Final = {
    "active": "green",
    "expiring": "yellow",
    "expired": "bold red",
    "ok": "green",
    "connected": "green",
    "disconnected": "yellow",
    "denied": "bold red",
    "unavailable": "bold red",
    "in-doubt": "yellow",
    "disabled": "dim",
}

Cell = str | Text


class _Console(Console):
    """rich would end the process by itself when the reader of a pipe goes away."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console(*, err: bool = False) -> Console:
    """Return a console on the present stream; not a terminal: no colours and no line breaks of its own."""
    stream = sys.stderr if err else sys.stdout
    width = None if stream.isatty() else _WIDE
    return _Console(file=stream, width=width, markup=False, highlight=False, emoji=False, soft_wrap=False)


def emit_json(value: Any) -> None:
    """Print a JSON document."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def status_text(status: str) -> Text:
    """Return a status in its colour."""
    return Text(printable(status), style=STATUS_STYLE.get(status, ""))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Print rows under their columns; in a pipe with aligned columns and nothing else."""
    out = console()
    table = Table(
        box=SIMPLE_HEAD if out.is_terminal else None,
        header_style="bold",
        pad_edge=False,
        padding=(0, 1) if out.is_terminal else (0, 2, 0, 0),
    )
    for index, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=index > 0)
    for row in rows:
        table.add_row(*(_safe(cell) for cell in row))
    _print(out, table)


def print_fields(fields: Sequence[tuple[str, Cell]]) -> None:
    """Print names and what they are, one a line."""
    out = console()
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, cell in fields:
        table.add_row(name, _safe(cell))
    _print(out, table)


def _print(out: Console, table: Table) -> None:
    if out.is_terminal:
        out.print(table)
        return
    with out.capture() as capture:
        out.print(table)
    # Columns are padded to their width: nobody wants that at the end of a line.
    click.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))


def _safe(cell: Cell) -> Text:
    return cell if isinstance(cell, Text) else Text(printable(cell))


def version_line(done: str, secret: Metadata) -> str:
    """Return a line that says what was done to a secret and what its current version is now."""
    line = f"{done} {secret.name}: version {secret.version}, kid {secret.kid}, expires {when(secret.expires_at)}"
    if secret.previous is not None and done != "created":
        line += f"; version {secret.previous.version} readable until {when(secret.previous.grace_until)}"
    return printable(line)


def when(time: str, now: datetime | None = None) -> str:
    """Return an RFC 3339 time as a person says it: the day, and how far from `now`."""
    if time.startswith(NEVER_YEAR):
        return "never"
    try:
        moment = datetime.fromisoformat(time)
    except ValueError:
        return time
    seconds = (moment - (now or datetime.now(UTC))).total_seconds()
    distance = duration_text(abs(seconds))
    return f"{moment:%Y-%m-%d %H:%M} ({f'in {distance}' if seconds >= 0 else f'{distance} ago'})"


def duration_text(seconds: float) -> str:
    """Return a length of time in its largest unit that has at least two of it."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds)} s"


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar on a terminal while the body calls what it is given once for each step; nothing elsewhere."""
    err = console(err=True)
    if not err.is_terminal:
        yield lambda: None
        return
    bar = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=err, transient=True)
    with bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


@contextmanager
def counter(what: str) -> Iterator[Callable[[int], None] | None]:
    """Show on a terminal how far the body has come, as it says with the callable that it is given; None elsewhere."""
    err = console(err=True)
    if not err.is_terminal:
        yield None
        return
    bar = Progress(
        SpinnerColumn(), TextColumn("{task.description}"), TextColumn("{task.completed:,}"), console=err, transient=True
    )
    with bar:
        task = bar.add_task(what, total=None)
        yield lambda reached: bar.update(task, completed=reached)

"""Tables, progress and JSON. Nothing of a user's or the daemon's is ever taken for markup."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

from secretsd.cli.terminal import printable
from secretsd.model import Metadata

NEVER_YEAR: Final = "9999-"
_WIDE: Final = 100_000
_GAP: Final = "  "
_FOLDED_LEAST: Final = 16
"""A column that is folded has this much room at least, or it isn't folded."""

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


def emit_json_line(value: Any) -> None:
    """Print JSON on one line, at once."""
    click.echo(_utf8(json.dumps(value, ensure_ascii=False, separators=(",", ":"))))


def emit_json(value: Any) -> None:
    """Print a JSON document."""
    click.echo(_utf8(json.dumps(value, indent=2, ensure_ascii=False)))


def _utf8(document: str) -> bytes:
    """Return JSON as its standard has it, whatever the locale; what stands for a file name's odd bytes is escaped."""
    return document.encode("utf-8", "backslashreplace")


def status_text(status: str) -> Text:
    """Return a status in its colour."""
    return Text(printable(status), style=STATUS_STYLE.get(status, ""))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Print rows under their columns; in a pipe one a line, however long, with aligned columns and nothing else.

    On a terminal the last column is folded. Where that doesn't do, no name is cut: the lines are as long as they are.
    """
    out = console()
    safe = [[_safe(cell) for cell in row] for row in rows]
    if not out.is_terminal:
        _print_aligned([columns, *safe])
        return
    if not _fits(out, [[Text(column) for column in columns], *safe]):
        _print_unfolded(out, [[Text(column, style="bold") for column in columns], *safe])
        return
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for index, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=index < len(columns) - 1)
    for row in safe:
        table.add_row(*row)
    out.print(table)


def print_fields(fields: Sequence[tuple[str, Cell]]) -> None:
    """Print names and what they are, one a line."""
    out = console()
    if not out.is_terminal:
        _print_aligned(fields)
        return
    styled = [[Text(name, style="bold"), _safe(cell)] for name, cell in fields]
    if not _fits(out, styled):
        _print_unfolded(out, styled)
        return
    out.print(fields_table(fields))


def _fits(out: Console, rows: Sequence[Sequence[Text]]) -> bool:
    """Tell whether all columns but the last have room as they are, and that enough to be folded."""
    *others, last = (max(cell.cell_len for cell in column) for column in zip(*rows, strict=True))
    needed: int = sum(others) + len(_GAP) * len(others) + min(last, _FOLDED_LEAST)
    return needed <= out.width


def fields_table(fields: Sequence[tuple[str, Cell]]) -> Table:
    """Return names and what they are as a terminal shows them."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, cell in fields:
        table.add_row(name, _safe(cell))
    return table


def _print_aligned(rows: Sequence[Sequence[Cell]]) -> None:
    """Print without rich, which takes a millisecond for a row."""
    cells = [[_safe(cell).plain for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        click.echo(_GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _print_unfolded(out: Console, rows: Sequence[Sequence[Text]]) -> None:
    """Print the same with its colours."""
    widths = [max(cell.cell_len for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        line = Text()
        for cell, width in zip(row, widths, strict=True):
            line.append_text(cell).append(" " * (width - cell.cell_len) + _GAP)
        line.rstrip()
        out.print(line, soft_wrap=True)


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
        return f"{datetime.fromisoformat(time):%Y-%m-%d %H:%M} ({distance(time, now)})"
    except ValueError:
        return time


def distance(time: str, now: datetime | None = None) -> str:
    """Return how far an RFC 3339 time is from `now`: "in 90 d", "3 h ago", "never"."""
    if time.startswith(NEVER_YEAR):
        return "never"
    try:
        seconds = (datetime.fromisoformat(time) - (now or datetime.now(UTC))).total_seconds()
    except ValueError:
        return time
    return f"in {duration_text(seconds)}" if seconds >= 0 else f"{duration_text(-seconds)} ago"


def duration_text(seconds: float) -> str:
    """Return a length of time in its largest unit that has at least two of it."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{round(seconds / length)} {unit}"
    return f"{round(seconds)} s"


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

"""Plain text for terminals, safe to print. Tables and progress, which need rich, are in `output`."""

from __future__ import annotations

import os
import sys

import click


def printable(text: str) -> str:
    """Return `text` with what a terminal would act on (control characters, bidirectional marks) made visible."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == " " else c.encode("unicode_escape").decode() for c in text)


def printable_lines(text: str) -> str:
    """Return `text` printable as above, in the lines that it has; those after the first are indented by two at least.

    So none of them passes for a message of its own, whoever wrote it.
    """
    first, *others = (printable(line) for line in text.split("\n"))
    return "\n".join([first, *(line if line.startswith("  ") else f"  {line}" for line in others)])


def colours(*, err: bool = False) -> bool:
    """Tell whether standard output (or error) takes colours: a terminal, and NO_COLOR isn't set."""
    stream = sys.stderr if err else sys.stdout
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def styled(text: str, colour: str, *, err: bool = False) -> str:
    """Return `text` in a colour where those are taken."""
    return click.style(text, fg=colour, bold=True) if colours(err=err) else text


def note(text: str) -> None:
    """Tell the operator something that is no part of the result: on standard error."""
    click.echo(printable(text), err=True)

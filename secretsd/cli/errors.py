"""How a command fails: a line that says what is wrong (of a file, one for each mistake), and a hint what to do.

click.ClickException
├── click.UsageError        2: the command line isn't right
└── Failed                  1: refused, or a verification failed
    └── Unreachable         3: the daemon (or, for `tail`, the broker) can't be reached
"""

from __future__ import annotations

import re
from typing import IO, Any

import click

from secretsd.cli.terminal import printable, printable_lines, styled


class Failed(click.ClickException):
    """The command can't be done. `slug` is the daemon's for its refusals, else empty."""

    exit_code = 1

    def __init__(self, detail: str, *, hint: str | None = None, slug: str = "") -> None:
        super().__init__(detail)
        self.hint = hint
        self.slug = slug

    def place(self, member: str) -> tuple[int, str] | None:
        """Return which entry of the request's list `member` the daemon's refusal is about, and what it says of it."""
        found = re.match(rf"{member}\[(\d+)\]: ", self.message)
        return None if found is None else (int(found[1]), self.message[found.end() :])

    def show(self, file: IO[Any] | None = None) -> None:
        """Write `error: …` and the hint to standard error."""
        click.echo(f"{styled('error:', 'red', err=True)} {printable_lines(self.message)}", file=file, err=True)
        if self.hint:
            click.echo(f"{styled('hint:', 'cyan', err=True)} {printable(self.hint)}", file=file, err=True)


class Unreachable(Failed):
    """Nobody answers."""

    exit_code = 3

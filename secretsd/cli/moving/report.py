"""What import-env says: the plan as a table, then what was done. Values are in neither."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import click
from rich.text import Text

from secretsd.cli.moving.carrying import Item, State
from secretsd.cli.output import print_table

_WORDS: Final[dict[State, tuple[str, str]]] = {
    "keep": ("keep", "green"),
    "generate": ("generate", "cyan"),
    "there": ("already there", "dim"),
    "differs": ("differs", "yellow"),
    "leave": ("left out", "dim"),
    "kept": ("kept", "green"),
    "generated": ("newly generated", "cyan"),
    "replaced": ("replaced", "cyan"),
}
_REASONS: Final[dict[State, str]] = {
    "generate": "a new value is made",
    "differs": "the vault has another value; --overwrite replaces it",
}


def show_plan(items: Sequence[Item], *, overwrite: bool) -> None:
    """Print what is to become of each variable."""
    print_table(("LINE", "VARIABLE", "SECRET", "ACTION", "WHY"), [_row(one, overwrite=overwrite) for one in items])
    click.echo(count(items) or "the file has no variables")


def count(items: Sequence[Item]) -> str:
    """Return how many are in which state, in words."""
    counts = Counter(one.state for one in items)
    return ", ".join(f"{counts[state]} {word}" for state, (word, _) in _WORDS.items() if counts[state])


def as_json(item: Item) -> dict[str, Any]:
    """Return an item for `--json`."""
    step = item.step
    return {
        "variable": step.key or None,
        "line": step.line or None,
        "name": step.name or None,
        "action": item.state,
        "reason": step.reason,
        "expanded": step.expanded,
    }


def _row(item: Item, *, overwrite: bool) -> tuple[str, str, str, Text, str]:
    step = item.step
    word, style = _WORDS[item.state]
    reason = step.reason or _REASONS.get(item.state, "")
    if item.state == "differs" and overwrite:
        reason = "the vault has another value, which is replaced"
    why = "; ".join(filter(None, (reason, "${…} was replaced" if step.expanded else "")))
    return str(step.line or ""), step.key, step.name, Text(word, style=style), why

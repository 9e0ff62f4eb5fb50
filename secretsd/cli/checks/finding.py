"""What a check comes to: how it stands, what was found, what to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from secretsd.cli.checks.context import Context

Standing = Literal["ok", "warning", "failure", "skipped"]

FIXES_MOST: Final = 8
NAMED_MOST: Final = 5


class Skip(Exception):
    """A check can't be made; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check. A fix is a command, or a sentence where none would do. No secret's value is in it."""

    status: Standing
    found: str
    fixes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Check:
    """A check: its name for `--only` and `--skip`, what it asks, and how it is answered.

    `look` may raise Skip, and PermissionError where this user may not look.
    """

    name: str
    asks: str
    look: Callable[[Context], Finding]
    shows_progress: bool = False
    """Whether it says itself on a terminal how far it has come."""


def ok(found: str) -> Finding:
    """Return that all is well."""
    return Finding("ok", found)


def warning(found: str, *fixes: str) -> Finding:
    """Return what should be changed, though everything works."""
    return Finding("warning", found, fixes)


def failure(found: str, *fixes: str) -> Finding:
    """Return what is broken, or open to others."""
    return Finding("failure", found, fixes)


def skipped(reason: str, *fixes: str) -> Finding:
    """Return why a check wasn't made, and what would let it be made."""
    return Finding("skipped", reason, fixes)


def combined(good: str, findings: Sequence[Finding]) -> Finding:
    """Return one finding for several: the worst standing, everything found, all fixes once; `good` for none."""
    if not findings:
        return ok(good)
    order: tuple[Standing, ...] = ("failure", "warning")
    ranked = [one for status in order for one in findings if one.status == status]
    fixes = list(dict.fromkeys(fix for one in ranked for fix in one.fixes))
    if len(fixes) > FIXES_MOST:
        fixes = [*fixes[:FIXES_MOST], f"and {len(fixes) - FIXES_MOST} more of this kind"]
    return Finding(ranked[0].status, listed([one.found for one in ranked], "; "), tuple(fixes))


def listed(parts: Sequence[str], separator: str = ", ") -> str:
    """Return the parts in a row, of many only the first and how many more there are."""
    more = len(parts) - NAMED_MOST
    return separator.join(parts[:NAMED_MOST]) + (f"{separator}and {more} more" if more > 0 else "")


def plural(count: int, noun: str) -> str:
    """Return "1 client", "3 clients"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"

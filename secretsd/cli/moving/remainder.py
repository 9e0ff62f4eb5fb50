"""What a .env file becomes once its secrets are in the vault: the lines that stay, byte for byte."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from secretsd.cli.errors import Failed
from secretsd.cli.moving.envfile import EnvFile, references

_COMMENTED_OUT: Final = re.compile(r"\s*#+\s*(?:export\s+)?'?([A-Za-z_][A-Za-z0-9_.-]*)'?\s*=")
_TELLING: Final = 4
"""A value of fewer characters says nothing by standing in a comment."""
_LONG: Final = 8
"""A value of fewer characters is part of another one by chance."""


@dataclass(frozen=True)
class Remainder:
    """The file as it will be."""

    content: bytes = field(repr=False)
    removed: tuple[str, ...]
    """The variables that go, in the file's order."""
    comments: int
    """How many comments go with them: those that hold a value, or an old one of the same variable."""
    unread: tuple[int, ...]
    """Lines that stay because nobody understands them."""
    telling: tuple[str, ...]
    """Variables that stay although the value of one that goes is part of theirs."""


def remainder(envfile: EnvFile, gone: Collection[str], values: Sequence[str]) -> Remainder:
    """Return the file without the variables in `gone` and without the comments that would give `values` away.

    Raises Failed when a variable that stays refers to one that goes: it would come out empty.
    """
    for part in envfile.parts:
        lost = sorted(set(references(part.value)) & set(gone))
        if part.key is not None and part.key not in gone and lost:
            raise Failed(
                f"line {part.line}: {part.key} stays in the file and refers to {', '.join(lost)}, which would go",
                hint=f"make a secret of it too (--map), or leave {lost[0]} in the file (--skip)",
            )
    kept: list[str] = []
    comments = 0
    for part in envfile.parts:
        if part.key is not None:
            if part.key not in gone:
                kept.append(part.text)
            continue
        lines = part.text.splitlines(keepends=True)
        staying = [line for line in lines if not (part.understood and _gives_away(line, gone, values))]
        comments += len(lines) - len(staying)
        kept.extend(staying)
    return Remainder(
        envfile.mark + "".join(kept).encode(),
        tuple(dict.fromkeys(part.key for part in envfile.parts if part.key is not None and part.key in gone)),
        comments,
        tuple(part.line for part in envfile.parts if not part.understood),
        tuple(
            part.key
            for part in envfile.parts
            if part.key is not None and part.key not in gone and _holds(part.text, values, _LONG)
        ),
    )


def _gives_away(line: str, gone: Collection[str], values: Sequence[str]) -> bool:
    old = _COMMENTED_OUT.match(line)
    return (old is not None and old[1] in gone) or _holds(line, values, _TELLING)


def _holds(text: str, values: Sequence[str], least: int) -> bool:
    return any(value in text for value in values if len(value) >= least)

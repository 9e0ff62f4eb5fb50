"""The table that says what becomes of a .env file's variables (docs/moving-in.md has its format)."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final, Literal, get_args

from secretsd.cli.errors import Failed
from secretsd.model import SecretType, is_name

Action = Literal["keep", "generate", "random", "leave"]

MAX_FILE_BYTES: Final = 1024 * 1024
NOTHING: Final = "-"
_PATTERN: Final = re.compile(r"[A-Za-z0-9_.*?-]{1,256}\Z")
_FIELDS: Final = "VARIABLE ACTION [SECRET [TYPE]]"


@dataclass(frozen=True)
class Rule:
    """A line of the table. `secret` empty: the variable's name in lower case."""

    line: int
    pattern: str
    """A variable's name or glob; `-` for a secret that the file has no variable for."""
    action: Action
    secret: str = ""
    type: SecretType | None = None

    def matches(self, key: str) -> bool:
        """Tell whether this line speaks of the variable `key`; case doesn't matter."""
        return fnmatch.fnmatchcase(key.upper(), self.pattern.upper())


NO_RULE: Final = Rule(0, "*", "leave")


@dataclass(frozen=True)
class Table:
    """All lines, in order."""

    rules: tuple[Rule, ...]

    def rule_for(self, key: str) -> Rule:
        """Return the first line that matches; what none matches is left in the file."""
        return next((rule for rule in self.rules if rule.pattern != NOTHING and rule.matches(key)), NO_RULE)

    @property
    def without_variable(self) -> tuple[Rule, ...]:
        """The lines for secrets that the file has no variable for."""
        return tuple(rule for rule in self.rules if rule.pattern == NOTHING)


def builtin_text() -> str:
    """Return the built-in table, comments included."""
    return files("secretsd.cli.moving").joinpath("builtin.map").read_text("utf-8")


def builtin() -> Table:
    """Return the built-in table."""
    return parse(builtin_text(), "the built-in table")


def read_table(path: Path) -> Table:
    """Return the table in a file. Raises Failed with file, line and what is allowed there."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise Failed(f"{path} can't be read: {error.strerror}") from None
    if len(content) > MAX_FILE_BYTES:
        raise Failed(f"{path} is over 1 MiB; that is no table of variables")
    try:
        return parse(content.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError:
        raise Failed(f"{path} is no UTF-8 text") from None


def parse(text: str, where: str) -> Table:
    """Return the table in `text`. Raises Failed; no message repeats what stands there: it may be a .env by mistake."""
    rules: list[Rule] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        mistake = _mistake(words)
        if mistake is not None:
            raise Failed(
                f"{where}, line {number}: {mistake}",
                hint=f"a line is {_FIELDS}; `secretsctl import-env --print-map` shows a table to start from",
            )
        rules.append(_rule(number, words))
    return Table(tuple(rules))


def _rule(number: int, words: Sequence[str]) -> Rule:
    action: Action = next(one for one in get_args(Action) if one == words[1])
    named = words[2] if len(words) > 2 and words[2] != NOTHING else ""
    kind: SecretType | None = next((one for one in get_args(SecretType) if words[3:] == [one]), None)
    return Rule(number, words[0], action, named, kind)


def _mistake(words: Sequence[str]) -> str | None:
    """Return what is wrong with a line's words, None when nothing is."""
    if not 2 <= len(words) <= 4:
        return f"found {len(words)} words; allowed are 2 to 4"
    pattern, action, *rest = words
    named = rest[0] if rest and rest[0] != NOTHING else ""
    making = action in {"generate", "random"}
    checks = (
        (not _PATTERN.match(pattern), "the first word is no variable's name or glob: letters, digits, _ . - * ?"),
        (action not in get_args(Action), f"the second word is no action; allowed are {', '.join(get_args(Action))}"),
        (bool(named) and not is_name(named), "the third word is no secret's name"),
        (
            len(rest) > 1 and rest[1] not in get_args(SecretType),
            f"no type; allowed are {', '.join(get_args(SecretType))}",
        ),
        (action == "leave" and bool(rest), "what is left in the file has no secret's name or type"),
        (pattern == NOTHING and not (making and named), "`-` is for a secret to generate: give its name"),
        (bool(named) and any(c in pattern for c in "*?"), "a glob can match several variables, and each needs a name"),
        (len(rest) > 1 and rest[1] == "external" and making, "an external secret is issued elsewhere, never generated"),
    )
    return next((text for wrong, text in checks if wrong), None)

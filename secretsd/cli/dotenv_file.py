"""From a .env file to a plan: which variable becomes which secret, and which doesn't. Nothing here asks anybody."""

from __future__ import annotations

import fnmatch
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dotenv.main import resolve_variables
from dotenv.parser import parse_stream

from secretsd.cli.errors import Failed
from secretsd.crypto.sensitive import Sensitive
from secretsd.model import MAX_VALUE_BYTES, is_name

MAX_FILE_BYTES: Final = 8 * 1024 * 1024


@dataclass(frozen=True)
class Variable:
    """A line (or several) of the file. `value` is None where there is none to take; `reason` says why."""

    key: str
    line: int
    name: str = ""
    value: Sensitive | None = field(default=None, repr=False)
    reason: str = ""
    expanded: bool = False
    """Whether the value had ${…} in it, which was replaced."""


@dataclass(frozen=True)
class Choice:
    """What of a file is wanted: globs of variables or secrets, and how names begin."""

    only: Sequence[str] = ()
    skip: Sequence[str] = ()
    prefix: str = ""
    expand: bool = True


def read_variables(path: Path, choice: Choice) -> list[Variable]:
    """Return the file's variables in its order, as the python-dotenv of the services reads them. Raises Failed."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise Failed(f"{path} can't be read: {error.strerror}") from None
    if len(content) > MAX_FILE_BYTES:
        raise Failed(f"{path} is over 8 MiB; that is no .env file")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Failed(f"{path}, line {line}: not UTF-8; save the file as UTF-8 text") from None
    return plan(text, choice)


def plan(text: str, choice: Choice) -> list[Variable]:
    """Return what becomes of each variable in `text`; of one that is set twice the last counts, as everywhere."""
    bindings = list(parse_stream(io.StringIO(text)))
    unreadable = [
        Variable("", one.original.line, reason="not understood: this is not KEY=value") for one in bindings if one.error
    ]
    lines = {one.key: one.original.line for one in bindings if one.key is not None}
    literal = {one.key: one.value for one in bindings if one.key is not None}
    values = resolve_variables(literal.items(), override=True) if choice.expand else literal
    found: list[Variable] = []
    taken: dict[str, str] = {}
    for key, value in values.items():
        one = _variable(key, lines[key], value, choice, expanded=value != literal[key])
        if one.value is not None and one.name in taken:
            one = Variable(key, one.line, one.name, reason=f"{taken[one.name]} has this name already")
        elif one.value is not None:
            taken[one.name] = key
        found.append(one)
    return sorted([*found, *unreadable], key=lambda one: one.line)


def _variable(key: str, line: int, value: str | None, choice: Choice, *, expanded: bool) -> Variable:
    name = secret_name(key, choice.prefix)
    reason = ""
    names = {key, name, name.removeprefix(choice.prefix)}
    if choice.only and not _matches(choice.only, names):
        reason = "not selected"
    elif _matches(choice.skip, names):
        reason = "left out by --skip"
    elif not value:
        reason = "empty"
    elif not is_name(name):
        reason = "no secret can have this name"
    elif len(value.encode()) > MAX_VALUE_BYTES:
        reason = "over 64 KiB"
    if reason or not value:
        return Variable(key, line, name, reason=reason)
    return Variable(key, line, name, Sensitive(value.encode()), expanded=expanded)


def secret_name(key: str, prefix: str = "") -> str:
    """Return the secret's name for a variable: in lower case, what a name can't hold as underscores."""
    cleaned = re.sub(r"[^a-z0-9._-]", "_", key.lower()).lstrip("._-")
    return prefix + cleaned if cleaned else ""


def _matches(patterns: Iterable[str], names: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns for name in names)

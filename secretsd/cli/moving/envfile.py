"""A .env file, read as python-dotenv reads it, with every line kept for writing back what stays."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dotenv.parser import Original, parse_stream
from dotenv.variables import Variable as Reference
from dotenv.variables import parse_variables

from secretsd.cli.errors import Failed
from secretsd.crypto.sensitive import Sensitive

MAX_FILE_BYTES: Final = 4 * 1024 * 1024
_NEWLINE: Final = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True)
class Part:
    """What one or several lines of the file are: a variable, a comment or blank lines (no key), or not understood."""

    line: int
    text: str = field(repr=False)
    """The lines as they stand; all parts' texts together are the file."""
    key: str | None = None
    value: str | None = field(default=None, repr=False)
    """As the dotenv library reads it, ${…} as it stands. None: `KEY` without an equals sign."""
    understood: bool = True

    @property
    def last_line(self) -> int:
        """The number of its last line that isn't blank."""
        return self.line + len(_NEWLINE.findall(self.text.strip()))


@dataclass(frozen=True)
class Variable:
    """A variable of the file; of one that is set twice the last value counts, as everywhere."""

    key: str
    line: int
    literal: str | None = field(repr=False)
    references: tuple[str, ...]
    """The names in the value's ${…}; empty where it has none."""


@dataclass(frozen=True)
class EnvFile:
    """A .env file's content. `path` is the file itself where a symbolic link was named."""

    path: Path
    content: Sensitive
    parts: tuple[Part, ...]

    @property
    def variables(self) -> tuple[Variable, ...]:
        """The variables, in the order of the lines that count."""
        last = {one.key: one for one in self.settings}
        return tuple(sorted(last.values(), key=lambda one: one.line))

    @property
    def settings(self) -> tuple[Variable, ...]:
        """What each line sets, those too that a later one sets anew: lines between the two refer to the first."""
        keyed = [(part.key, part) for part in self.parts if part.key is not None]
        return tuple(Variable(key, part.line, part.value, references(part.value)) for key, part in keyed)

    @property
    def mark(self) -> bytes:
        """The byte order mark that the file begins with, which is no part of any line; nothing where it has none."""
        return codecs.BOM_UTF8 if self.content.reveal().startswith(codecs.BOM_UTF8) else b""


def read_envfile(path: Path) -> EnvFile:
    """Return the file. Raises Failed when it can't be read, is no UTF-8 text or over 4 MiB."""
    try:
        path = path.resolve(strict=True)
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise Failed(f"{path} can't be read: {error.strerror}") from None
    if len(content) > MAX_FILE_BYTES:
        raise Failed(f"{path} is over 4 MiB; that is no .env file")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Failed(f"{path}, line {line}: not UTF-8; save the file as UTF-8 text") from None
    return EnvFile(path, Sensitive(content), parse(text))


def parse(text: str) -> tuple[Part, ...]:
    """Return the parts of a .env file's text."""
    # The lines as they are, and the values as services get them: the dotenv library opens a file as text, where a line
    # ends with \n alone. Only keyed parts are as many in both: it takes what it skips line by line, by \r and by \n.
    values = iter([one.value for one in parse_stream(io.StringIO(_NEWLINE.sub("\n", text))) if one.key is not None])
    return tuple(
        Part(
            _line(one.original),
            one.original.string,
            one.key,
            None if one.key is None else next(values),
            not one.error,
        )
        for one in parse_stream(io.StringIO(text, newline=""))
    )


def _line(original: Original) -> int:
    """Return the number of the first line that isn't blank; the parser counts the blank ones before it in."""
    blank = len(original.string) - len(original.string.lstrip())
    return original.line + len(_NEWLINE.findall(original.string[:blank]))


def references(value: str | None) -> tuple[str, ...]:
    """Return the names that a value's ${…} refer to, as the dotenv library finds them."""
    return tuple(atom.name for atom in parse_variables(value or "") if isinstance(atom, Reference))


def expanded(settings: Sequence[Variable]) -> Mapping[str, str | None]:
    """Return the values with each ${NAME} and ${NAME:-default} replaced by what the lines before say.

    Unlike the dotenv library it looks at no environment: the operator's isn't that of the services, and a name that
    is nowhere set becomes no empty text. Raises Failed for one, with its line, where that line counts.
    """
    counts = {one.key: one.line for one in settings}
    values: dict[str, str | None] = {}
    for one in settings:
        atoms = list(parse_variables(one.literal or ""))
        loose = any(
            isinstance(atom, Reference) and values.get(atom.name) is None and atom.default is None for atom in atoms
        )
        if loose and counts[one.key] == one.line:
            raise Failed(
                f"line {one.line}: {one.key} refers to a name that no line before it sets",
                hint="set it in the file, leave this variable out with --skip, or take the text as it stands with "
                "--no-expand",
            )
        unset = loose or one.literal is None
        values[one.key] = None if unset else "".join(atom.resolve(values) for atom in atoms)
    return values

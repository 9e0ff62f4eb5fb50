"""Takes keys out of a parsed TOML document one by one and collects everything that is wrong with it.

A key is taken with a parser (secretsd.config.parsers) and a default. What doesn't fit is noted and the
default stands in, so that one run names all mistakes; keys that nobody took are unknown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Final, TypeVar

T = TypeVar("T")

MAX_SHOWN: Final = 60
_PRIVATE_KEY = re.compile(r"pass|token|secret|key|cred|user|url|auth", re.IGNORECASE)
KINDS: Final[Mapping[type, str]] = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a float",
    list: "an array",
    dict: "a table",
}
"""How TOML calls its types."""


def kind_of(value: object) -> str:
    """Return how TOML calls the type of `value`."""
    return KINDS.get(type(value), "a date or time")


def shown(text: str) -> str:
    """Return `text` quoted, printable and no longer than a glance."""
    short = text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"
    return '"' + "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in short) + '"'


def found(key: str, value: object) -> str:
    """Return what a message may say of `value`: never the content of what could be a credential."""
    kind = kind_of(value)
    if _PRIVATE_KEY.search(key):
        return kind
    if isinstance(value, str):
        return f"{shown(value)} ({kind})"
    if isinstance(value, (bool, int, float)):
        return f"{str(value).lower()} ({kind})"
    return kind


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the one of `known` that `word` was probably meant to be."""
    candidates = list(known)
    started = [one for one in candidates if word and one.startswith(word)]
    return next(iter(get_close_matches(word, candidates, n=1, cutoff=0.6) or started), None)


class Document:
    """A parsed file. `complaints()` is complete once all sections were taken."""

    def __init__(self, tables: Mapping[str, object]) -> None:
        self._tables = tables
        self._sections: dict[str, Section] = {}
        self._noted: list[str] = []

    def section(self, name: str) -> Section:
        """Return the section `name`, empty where the file has none."""
        table = self._tables.get(name, {})
        if not isinstance(table, dict):
            self.note(name, f"found {found(name, table)}; allowed: a section, [{name}]")
            table = {}
        section = Section(self, name, table)
        self._sections[name] = section
        return section

    def note(self, path: str, complaint: str) -> None:
        """Remember that what stands at `path` can't be used."""
        self._noted.append(f"{path}: {complaint}")

    def complaints(self) -> list[str]:
        """Return everything that is wrong, unknown sections and keys included."""
        unknown = [self._unknown_section(name) for name in self._tables if name not in self._sections]
        for section in self._sections.values():
            unknown += [self._unknown_key(section, key) for key in section.left()]
        return self._noted + unknown

    def _unknown_section(self, name: str) -> str:
        home = next((s.name for s in self._sections.values() if name in s.taken), None)
        if home is not None:
            return f"{shown(name)}: this key belongs into the section [{home}]"
        near = nearest(name, self._sections)
        hint = f"did you mean [{near}]? " if near else ""
        return f"{shown(name)}: unknown section; {hint}allowed: {', '.join(self._sections)}"

    def _unknown_key(self, section: Section, key: str) -> str:
        path = f"{section.name}.{key}" if key.isidentifier() and len(key) <= MAX_SHOWN else section.name
        home = next((s.name for s in self._sections.values() if key in s.taken), None)
        if home is not None:
            return f"{path}: unknown key; {key} belongs into the section [{home}]"
        near = nearest(key, section.taken)
        hint = f"did you mean {near}? " if near else ""
        return f"{path}: unknown key {shown(key)}; {hint}allowed: {', '.join(section.taken)}"


class Section:
    """One table of the file."""

    def __init__(self, document: Document, name: str, table: Mapping[str, object]) -> None:
        self.name = name
        self.taken: list[str] = []
        self._document = document
        self._table = table

    def take(self, key: str, parse: Callable[[object], T], default: object) -> T:
        """Return what `key` holds, parsed; what `default` parses to where it is missing or doesn't fit."""
        self.taken.append(key)
        if key not in self._table:
            return parse(default)
        value = self._table[key]
        try:
            return parse(value)
        except ValueError as error:
            self.note(key, f"found {found(key, value)}; allowed: {error}")
            return parse(default)

    def has(self, key: str) -> bool:
        """Tell whether the file gives `key`."""
        return key in self._table

    def note(self, key: str, complaint: str) -> None:
        """Remember that `key` can't be used as it is."""
        self._document.note(f"{self.name}.{key}", complaint)

    def left(self) -> list[str]:
        """Return the keys that nobody took."""
        return [key for key in self._table if key not in self.taken]

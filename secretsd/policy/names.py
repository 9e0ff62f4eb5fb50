"""Sets of names, written as names and globs."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable

from secretsd.model import is_glob, is_pattern

__all__ = ["NameSet", "compile_glob", "is_glob", "is_pattern"]


def compile_glob(pattern: str) -> re.Pattern[str]:
    """Return the expression that matches the whole of what `pattern` stands for.

    `*` is any number of characters, `?` is one; case matters. fnmatch's third special character, `[`, is no
    part of a pattern here. Its translation matches in linear time: no pattern can make a look-up slow.
    """
    return re.compile(fnmatch.translate(pattern))


class NameSet:
    """The names that any of `patterns` matches."""

    __slots__ = ("_globs", "_names", "patterns")

    def __init__(self, patterns: Iterable[str]) -> None:
        self.patterns = tuple(patterns)
        self._names = frozenset(one for one in self.patterns if not is_glob(one))
        self._globs = tuple(compile_glob(one) for one in self.patterns if is_glob(one))

    def __contains__(self, name: str) -> bool:
        return name in self._names or any(glob.match(name) for glob in self._globs)

    def __repr__(self) -> str:
        return f"NameSet({list(self.patterns)!r})"

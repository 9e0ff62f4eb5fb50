"""RUST_LOG, which compose files of the old daemon set: as much of env_logger's language as can mean us.

`DIRECTIVE[,DIRECTIVE…][/REGEX]`; a directive is a level, `TARGET=LEVEL` or `TARGET`. A directive for our own
target beats a general one; those of other targets ("hyper=debug") concern libraries that aren't here.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from secretsd.config.values import Level

LEVELS: Final[dict[str, Level]] = {
    "trace": "trace",
    "debug": "debug",
    "info": "info",
    "warn": "warn",
    "warning": "warn",
    "error": "error",
    "off": "off",
}
_OURS: Final = frozenset({"jarvis_secretsd", "secretsd"})
_TARGET = re.compile(r"[A-Za-z_][A-Za-z0-9_:-]*\Z")


class Reading(NamedTuple):
    """The level that RUST_LOG asks of us, None where it asks none, and what in it made no sense."""

    level: Level | None
    warnings: tuple[str, ...]


def read(text: str) -> Reading:
    """Return what `text`, the variable's value, says; nonsense is ignored with a warning."""
    general: Level | None = None
    ours: Level | None = None
    warnings: list[str] = []
    for directive in text.split("/", 1)[0].split(","):
        target, has_level, word = (part.strip() for part in directive.partition("="))
        if not directive.strip():
            continue
        level = LEVELS.get((word if has_level else target).lower())
        if level is not None and not has_level:
            general = level
        elif target in _OURS and not has_level:
            ours = "trace"  # env_logger: a target without a level is logged whole
        elif level is None or not _TARGET.match(target):
            warnings.append(
                "RUST_LOG: a part that is neither a level (trace, debug, info, warn, error, off) nor "
                f'"target=level" was ignored: {directive.strip()[:40]!r}'
            )
        elif target.split("::", 1)[0] in _OURS:
            ours = level
    return Reading(ours or general, tuple(warnings))

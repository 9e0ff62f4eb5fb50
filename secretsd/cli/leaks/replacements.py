"""The file that `git filter-repo --replace-text` takes values out of a history with. It holds them in the clear."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from secretsd import files
from secretsd.cli.errors import Failed
from secretsd.cli.leaks.findings import Finding
from secretsd.cli.leaks.needles import Matcher
from secretsd.cli.terminal import note

REMOVED: Final = b"***REMOVED***"


def refuse_existing(path: Path | None) -> None:
    """Raise Failed where the file to be written exists, before any work is done for it."""
    if path is not None and os.path.lexists(path):
        raise Failed(f"{path} exists; the values are written to a new file only: name another")


def write_replacements(path: Path, findings: Iterable[Finding], matcher: Matcher) -> None:
    """Write the expressions for what was found in histories to a file, mode 0600. Raises Failed."""
    shown = matcher.masked(str(path))
    try:
        files.save(path, replacement_rules(findings))
    except OSError as error:
        raise Failed(f"{shown} can't be written: {error.strerror}") from None
    note(f"{shown} holds the values as they are, for git filter-repo: remove it afterwards (shred -u {shown})")


def replacement_rules(findings: Iterable[Finding]) -> bytes:
    """Return a line for each text that was found in a history, in the form in which it was found."""
    texts = {one.needle.text for one in findings if one.repository}
    # The longest first: one value may be a part of another.
    ordered = sorted(texts, key=lambda text: (-len(text), text))
    return b"".join(_rule(text) + b"==>" + REMOVED + b"\n" for text in ordered)


def _rule(text: bytes) -> bytes:
    if b"\n" not in text and b"\r" not in text:
        return b"literal:" + text
    return b"regex:" + re.escape(text).replace(b"\\\n", rb"\n").replace(b"\\\r", rb"\r")

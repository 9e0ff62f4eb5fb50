"""Which files make up the log: the active one and what rotation made of older ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_ROTATED: Final = re.compile(r"(?:[.-][0-9]{1,14}(?:[-T.][0-9]{1,10})*(?:\.gz)?|\.gz)\Z")
"""logrotate's `.1`, `.1.gz`, `-20261123`, `-20261123-1764000000.gz` and the like, and a plain `gzip`'s `.gz`."""

TORN_INFIX: Final = ".torn-"
"""Between the name of a file of the log and the place where it was torn: there the rest of its last line lies."""


def is_made_of(audit_path: Path, path: Path) -> bool:
    """Tell whether `path` has a name that rotation gives to the log's file, or recovery to a line that was torn."""
    if path.parent != audit_path.parent or not path.name.startswith(audit_path.name):
        return False
    rest, torn, _ = path.name[len(audit_path.name) :].partition(TORN_INFIX)
    return bool(_ROTATED.fullmatch(rest) or (torn and not rest))


def find_files(audit_path: Path) -> list[Path]:
    """Return the log's files that exist, the active one first. Nothing else that lies beside it counts.

    Nor does a .gz beside the very file that is being compressed, or was when the machine stopped: it may be half.
    """
    found = [audit_path] if audit_path.is_file() else []
    if audit_path.parent.is_dir():
        rotated = [
            path
            for path in sorted(audit_path.parent.glob(f"{audit_path.name}*"))
            if _ROTATED.fullmatch(path.name[len(audit_path.name) :]) and path.is_file()
        ]
        plain = {path.name for path in rotated if path.suffix != ".gz"}
        found.extend(path for path in rotated if path.suffix != ".gz" or path.stem not in plain)
    return found

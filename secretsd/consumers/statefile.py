"""The sightings between two starts: a file beside the log, made again from it where it is lost. Blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct

from secretsd import files
from secretsd.consumers.sightings import Sighting

SUFFIX: Final = ".seen.json"


class SeenFile(Struct, frozen=True, forbid_unknown_fields=True):
    """The file's content: the lines up to `sequence`, whose hash is `head`, are in it (docs/consumers.md)."""

    log_id: str
    sequence: int
    head: str
    since: str | None
    seen: dict[str, str]
    secrets: dict[str, dict[str, Sighting]]
    format: Literal[1] = 1


def beside(audit_path: Path) -> Path:
    """Return where the file of this log lies: `audit.seen.json` beside `audit.jsonl`."""
    return audit_path.with_name(audit_path.stem + SUFFIX)


def load(path: Path, log_id: str) -> SeenFile | None:
    """Return the file's content, None where it is missing, can't be read or is another log's: it is made again."""
    try:
        found = msgspec.json.decode(files.read_regular(path), type=SeenFile)
    except (OSError, msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    return found if found.log_id == log_id else None


def save(path: Path, content: SeenFile) -> None:
    """Replace the file durably. Raises OSError."""
    files.replace(path, msgspec.json.encode(content) + b"\n")

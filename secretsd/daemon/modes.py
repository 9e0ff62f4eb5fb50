"""Who besides the daemon may use which file of the state. What is found too open is told, and left as it is."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from secretsd.audit.logfiles import find_files
from secretsd.daemon.firststart import StateFiles
from secretsd.daemon.recoveryfile import REPLACED_INFIX


@dataclass(frozen=True, slots=True)
class Allowed:
    """Which permissions others must not have (`never`), and should not (`rather_not`); and how they are taken away."""

    never: int
    rather_not: int
    change: str
    why: str


PRIVATE: Final = Allowed(0o077, 0, "chmod 600", "it is the daemon's alone")
PUBLIC_KEY: Final = Allowed(0o022, 0, "chmod 644", "whoever can write it can forge the log")
LOG: Final = Allowed(0o022, 0o015, "chmod go-wx,o-r", "it tells who reads what")
FOLDER: Final = Allowed(0o022, 0o055, "chmod 700", "the state lies there")
BESIDE: Final = Allowed(0o022, 0o055, "chmod 600", "it belongs to the vault")


def of_state(state: StateFiles) -> Iterator[tuple[Path, Allowed]]:
    """Yield the files and folders of the state with what is allowed for each, whether they exist or not."""
    replaced = sorted(state.master_key.parent.glob(f"{state.master_key.name}{REPLACED_INFIX}*"))
    for private in (state.master_key, *replaced, state.vault, state.sign_key):
        yield private, PRIVATE
    for public in (state.sign_pub, state.past_keys):
        yield public, PUBLIC_KEY
    for file in find_files(state.audit):
        yield file, LOG
    for folder in sorted({state.vault.parent, state.master_key.parent, state.audit.parent}):
        yield folder, FOLDER
    for path in sorted(state.vault.parent.glob(f"{state.vault.name}.*")):
        yield path, BESIDE


def found(path: Path, mode: int, allowed: Allowed) -> str:
    """Return what is said of a file that is too open."""
    return f"{path} has mode {stat.S_IMODE(mode):04o}: {allowed.why}"


def warnings(state: StateFiles) -> list[str]:
    """Return a warning for each file and folder of the state that others may use more than they should."""
    said = []
    for path, allowed in of_state(state):
        try:
            mode = path.stat().st_mode
        except OSError:
            continue  # the start says so itself where that matters
        if mode & (allowed.never | allowed.rather_not):
            said.append(f"{found(path, mode, allowed)}; run `{allowed.change} {path}`")
    return said

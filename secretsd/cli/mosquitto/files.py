"""Files that are written in part: what stands between our two marks is ours, what stands elsewhere is kept."""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from secretsd import files
from secretsd.cli.errors import Failed

BEGIN: Final = "# >>> secretsctl broker setup: what stands down to the end mark is written anew each time >>>"
END: Final = "# <<< secretsctl broker setup: the end mark; lines outside of the marks are kept <<<"
BROKERS_USER: Final = "mosquitto"
READABLE: Final = 0o644
"""Mosquitto reads its configuration as root when it starts, and as a user of its own when it reloads."""

Standing = Literal["new", "changed", "unchanged"]


@dataclass(frozen=True, slots=True)
class Planned:
    """A file as it is to be; `before` is its content now, None where there is none. `owner` None leaves who owns it."""

    path: Path
    content: str
    before: str | None
    owner: int | None
    private: bool = False
    """Whether it holds passwords or their hashes, so that it is shown to nobody."""
    mode: int = files.PRIVATE_FILE

    @property
    def standing(self) -> Standing:
        """Return what becomes of the file."""
        if self.before is None:
            return "new"
        return "unchanged" if self.before == self.content else "changed"

    def write(self) -> None:
        """Put the file in place, in a folder of the same owner where that has to be made. Raises OSError."""
        folder = self.path.parent
        if not folder.is_dir():
            files.make_folder(folder)
            _give(folder, self.owner)
        if self.standing != "unchanged":
            files.save(self.path, self.content.encode(), self.mode)
        elif stat.S_IMODE(self.path.stat().st_mode) != self.mode:
            self.path.chmod(self.mode)
        _give(self.path, self.owner)


def _give(path: Path, owner: int | None) -> None:
    if owner is not None and path.stat().st_uid != owner:
        os.chown(path, owner, -1)


def content_of(path: Path) -> str | None:
    """Return the text of a file, None where there is none. Raises Failed."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except PermissionError:
        raise Failed(f"{path} can't be read", hint="run this as root") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise Failed(f"{path} can't be used: {reason}") from None


def between_marks(content: str | None) -> str:
    """Return what stands between the marks, nothing where they aren't."""
    return (content or "").partition(BEGIN + "\n")[2].partition(END + "\n")[0]


def marked(path: Path, before: str | None, ours: str, *, last: bool) -> str:
    """Return the file's content with `ours` between the marks, and what was outside of them before or behind.

    A file without marks is another's. Raises Failed.
    """
    outside = ""
    if before is not None:
        first, begun, rest = before.partition(BEGIN + "\n")
        _, ended, behind = rest.partition(END + "\n")
        if before.strip() and not (begun and ended):
            raise Failed(
                f"{path} exists and was not written by this command",
                hint=f"move it away (`mv {path} {path}.old`), run this again, and put lines of it that are about "
                "others than secretsd back outside of the marks",
            )
        outside = "\n".join(filter(None, (first.strip("\n"), behind.strip("\n"))))
    block = f"{BEGIN}\n{ours.rstrip()}\n{END}\n"
    if not outside:
        return block
    return f"{outside}\n\n{block}" if last else f"{block}\n{outside}\n"


def brokers_uid() -> int | None:
    """Return the user that Mosquitto becomes, whose its files have to be; None where we may not give files away."""
    if os.geteuid() == 0:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(BROKERS_USER).pw_uid
    return None


def owner_of(path: Path) -> int | None:
    """Return whose a file is, None where that can't be told or we may not give files away."""
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):
            return path.stat().st_uid
    return None

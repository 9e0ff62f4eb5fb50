"""The commands around a file: a check that decides, a reload that tells. What they print is shown without values."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import shutil
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from secretsd.cli.running.child import CannotFind, CannotStart

PLACE: Final = "{}"
"""What stands in a check for the file that is to be looked at."""

FRAGMENT: Final = 4
"""So many characters of a value in a row are not shown."""

_MOST_LINES, _MOST_BYTES = 20, 64 * 1024
_HIDDEN: Final = "[hidden]"


@dataclass(frozen=True)
class Order:
    """A command: its words, or a line for /bin/sh."""

    text: str
    shell: bool = False

    @property
    def names_file(self) -> bool:
        """Tell whether it is about one file, which it can look at before that is in place."""
        return PLACE in self.text

    def words(self, file: Path | None = None) -> list[str]:
        """Return what is executed. Raises ValueError where quotes don't match."""
        name = str(file or PLACE)
        if self.shell:
            return ["/bin/sh", "-c", self.text.replace(PLACE, shlex.quote(name))]
        words = [word.replace(PLACE, name) for word in shlex.split(self.text)]
        if not words:
            raise ValueError("there is no command in it")
        return words

    def find(self) -> None:
        """Return when there is such a program. Raises CannotFind, CannotStart (the shell finds its own)."""
        program = self.words()[0]
        if shutil.which(program) is None:
            there = Path(program).exists()
            kind = CannotStart if there else CannotFind
            raise kind(f"{program} can't be executed" if there else f"{program} isn't there (or not in PATH)")


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and what it printed, which may hold values."""

    status: int | None
    """As a shell gives it; None: it took too long."""
    printed: str
    """The end of it, in whole words."""

    @property
    def ok(self) -> bool:
        """Tell whether it succeeded."""
        return self.status == 0

    def __str__(self) -> str:
        return "took too long and was ended" if self.status is None else f"ended with status {self.status}"


async def execute(order: Order, file: Path | None, timeout_secs: float | None) -> Outcome:
    """Run it in a process group of its own, without our token and without input; end it when it takes too long.

    One that can't be started has status 126 or 127. It prints into memory: values may be in that, and what it leaves
    running in the background isn't waited for, nor ended by a pipe that nobody reads.
    """
    environment = {name: value for name, value in os.environb.items() if name != b"JARVIS_CLIENT_TOKEN"}
    printed = os.memfd_create("printed")
    try:
        try:
            process = await asyncio.create_subprocess_exec(
                *order.words(file),
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=printed,
                stderr=printed,
                start_new_session=True,
            )
        except OSError as error:
            return Outcome(127 if isinstance(error, FileNotFoundError) else 126, error.strerror or "")
        status: int | None
        try:
            async with asyncio.timeout(timeout_secs):
                status = await process.wait()
        except TimeoutError:
            status = None
        if status is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        elif status < 0:
            status = 128 - status
        return Outcome(status, _end(printed))
    finally:
        os.close(printed)


def _end(printed: int) -> str:
    """Return the last of what is in the file `printed`, without the word that the cut goes through.

    What is left of that could be too little of a value to be recognised as a piece of one.
    """
    start = max(0, os.fstat(printed).st_size - _MOST_BYTES)
    text = os.pread(printed, _MOST_BYTES, start).decode(errors="replace")
    return re.sub(r"\A\S+", "", text) if start else text


def presentable(printed: str, sources: Iterable[str], rendered: Iterable[bytes]) -> list[str]:
    """Return the last lines of what a command printed, words that hold a piece of a value hidden.

    A piece is what stands in a file and not in its template, so that also values in another form are known. Programs
    quote the line that they stumble over: `unknown directive "hunter2"`.
    """
    known: set[str] = set()
    for source in sources:
        known |= _pieces(source)
    secret: set[str] = set()
    for data in rendered:
        secret |= _pieces(data.decode())
    secret -= known
    shown = printed.splitlines()[-_MOST_LINES:]
    return [
        re.sub(r"\S+", lambda word: _HIDDEN if _pieces(word[0]) & secret else word[0], line)[:400] for line in shown
    ]


def _pieces(text: str) -> set[str]:
    """Return all runs of FRAGMENT characters within words, and the words that are shorter."""
    found: set[str] = set()
    for word in text.split():
        found.update(word[at : at + FRAGMENT] for at in range(max(1, len(word) - FRAGMENT + 1)))
    return found

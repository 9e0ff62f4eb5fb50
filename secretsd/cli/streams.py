"""Standard input, output and error as a command can rely on them, whatever the caller has left of them."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, Final, TextIO

from secretsd.cli.errors import Failed

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

# What is closed is opened so that it fails, or ends, as one expects of it: nothing to read, nowhere to write a result
# to. Else the next file to be opened would take its number, and have what was meant for the terminal.
_CLOSED: Final = {0: os.O_RDONLY, 1: os.O_RDONLY, 2: os.O_WRONLY}


class _Result(io.FileIO):
    """Standard output, of which a command whose result can't be written says so, once."""

    _lost = False

    def write(self, data: ReadableBuffer, /) -> int:
        """Write as a file does. Raises BrokenPipeError, and Failed where else it can't be written."""
        if self._lost:
            return memoryview(data).nbytes
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            self._lost = True  # what is left in the buffers is lost too; the interpreter's last flush is silent on it
            reason = error.strerror
        raise Failed(
            f"the result can't be written to standard output: {reason}",
            hint="what the command was to change may be changed all the same: look before you repeat it",
        )


def prepare() -> None:
    """Make the three usable: closed ones open, characters that the locale lacks escaped, a lost result an error."""
    _open_closed()
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 — for as long as the process lives
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 — as above
    _escaping(sys.stderr)
    sys.stdout = _reporting(sys.stdout)


def _open_closed() -> None:
    for number, flags in _CLOSED.items():
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, flags)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)


def _reporting(stdout: TextIO | None) -> TextIO:
    raw = _Result(1, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding="utf-8" if stdout is None else stdout.encoding,
        errors="backslashreplace",
        line_buffering=raw.isatty(),
    )


def _escaping(stream: TextIO) -> None:
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")

"""The file under the audit log: whole batches of lines, durable at the path or not at all. All of it blocks."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Final

from secretsd import files
from secretsd.errors import AuditWriteError

MOVES_FOLLOWED: Final = 8
"""How often in one batch the file may be moved away under the writer before it gives up."""

PROBE_NAME: Final = ".secretsd.probe"
PROBE_BYTES: Final = 64 * 1024
"""Some hundred lines: with less room than this the log could be written for a moment only."""

LATE_SECONDS: Final = 1.0
"""So long before a file is removed, at least, what is added to it may have come too late for whoever copies it."""


class LineFile:
    """Appends to a file that any log rotation may move, compress, replace or remove meanwhile."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._file = (0, 0)
        self._size = 0
        self._marks = ((0.0, 0), (0.0, 0))
        """Two earlier sizes with their times, LATE_SECONDS apart."""
        self._cut: tuple[int, int, int] | None = None
        self._owed = b""

    def append(self, lines: bytes) -> None:
        """Make `lines` durable at the path (fdatasync).

        Where the path turns out to be another file afterwards, the same bytes are written to that one too, so
        that nothing hangs on a file that is being compressed. One that is gone altogether, as after `gzip` in its
        place, takes its last moments along: those are written again too. Raises AuditWriteError: then the file was
        cut back, unless the error's `kept` says that the lines stand in a rotated file; those come first next time.
        """
        data = self._owed + lines
        stands = False
        try:
            for _ in range(MOVES_FOLLOWED):
                self._write(data)
                # From here on the lines are in the log, also where the path can't be looked at.
                stands = True
                if self._is_at_path():
                    self._owed = b""
                    self._mark()
                    return
                data = self._late_lines() or data
                self._close()
            failure = "it was moved away again and again"
        except OSError as error:
            failure = error.strerror or "no reason given"
        self._give_up()
        if stands:
            self._owed = data
        raise AuditWriteError(f"can't write {self.path}: {failure}", kept=stands)

    def probe(self) -> None:
        """Return where lines could be made durable again: some are written and synced beside the log, and removed.

        Raises AuditWriteError.
        """
        path = self.path.with_name(PROBE_NAME)
        try:
            try:
                files.replace(path, bytes(PROBE_BYTES))
            finally:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise AuditWriteError(f"can't write beside {self.path}: {error.strerror}") from error

    def reopen(self) -> None:
        """Let go of the file; the next batch goes to what the path is then."""
        self._owed = self._late_lines() or self._owed
        self._close()

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _late_lines(self) -> bytes:
        """Return what was added shortly before the open file lost its last name; nothing while it has one."""
        if self._descriptor is None:
            return b""
        status = os.fstat(self._descriptor)
        if status.st_nlink > 0:
            return b""
        start = self._marks[0][1]
        return os.pread(self._descriptor, status.st_size - start, start)

    def _mark(self) -> None:
        now = time.monotonic()
        if now - self._marks[1][0] >= LATE_SECONDS:
            self._marks = (self._marks[1], (now, self._size))

    def _write(self, data: bytes) -> None:
        descriptor = self._opened()
        self._cut = (*self._file, self._size)
        files.write_all(descriptor, data)
        os.fdatasync(descriptor)
        self._cut = None

    def _opened(self) -> int:
        if self._descriptor is None:
            flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            try:
                descriptor = os.open(self.path, flags)
            except FileNotFoundError:
                descriptor = os.open(self.path, flags | os.O_CREAT, files.PRIVATE_FILE)
            try:
                # One that was there already too: log rotation, or an attempt that failed here, left its name undurable.
                files.sync_folder(self.path.parent)
            except OSError:
                os.close(descriptor)
                raise
            self._descriptor = descriptor
            self._finish_cut(descriptor)
            status = os.fstat(descriptor)
            self._file, self._size = (status.st_dev, status.st_ino), status.st_size
            self._marks = ((time.monotonic(), self._size),) * 2
        return self._descriptor

    def _finish_cut(self, descriptor: int) -> None:
        """Take what a failed write left behind off the file, before anything is added."""
        if self._cut is None:
            return
        device, inode, size = self._cut
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) == (device, inode) and status.st_size > size:
            os.ftruncate(descriptor, size)
            os.fdatasync(descriptor)
        self._cut = None

    def _is_at_path(self) -> bool:
        """Tell whether the path is still the open file, and note its size for the next batch.

        Each call of the kernel costs this thread a wait for the interpreter, so there is one.
        """
        try:
            there = os.lstat(self.path)
        except FileNotFoundError:
            return False
        self._size = there.st_size
        return self._file == (there.st_dev, there.st_ino)

    def _give_up(self) -> None:
        """Cut the file back to its last durable line and close it: after a failed sync a descriptor proves nothing."""
        if self._descriptor is None:
            return
        if self._cut is not None:
            with contextlib.suppress(OSError):
                if os.fstat(self._descriptor).st_size > self._cut[2]:
                    os.ftruncate(self._descriptor, self._cut[2])
        with contextlib.suppress(OSError):
            os.close(self._descriptor)
        self._descriptor = None

"""The tar archive inside a backup: written and read as a stream, and nothing but plain files (docs/backup.md).

tarfile makes and parses single headers here. Its extraction is not used: what is unpacked may come from anybody.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Final

from secretsd.errors import BackupError

BLOCK: Final = tarfile.BLOCKSIZE
_STEP: Final = 1024 * 1024
_END: Final = bytes(2 * BLOCK)


@dataclass(frozen=True, slots=True)
class Member:
    """A file on its way in or out; `chunks` give exactly `size` bytes."""

    name: str
    size: int
    chunks: Iterable[bytes]


def written(members: Iterable[Member], mtime: int) -> Iterator[bytes]:
    """Yield the archive's bytes. Raises BackupError when a member gives other than its size."""
    for member in members:
        info = tarfile.TarInfo(member.name)
        info.size, info.mode, info.mtime = member.size, 0o600, mtime
        yield info.tobuf(format=tarfile.GNU_FORMAT)
        given = 0
        for chunk in member.chunks:
            given += len(chunk)
            yield chunk
        if given != member.size:
            raise BackupError(f"{member.name} changed while it was read: try again")
        yield bytes(-given % BLOCK)
    yield _END


def read(stream: IO[bytes]) -> Iterator[Member]:
    """Yield the members in order. Each one's chunks have to be taken before the next member.

    Reads `stream` to its end. Raises BackupError for what isn't a plain file, a damaged header, an archive that is cut
    short, and anything but zeros behind its end.
    """
    while True:
        header = _exactly(stream, BLOCK)
        if header == bytes(BLOCK):
            break
        try:
            info = tarfile.TarInfo.frombuf(header, "ascii", "strict")
        except (tarfile.HeaderError, UnicodeError, ValueError) as error:
            raise BackupError(f"the archive is damaged: a header can't be read ({error})") from error
        if info.type not in {tarfile.REGTYPE, tarfile.AREGTYPE} or info.size < 0:
            raise BackupError(
                f"the archive holds {info.name!a}, which is no plain file: secretsctl didn't make it; nothing of "
                "it is unpacked"
            )
        yield Member(info.name, info.size, _chunks(stream, info.size))
        _exactly(stream, -info.size % BLOCK)
    while rest := stream.read(_STEP):
        if rest.strip(b"\0"):
            raise BackupError("there is something behind the archive's end: secretsctl didn't make it")


class Stream:
    """A file to read from that is made of chunks."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._left = b""

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes, all that is left without one; nothing at the end."""
        if size < 0:
            return b"".join((self._left, *self._chunks))
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._left = chunk
        part, self._left = self._left[:size], self._left[size:]
        return part


def _chunks(stream: IO[bytes], size: int) -> Iterator[bytes]:
    left = size
    while left:
        chunk = _exactly(stream, min(left, _STEP))
        left -= len(chunk)
        yield chunk


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = stream.read(size - len(data))
        if not chunk:
            raise BackupError("the archive is cut short")
        data += chunk
    return bytes(data)

"""age files of any size, sealed and opened as a stream (docs/backup.md)."""

from __future__ import annotations

import io
from typing import IO, Final, Protocol

import pyrage

from secretsd.crypto import age, agepassphrase
from secretsd.crypto.age import Identities, Recipients
from secretsd.crypto.sensitive import Sensitive
from secretsd.errors import AgeError

_HEAD_BYTES: Final = 64


class Readable(Protocol):
    """What can be read from to its end."""

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes, all without one; nothing at the end."""


class _Source(io.BufferedIOBase):
    """Reads from the real source, and keeps its own error: the bindings would make text of it."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self.error: Exception | None = None

    def read(self, size: int | None = -1, /) -> bytes:
        try:
            return self._source.read(-1 if size is None else size)
        except Exception as error:
            self.error = error
            raise


class _Target(io.BufferedIOBase):
    """Writes to the real target, and keeps its own error."""

    def __init__(self, target: IO[bytes]) -> None:
        self._target = target
        self.error: Exception | None = None

    def write(self, data: object, /) -> int:
        view = memoryview(data)  # type: ignore[arg-type]  # bytes, as the bindings give them
        try:
            left = view
            while left:
                left = left[self._target.write(left) :]
        except Exception as error:
            self.error = error
            raise
        return len(view)


def seal(source: Readable, target: IO[bytes], to: Recipients | Sensitive) -> None:
    """Write what `source` gives to `target`, sealed. Raises AgeError, and whatever reading or writing raised."""
    if isinstance(to, Sensitive):
        agepassphrase.seal(source.read, _Target(target).write, age.passphrase_to_seal_under(to))
        return
    reading, writing = _Source(source), _Target(target)
    try:
        pyrage.encrypt_io(reading, writing, to.keys)
    except (pyrage.EncryptError, OSError):
        _raise_own(reading, writing)
        raise AgeError("it can't be sealed to these recipients") from None


def unseal(source: IO[bytes], target: IO[bytes], using: Identities | Sensitive) -> None:
    """Write what the age file `source`, which can seek, holds to `target`.

    What was written counts only once this has returned: a file that is cut short is noticed at its end. Raises AgeError
    as `age.open_sealed` does, and whatever reading or writing raised.
    """
    head = source.read(_HEAD_BYTES)
    source.seek(0)
    age.check_key_fits(head, using)
    if isinstance(using, Sensitive):
        agepassphrase.unseal(source, _Target(target).write, using.reveal())
        return
    reading, writing = _Source(source), _Target(target)
    try:
        pyrage.decrypt_io(reading, writing, using.keys)
    except (pyrage.DecryptError, OSError):
        _raise_own(reading, writing)
        raise AgeError("it doesn't open: the identity is another one, or the file is damaged or cut short") from None


def _raise_own(reading: _Source, writing: _Target) -> None:
    error = reading.error or writing.error
    if error is not None:
        raise error

"""Opens a backup into a folder of its own, and believes nothing that it says of itself (docs/backup.md)."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from secretsd import files
from secretsd.backup import archive, manifest
from secretsd.backup.archive import Member
from secretsd.backup.manifest import LOG, MANIFEST, ORDER, SIGN_KEY, Manifest, Part, Read
from secretsd.crypto import agestream
from secretsd.crypto.age import Identities
from secretsd.crypto.sensitive import Sensitive
from secretsd.errors import BackupError

_MIB: Final = 1024 * 1024
SMALL_MOST: Final = 1024 * _MIB
"""Bytes in a member that is held in memory: no vault.json is near that."""
MANIFEST_MOST: Final = _MIB
KEPT_FREE: Final = 32 * _MIB
"""Bytes that stay free on the disk, whatever a backup says of its size."""


@dataclass(frozen=True, slots=True, repr=False)
class Unpacked:
    """A backup whose hashes are those of its manifest; nothing else is checked yet.

    `folder` holds the members by their names, but the signing key, which is in `small` alone.
    """

    folder: Path
    read: Read
    small: dict[str, Sensitive]

    @property
    def manifest(self) -> Manifest:
        """What the backup says of itself."""
        return self.read.manifest

    @property
    def log(self) -> Path:
        """The log, in one file."""
        return self.folder / LOG

    def bytes_of(self, name: str) -> bytes | None:
        """Return a small member, None when the backup has none of this name."""
        found = self.small.get(name)
        return None if found is None else found.reveal()


def unpack(sealed: Path, using: Identities | Sensitive, folder: Path) -> Unpacked:
    """Unpack into `folder`, which exists and is empty. Raises BackupError, AgeError, OSError."""
    with sealed.open("rb") as source:
        return _piped(
            lambda target: agestream.unseal(source, target, using),
            lambda stream: _unpacked(archive.read(stream), folder),
        )


def _piped(produce: Callable[[IO[bytes]], None], consume: Callable[[IO[bytes]], Unpacked]) -> Unpacked:
    """Run `produce` in a thread, and `consume` what it writes. Its error says more than a cut stream does."""
    reading, writing = os.pipe()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            with os.fdopen(writing, "wb", buffering=0) as target:
                produce(target)
        except BaseException as error:  # noqa: BLE001 — raised in the caller's thread
            failed.append(error)

    producer = threading.Thread(target=run, name="unseal")
    producer.start()
    outcome: Unpacked | BaseException
    with os.fdopen(reading, "rb") as stream:
        try:
            outcome = consume(stream)
        except BaseException as error:  # noqa: BLE001 — raised below, once the other has ended
            outcome = error
    producer.join()
    if isinstance(outcome, BaseException):
        # A producer that was broken off because the consumer gave up has nothing to add.
        raise failed[0] if failed and not isinstance(failed[0], BrokenPipeError) else outcome
    if failed:
        raise failed[0]
    return outcome


def _unpacked(members: Iterable[Member], folder: Path) -> Unpacked:
    found: Read | None = None
    small: dict[str, Sensitive] = {}
    place = -1
    for member in members:
        if member.name not in ORDER:
            raise BackupError(f"the archive holds {member.name!a}, which no backup has: secretsctl didn't make it")
        if ORDER.index(member.name) <= place:
            raise BackupError(f"the archive holds {member.name} twice, or not in its place")
        place = ORDER.index(member.name)
        if member.name == MANIFEST:
            found = manifest.decode(_whole(member, MANIFEST_MOST))
            continue
        if found is None:
            raise BackupError(f"the archive doesn't begin with {MANIFEST}: secretsctl didn't make it")
        part = found.manifest.files.get(member.name)
        if part is None or part.size != member.size:
            raise BackupError(f"{member.name} isn't what {MANIFEST} says: not named there, or of another size")
        if member.name == LOG:
            _keep_log(member, part, folder)
        else:
            small[member.name] = Sensitive(_kept(member, part, folder))
    if found is None:
        raise BackupError("the archive is empty: this is no backup of secretsctl")
    missing = found.manifest.files.keys() - small.keys() - ({LOG} if place == ORDER.index(LOG) else set())
    if missing:
        raise BackupError(f"{' and '.join(sorted(missing))} missing in the archive, though {MANIFEST} names it")
    return Unpacked(folder, found, small)


def _whole(member: Member, most: int) -> bytes:
    if member.size > most:
        raise BackupError(f"{member.name} has {member.size:,} bytes, which is more than any backup's")
    return b"".join(member.chunks)


def _kept(member: Member, part: Part, folder: Path) -> bytes:
    data = _whole(member, SMALL_MOST)
    _compare(member.name, part, hashlib.sha256(data).hexdigest())
    if member.name != SIGN_KEY:
        _room(folder, len(data))
        files.replace(folder / member.name, data)
    return data


def _keep_log(member: Member, part: Part, folder: Path) -> None:
    _room(folder, member.size)
    digest = hashlib.sha256()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    path = folder / LOG
    with files.naming(path), os.fdopen(os.open(path, flags, files.PRIVATE_FILE), "wb") as file:
        for chunk in member.chunks:
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    _compare(LOG, part, digest.hexdigest())


def _compare(name: str, part: Part, sha256: str) -> None:
    if sha256 != part.sha256:
        raise BackupError(f"{name} has another SHA-256 than {MANIFEST} says: it was altered")


def _room(folder: Path, size: int) -> None:
    space = os.statvfs(folder)
    free = space.f_bavail * space.f_frsize
    if size + KEPT_FREE > free:
        raise BackupError(
            f"the backup needs {size // _MIB + 1:,} MiB in {folder}, and {free // _MIB:,} MiB are free: make room; "
            "nothing was changed"
        )

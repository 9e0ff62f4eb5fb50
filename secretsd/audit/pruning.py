"""Takes old files off the front of the log while a daemon writes and log rotation renames (docs/audit.md).

Whole rotated files only. The record comes first, then the files go, oldest first: broken off anywhere, what is left
verifies.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from secretsd_bus import PREFIX, SigningKey, VerifyKey

from secretsd import files
from secretsd.audit import pruned
from secretsd.audit.pruned import Pruned, Pruning
from secretsd.audit.reader import LogReader, last_line, peek
from secretsd.audit.signed import NotSigned
from secretsd.audit.verifier import ChainBroken, verify_files
from secretsd.errors import PruneError

ASIDE_NAME: Final = ".pruning"
_KEY_ROTATED: Final = PREFIX + "audit.key_rotated"


@dataclass(frozen=True, slots=True)
class LogFile:
    """A file of the log: its lines' first and last sequence, the time of the last, and which file it really is."""

    path: Path
    first: int
    last: int
    last_time: str
    identity: tuple[int, int]
    size: int


@dataclass(frozen=True, slots=True)
class Hold:
    """The lines from `sequence` on have to stay."""

    sequence: int
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The files that go, oldest first, why the next one stays, and the first sequence that is left."""

    remove: tuple[LogFile, ...]
    kept_because: str
    kept_first: int

    @property
    def first(self) -> int:
        """The first sequence that goes."""
        return self.remove[0].first

    @property
    def last(self) -> int:
        """The last sequence that goes."""
        return self.kept_first - 1

    @property
    def size(self) -> int:
        """Bytes that become free."""
        return sum(file.size for file in self.remove)


def survey(audit_path: Path) -> list[LogFile]:
    """Return the log's files that have a line, oldest first, up to one that is just being renamed or compressed."""
    found = []
    for first, path in LogReader(audit_path).by_first():
        try:
            status = path.stat()
            line = last_line(path)
        except (OSError, EOFError, zlib.error):
            break
        place = None if line is None else peek(line)
        if place is not None:
            found.append(LogFile(path, first, place.number, place.time, (status.st_dev, status.st_ino), status.st_size))
    return found


def plan(found: Sequence[LogFile], audit_path: Path, before: str, holds: Sequence[Hold]) -> Plan:
    """Decide which files go: from the oldest on, as long as each one's newest line is older than `before` (RFC 3339).

    The active file stays, and whatever a hold asks for. No I/O.
    """
    remove: list[LogFile] = []
    kept = 0
    because = "the log has no line yet"
    for file, after in pairwise((*found, None)):
        if file is None:
            break
        kept, because = file.first, _why_kept(file, after, audit_path, before, holds)
        if because:
            break
        remove.append(file)
    return Plan(tuple(remove), because, kept)


def _why_kept(file: LogFile, after: LogFile | None, audit_path: Path, before: str, holds: Sequence[Hold]) -> str:
    """Return why a file has to stay, nothing where it need not."""
    if after is None or file.path == audit_path:
        return f"{file.path.name} is the newest file"
    if file.last_time >= before:
        return f"{file.path.name} holds lines up to {file.last_time}"
    # Where a file was moved away under the writer, its last lines stand in the next one too.
    hold = next((hold for hold in holds if after.first > hold.sequence), None)
    return f"{file.path.name} holds lines from {hold.sequence} on, which {hold.why}" if hold is not None else ""


def record_of(
    audit_path: Path,
    chosen: Plan,
    *,
    log_id: str,
    before: str,
    now: str,
    key: VerifyKey,
    progress: Callable[[int], None] | None,
) -> Pruned:
    """Return the record to keep of what the plan removes, all of which is verified first. `key` signs the log now.

    Raises PruneError where it doesn't verify: a broken log is evidence, and stays. Raises OSError.
    """
    try:
        earlier = pruned.beside(audit_path)
        report = verify_files([file.path for file in chosen.remove], None, progress, record_key=key)
    except (ChainBroken, NotSigned) as error:
        raise PruneError(
            f"what would go doesn't verify, so nothing was removed: {error}. See `secretsctl audit verify`"
        ) from error
    if report.last is None or report.head is None:
        raise PruneError("the files that would go changed meanwhile: try again")
    follows = next(LogReader(audit_path).lines(report.last), None)
    if follows is None or follows[0].number != report.last + 1 or follows[0].prev != report.head:
        raise PruneError(
            f"the line after {report.last}, the last that would go, is missing or doesn't follow it, so nothing was "
            "removed. See `secretsctl audit verify`"
        )
    before_this = None if earlier is None or earlier.record.log_id != log_id else earlier.record
    rotations = [
        line.decode()
        for place, line in LogReader(audit_path).lines(0 if before_this is None else before_this.last)
        if place.number <= report.last and place.type == _KEY_ROTATED
    ]
    first = chosen.first if before_this is None else max(chosen.first, before_this.last + 1)
    if before_this is not None and report.last <= before_this.last:
        return before_this
    return Pruned(
        log_id=log_id,
        last=report.last,
        head=report.head,
        key_rotations=(*(() if before_this is None else before_this.key_rotations), *rotations),
        prunings=(
            *(() if before_this is None else before_this.prunings),
            Pruning(at=now, before=before, first=first, last=report.last),
        ),
    )


def carry_out(audit_path: Path, chosen: Plan, record: Pruned, key: SigningKey) -> Path:
    """Keep the record, then remove the files; return the record's path. Raises OSError.

    A file is taken by a rename and looked at before it goes, since log rotation may have given its name to another.
    """
    path = pruned.save(audit_path, record, key)
    aside = audit_path.with_name(ASIDE_NAME)
    aside.mkdir(mode=files.PRIVATE_FOLDER, exist_ok=True)
    for file in chosen.remove:
        taken = aside / file.path.name
        try:
            file.path.rename(taken)
        except FileNotFoundError:
            continue  # renamed or compressed meanwhile: the next pruning finds it
        status = taken.stat()
        if (status.st_dev, status.st_ino) == file.identity:
            taken.unlink()
        else:
            _put_back(taken, audit_path)
        files.sync_folder(audit_path.parent)
    aside.rmdir()
    return path


def tidy(audit_path: Path) -> None:
    """Finish what an interrupted pruning left: a file that was taken goes if the record tells of it, else back."""
    aside = audit_path.with_name(ASIDE_NAME)
    if not aside.is_dir():
        return
    with contextlib.suppress(NotSigned):
        found = pruned.beside(audit_path)
        for taken in sorted(aside.iterdir()):
            line = last_line(taken)
            place = None if line is None else peek(line)
            if found is not None and place is not None and place.number <= found.record.last:
                taken.unlink()
            else:
                _put_back(taken, audit_path)
        aside.rmdir()


@contextlib.contextmanager
def alone(audit_path: Path) -> Iterator[None]:
    """Be the only one who prunes this log. Raises PruneError when somebody else does."""
    descriptor = os.open(audit_path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise PruneError(f"another pruning or a restore works on {audit_path.parent}: wait for it") from error
        yield
    finally:
        os.close(descriptor)


def _put_back(taken: Path, audit_path: Path) -> None:
    """Give a file of the log a name again: its own, or where that is taken by now one that counts too."""
    names = [audit_path.with_name(taken.name)]
    names += [
        audit_path.with_name(f"{audit_path.name}.{number}{taken.suffix if taken.suffix == '.gz' else ''}")
        for number in range(900_000, 900_100)
    ]
    for name in names:
        with contextlib.suppress(FileExistsError):
            os.link(taken, name)
            taken.unlink()
            return
    raise FileExistsError(0, "no name is free for a file of the log", str(taken))


def being_compressed(audit_path: Path, chosen: Plan) -> Path | None:
    """Return a file of the plan that something is compressing right now, None when there is none."""
    there = set(audit_path.parent.iterdir())
    return next((file.path for file in chosen.remove if file.path.with_name(file.path.name + ".gz") in there), None)

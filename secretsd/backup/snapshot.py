"""Vault and log of one time, read from their files while a daemon may go on working on them (docs/backup.md)."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct
from secretsd_bus import PREFIX, ZERO_HASH, SigningKey, VerifyKey, line_hash

from secretsd import files
from secretsd.audit.eventkeys import (
    EventKeyFiles,
    EventKeys,
    keys_in,
    linked,
    past_file,
    public_file,
    with_missing,
)
from secretsd.audit.pruned import PRUNED_NAME
from secretsd.audit.reader import LogReader, peek
from secretsd.audit.recovery import WITH_GENERATION
from secretsd.backup.manifest import (
    CONFIG,
    CURSOR,
    PAST_KEYS,
    POLICY,
    PRUNED,
    SIGN_KEY,
    SIGN_PUB,
    VAULT,
    Checkpoint,
    Part,
)
from secretsd.config import Config
from secretsd.daemon.firststart import StateFiles, refuse_unfinished_restore
from secretsd.errors import BackupError
from secretsd.vault import store
from secretsd.vault.position import Position, position_in

TRIES: Final = 5
PROGRESS_LINES: Final = 1000
_KEY_ROTATED: Final = PREFIX + "audit.key_rotated"

Progress = Callable[[int], None]


class Changed(BackupError):
    """Something was rotated or pruned between two looks: begin again."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The lines of the log that belong to a vault: `first` to `last` without a gap, as one file of `part`."""

    first: int
    last: int
    head: str
    part: Part
    gap_before: bool
    """Whether there are older lines, behind a gap, that are left out."""
    signed_by: str | None
    """The id of the key in force at the end."""
    rotated_at: int
    """The sequence of the last line that introduced a signing key, 0 for none."""


@dataclass(frozen=True, slots=True, repr=False)
class Snapshot:
    """All that goes into a backup. `small` holds the members that are read whole, the signing key among them."""

    position: Position
    small: dict[str, bytes]
    cut: Cut
    key: SigningKey

    @property
    def checkpoint(self) -> Checkpoint:
        """Where vault and log are."""
        return Checkpoint(
            epoch=self.position.epoch,
            generation=self.position.generation,
            log_id=self.position.audit.log_id,
            first=self.cut.first,
            sequence=self.cut.last,
            head=self.cut.head,
        )


def take(config: Config, progress: Progress | None = None) -> Snapshot:
    """Return a consistent snapshot. Raises BackupError, VaultError, OSError."""
    state = StateFiles(config)
    refuse_unfinished_restore(state)
    for left in reversed(range(TRIES)):
        try:
            return _taken(config, state, progress)
        except (Changed, FileNotFoundError):
            # A rotation of a key, or files that were moved or removed under our hands.
            if left == 0:
                raise
    raise AssertionError("unreachable")


def _taken(config: Config, state: StateFiles, progress: Progress | None) -> Snapshot:
    if not state.vault.exists():
        raise BackupError(f"there is no vault at {state.vault}: name the daemon's configuration with --config")
    vault = store.read(state.vault)
    position = position_in(vault, state.vault)
    cut = _cut(state.audit, position, progress)
    keys, ready = _event_keys(state, cut)
    small = {
        VAULT: vault,
        SIGN_KEY: b"".join(key.to_pem() for key in (keys.current, *ready)),
        SIGN_PUB: public_file(keys),
    }
    if keys.past:
        small[PAST_KEYS] = past_file(keys)
    beside = {
        CURSOR: state.cursor,
        PRUNED: state.audit.with_name(PRUNED_NAME),
        CONFIG: config.source,
        POLICY: config.security.rbac_policy_path,
    }
    small |= {name: files.read_regular(path) for name, path in beside.items() if path.exists()}
    return Snapshot(position, small, cut, keys.current)


def _event_keys(state: StateFiles, cut: Cut) -> tuple[EventKeys, list[SigningKey]]:
    """Return the signing keys as of the cut's end, and what lies ready and wasn't introduced in it."""
    key_files = EventKeyFiles.beside(state.audit)
    candidates = key_files.candidates()
    current = next((key for key in candidates if cut.signed_by in {None, key.keyid}), None)
    if current is None:
        raise Changed(
            f"{state.sign_key} is not the key that signed the log's last line: if no key is just being rotated, put "
            "the right one back from its backup"
        )
    past = key_files.load_past()
    if cut.rotated_at > (past[0].last_sequence if past else 0):
        # Between the line that introduces a key and the files that tell of it; or the file was lost.
        known = [key.public for key in candidates] + keys_in(files.read_regular(state.sign_pub))
        past = with_missing(past, state.audit, known)
    past = linked(current.public, [one for one in past if one.last_sequence <= cut.last])
    ended = {current.keyid, *(one.key.keyid for one in past)}
    return EventKeys(current, past), [key for key in candidates if key.keyid not in ended]


def log_lines(state: StateFiles, cut: Cut) -> Iterator[bytes]:
    """Yield the lines of `cut` once more, newlines included. Raises Changed when they are no longer the same."""
    if cut.last == 0:
        return
    digest = hashlib.sha256()
    for place, raw in LogReader(state.audit).lines(cut.first - 1):
        line = raw + b"\n"
        digest.update(line)
        yield line
        if place.number >= cut.last:
            break
    if digest.hexdigest() != cut.part.sha256:
        raise Changed("the audit log changed while it was read: try again")


def _cut(path: Path, position: Position, progress: Progress | None) -> Cut:
    """Read the log through, from its oldest line to the last that the vault can know of."""
    mark = position.audit
    first = last = size = read = rotated_at = 0
    head, signed_by, gap = ZERO_HASH, None, False
    digest = hashlib.sha256()
    try:
        for place, raw in LogReader(path).lines(0):
            if place.number > mark.sequence and place.type in WITH_GENERATION and _is_later(raw, position):
                break
            if last and (place.number != last + 1 or place.prev != head):
                if place.number > mark.sequence:
                    raise BackupError(_broken(path, place.number))
                first, size, digest, gap = 0, 0, hashlib.sha256(), True
            first, last, head = first or place.number, place.number, line_hash(raw)
            if last == mark.sequence and head != mark.head:
                raise BackupError(
                    f"line {last} of {path} is not the one that the vault knows: run `secretsctl doctor`; no backup "
                    "was made"
                )
            size += len(raw) + 1
            digest.update(raw)
            digest.update(b"\n")
            signed_by = _key_after(raw)
            if place.type == _KEY_ROTATED:
                rotated_at = last
            read += 1
            if progress is not None and read % PROGRESS_LINES == 0:
                progress(read)
    except (EOFError, zlib.error) as error:
        raise BackupError(f"a file of the log {path} is damaged: {error}; run `secretsctl audit verify`") from error
    if last < mark.sequence:
        raise Changed(
            f"the log {path} ends at line {last} and the vault knows {mark.sequence}: run `secretsctl doctor`; no "
            "backup was made"
        )
    return Cut(first, last, head, Part(size, digest.hexdigest()), gap, signed_by, rotated_at)


class _Data(Struct, frozen=True):
    epoch: str | None = None
    generation: int | None = None
    jwk: dict[str, Any] | None = None


class _Line(Struct, frozen=True):
    type: str
    keyid: str
    data: _Data


def _is_later(raw: bytes, position: Position) -> bool:
    """Tell whether a line is of a commit that the vault doesn't hold."""
    data = _parsed(raw).data
    if data.epoch == position.epoch:
        return (data.generation or 0) > position.generation
    return data.epoch not in position.ended


def _key_after(raw: bytes) -> str:
    """Return the id of the key in force behind a line."""
    line = _parsed(raw)
    if line.type == _KEY_ROTATED and line.data.jwk is not None:
        try:
            return VerifyKey.from_jwk(line.data.jwk).keyid
        except ValueError:
            return line.keyid
    return line.keyid


def _parsed(raw: bytes) -> _Line:
    try:
        return msgspec.json.decode(raw, type=_Line)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        place = peek(raw)
        raise BackupError(
            f"line {0 if place is None else place.number} of the log is no event: run `secretsctl audit verify`"
        ) from error


def _broken(path: Path, sequence: int) -> str:
    return (
        f"the chain of {path} is broken at line {sequence}, after what the vault knows: run `secretsctl audit verify`; "
        "no backup was made"
    )

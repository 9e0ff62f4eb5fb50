"""From files to a running core: keys, vault, log, and whether they are of one time (docs/vault.md). Blocks."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec.structs import replace
from secretsd_bus import Event, KeyRing, Refused, SigningKey, VerifyKey, parse_time, verify_line

from secretsd import files
from secretsd.audit import recovery
from secretsd.audit.eventkeys import EventKeyFiles, EventKeys, in_force, keys_in, with_missing
from secretsd.config import Config
from secretsd.crypto import masterkey
from secretsd.crypto.masterkey import OpenedKey
from secretsd.crypto.sensitive import Sensitive
from secretsd.daemon import passphrase
from secretsd.daemon.firststart import StateFiles, create_state, is_first_start, refuse_unfinished_restore
from secretsd.errors import KeyFileError, VaultError
from secretsd.vault.document import Document, OwedLine
from secretsd.vault.masterfile import MasterKeyFile
from secretsd.vault.vault import Vault


@dataclass(frozen=True, slots=True)
class Opened:
    """The state, proven to be of one time."""

    vault: Vault
    master_file: MasterKeyFile
    event_keys: EventKeys
    successor: SigningKey | None
    """A key that lies ready and signs from the line on that introduces it, if that line is owed."""
    sequence: int
    head: str
    last_line_ms: int | None
    owed: Document | None
    """The document whose lines are not all in the log; its outbox holds those that are missing."""
    note: str | None

    @property
    def key(self) -> SigningKey:
        """The event-signing key in force."""
        return self.event_keys.current


def open_state(config: Config) -> Opened:
    """Return keys, vault and the log's end; made anew on the first start. The caller holds the lock.

    Raises KeyFileError and VaultError.
    """
    state = StateFiles(config)
    refuse_unfinished_restore(state)
    note = None
    given = passphrase.provided()
    if is_first_start(state):
        create_state(config, given)
        note = "first start"
    vault, master_file = open_vault(state, given)
    candidates = EventKeyFiles.beside(state.audit).candidates()
    mark = vault.document.audit
    try:
        torn = recovery.set_aside_torn_tail(state.audit)
        event_keys, successor = _event_keys(state, candidates)
        reach = recovery.reach(
            state.audit,
            log_id=mark.log_id,
            sequence=mark.sequence,
            head=mark.head,
            key=event_keys.current.public,
            also=[past.key for past in event_keys.past],
        )
    except (OSError, EOFError, zlib.error) as error:
        raise VaultError(
            f"can't read the audit log {state.audit}: {error}; make its files readable and writable for the daemon's "
            "user, or restore the damaged one from its backup"
        ) from error
    if torn is not None:
        note = f"a torn last line of the audit log was set aside in {torn.name}"
    elif reach.gone is not None:
        note = f"lines {reach.gone[0]} to {reach.gone[1]} of the audit log are no longer there"
    _check_vault_reaches(state, vault.document, reach.since_mark)
    if successor is None:
        try:
            EventKeyFiles.beside(state.audit).settle(event_keys)
        except OSError as error:
            raise KeyFileError(
                f"can't write the files of the signing key beside {state.audit}: {error}; make room, or make the "
                "folder writable for the daemon's user"
            ) from error
    return Opened(
        vault=vault,
        master_file=master_file,
        event_keys=event_keys,
        successor=successor,
        sequence=reach.sequence,
        head=reach.head,
        last_line_ms=None if reach.last_time is None else parse_time(reach.last_time),
        # With the lines of days gone, those of the last commit are among them, not still to be written.
        owed=None if reach.gone is not None else _owed(vault.document, reach.since_mark),
        note=note,
    )


def load_keys(state: StateFiles, given: Sensitive | None) -> tuple[list[Sensitive], EventKeys]:
    """Return what the master key may be and the signing keys; a wrapped one is opened with `given`, or asked for.

    There is one master key but for the time of its rotation. Raises KeyFileError, VaultError.
    """
    return load_master_keys(state.master_key, given), load_event_keys(state)


def load_master_keys(path: Path, given: Sensitive | None) -> list[Sensitive]:
    """Return what the master key in `path` may be, as `load_keys` does. Raises KeyFileError."""
    _, opened = _master_keys(path, given)
    return [key.master for key in opened if key is not None]


def load_event_keys(state: StateFiles) -> EventKeys:
    """Return the signing keys as the log has them. Raises KeyFileError, VaultError, OSError."""
    event_keys, _ = _event_keys(state, EventKeyFiles.beside(state.audit).candidates())
    return event_keys


def open_vault(state: StateFiles, given: Sensitive | None) -> tuple[Vault, MasterKeyFile]:
    """Return the vault, and the file of the key that it is under. Raises KeyFileError, VaultError."""
    stored, opened = _master_keys(state.master_key, given)
    vault = Vault.load(state.vault, [key.master for key in opened if key is not None])
    file = MasterKeyFile.chosen(state.master_key, stored, opened, vault.keys.master, passphrase.provided)
    if file.unsettled:
        # What was seen may be a rename that no sync has made durable: with the other key gone a crash would leave a
        # vault that nothing opens.
        files.sync_folder(state.vault.parent)
    return vault, file


def _master_keys(path: Path, given: Sensitive | None) -> tuple[tuple[masterkey.Wrapping, ...], list[OpenedKey | None]]:
    data = _private(path)
    if given is None and masterkey.is_wrapped(data, path):
        given = passphrase.asked(path)
    return masterkey.wrappings(data, path), masterkey.open_all(data, path, given)


def _event_keys(state: StateFiles, candidates: Sequence[SigningKey]) -> tuple[EventKeys, SigningKey | None]:
    """Return the signing keys as the log has them, and a key that lies ready and wasn't introduced yet."""
    key_files = EventKeyFiles.beside(state.audit)
    past = key_files.load_past()
    known = [key.public for key in candidates] + ([] if past else _published(state.sign_pub))
    if len(candidates) > 1 or (not past and len(known) > len(candidates) + 1):
        past = with_missing(past, state.audit, known)
    newest = recovery.newest_line(state.audit)
    known += [one.key for one in past]
    current = in_force(candidates, newest, known)
    if current is None and newest is not None and _is_by(newest, known):
        raise KeyFileError(
            f"{state.sign_key} is not the key that the log in {state.audit} goes on with: the signing key was rotated "
            "between the two. Restore the log and its key from one backup, of the newest state that there is"
        )
    # Where nobody known signed the newest line, comparing vault and log says so, in words for it.
    current = current or candidates[0]
    past_ids = {one.key.keyid for one in past}
    ready = [key for key in candidates if key is not current and key.keyid not in past_ids]
    return EventKeys(current, past), (ready[-1] if ready else None)


def _is_by(line: bytes, keys: Sequence[VerifyKey]) -> bool:
    try:
        verify_line(line, KeyRing(keys))
    except Refused:
        return False
    return True


def _published(path: Path) -> list[VerifyKey]:
    try:
        return keys_in(files.read_regular(path))
    except (OSError, ValueError):
        return []  # it is made anew


def _private(path: Path) -> bytes:
    try:
        return files.read_private(path)
    except files.ReadableByOthers as error:
        raise KeyFileError(str(error)) from error
    except OSError as error:
        raise KeyFileError(f"can't read {path}: {error.strerror}") from error


def _check_vault_reaches(state: StateFiles, document: Document, named: Sequence[Event]) -> None:
    known = {document.epoch, *(past.epoch for past in document.past_epochs)}
    for event in named:
        epoch, generation = event.data.get("epoch"), event.data.get("generation")
        if epoch not in known:
            raise VaultError(
                f"{state.vault} is older than the audit log: line {event.sequence} is of an epoch unknown to it. "
                "Restore the newer vault.json; if it is lost, run `secretsctl vault accept-rollback`"
            )
        if epoch == document.epoch and isinstance(generation, int) and generation > document.generation:
            newest = max(e.data["generation"] for e in named if e.data.get("epoch") == document.epoch)
            raise VaultError(
                f"{state.vault} is older than the audit log: it is at generation {document.generation} and the "
                f"log at {newest}, {newest - document.generation} commits more. Restore the newer one; if it is lost, "
                "run `secretsctl vault accept-rollback`"
            )


def _owed(document: Document, named: Sequence[Event]) -> Document | None:
    """Return the document with the lines that it owes to the log, None when all are there."""
    there = {_identity(event) for event in named}
    missing = [line for line in document.outbox if _identity(line) not in there]
    return replace(document, outbox=tuple(missing)) if missing else None


def _identity(line: OwedLine | Event) -> bytes:
    """Return what tells a line of a commit from every other; a set finds it among ten thousand."""
    return msgspec.json.encode((line.type, line.subject, line.data), order="deterministic")

"""From files to a running core: keys, vault, log, and whether they are of one time (docs/vault.md). Blocks."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec.structs import replace
from secretsd_bus import Event, SigningKey, parse_time

from secretsd import files
from secretsd.audit import recovery
from secretsd.config import Config
from secretsd.crypto import masterkey
from secretsd.crypto.sensitive import Sensitive
from secretsd.daemon import passphrase
from secretsd.daemon.firststart import StateFiles, create_state, is_first_start, refuse_unfinished_restore
from secretsd.errors import KeyFileError, VaultError
from secretsd.vault.document import Document, OwedLine
from secretsd.vault.vault import Vault


@dataclass(frozen=True, slots=True)
class Opened:
    """The state, proven to be of one time."""

    vault: Vault
    key: SigningKey
    sequence: int
    head: str
    last_line_ms: int | None
    owed: Document | None
    """The document whose lines are not all in the log; its outbox holds those that are missing."""
    note: str | None


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
    master, key = load_keys(state, given)
    vault = Vault.load(state.vault, master)
    mark = vault.document.audit
    try:
        torn = recovery.set_aside_torn_tail(state.audit)
        reach = recovery.reach(state.audit, log_id=mark.log_id, sequence=mark.sequence, head=mark.head, key=key.public)
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
    return Opened(
        vault=vault,
        key=key,
        sequence=reach.sequence,
        head=reach.head,
        last_line_ms=None if reach.last_time is None else parse_time(reach.last_time),
        # With the lines of days gone, those of the last commit are among them, not still to be written.
        owed=None if reach.gone is not None else _owed(vault.document, reach.since_mark),
        note=note,
    )


def load_keys(state: StateFiles, given: Sensitive | None) -> tuple[Sensitive, SigningKey]:
    """Return master key and signing key; a wrapped one is opened with `given`, or asked for. Raises KeyFileError."""
    return load_master_key(state.master_key, given), _signing_key(state)


def load_master_key(path: Path, given: Sensitive | None) -> Sensitive:
    """Return the master key; a wrapped one is opened with `given`, or asked for. Raises KeyFileError."""
    data = _private(path)
    if given is None and masterkey.is_wrapped(data, path):
        given = passphrase.asked(path)
    return masterkey.decode(data, path, given)


def _signing_key(state: StateFiles) -> SigningKey:
    data = _private(state.sign_key)
    try:
        key = SigningKey.from_pem(data)
    except ValueError as error:
        raise KeyFileError(
            f"{state.sign_key} isn't an Ed25519 key in PKCS#8 PEM: restore it from its backup"
        ) from error
    public = key.public.to_pem()
    if not state.sign_pub.exists() or state.sign_pub.read_bytes() != public:
        files.replace(state.sign_pub, public, 0o644)
    return key


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

"""Puts a backup back: proven first, compared with what is here, then placed, in a new epoch (docs/backup.md)."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from msgspec.structs import replace

from secretsd import files
from secretsd.audit import pruning, recovery
from secretsd.audit.eventkeys import PUBLIC_FILE, EventKeys
from secretsd.audit.pruned import PRUNED_NAME
from secretsd.backup import judgement, loghere, placing
from secretsd.backup.manifest import CURSOR, PAST_KEYS, PRUNED, SIGN_KEY, SIGN_PUB
from secretsd.backup.placing import Journal
from secretsd.backup.proving import Proof, prove
from secretsd.backup.unpack import Unpacked, unpack
from secretsd.clock import SystemClock
from secretsd.config import Config
from secretsd.crypto.age import Identities
from secretsd.crypto.sensitive import Sensitive
from secretsd.daemon import passphrase
from secretsd.daemon.acceptance import goes_on, new_epoch
from secretsd.daemon.collisions import refuse_collisions
from secretsd.daemon.firststart import StateFiles
from secretsd.daemon.opening import load_event_keys, load_master_keys
from secretsd.daemon.remembered import ask_broker
from secretsd.errors import BackupError, KeyFileError, VaultError
from secretsd.outbox import cursor as cursors
from secretsd.vault import store
from secretsd.vault.document import Document, OwedLine
from secretsd.vault.position import Position, position_in
from secretsd.vault.store import Lock

_UNPACKED = "unpacked"
_UNKNOWN = ("nothing here, and nothing that the broker tells, says whether there was a newer state",)


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore came to. `older`: what was accepted to be lost. `broker_asked`: whether it could be."""

    journal: Journal
    older: Sequence[str]
    broker_asked: bool


def restore(
    config: Config,
    sealed: Path,
    using: Identities | Sensitive,
    *,
    accept_older: bool,
    progress: Callable[[int], None] | None = None,
) -> Restored:
    """Put the backup in place of what is here, which is moved aside.

    Nothing is changed unless it is proven and not older than what is known here, or `accept_older`. Raises BackupError,
    AgeError, StartupError (VaultLocked while the daemon runs, KeyFileError), PruneError, OSError.
    """
    refuse_collisions(config)
    state = StateFiles(config)
    made = [folder for folder in {state.vault.parent, state.audit.parent} if not folder.exists()]
    masters = _master_keys(state)
    state.make_folders()
    lock = Lock(state.lock)
    try:
        files.give_to_owner_of(state.master_key, state.lock, *made)
        with pruning.alone(state.audit):
            if placing.unfinished(state) is not None:
                raise BackupError("an earlier restore was interrupted: run `secretsctl backup restore --resume` first")
            with _deciding(state):
                restored = _prepared(config, state, sealed, using, masters, accept_older, progress)
                placing.decide(state, restored.journal)
                placing.finish(state, restored.journal)
            return restored
    finally:
        lock.release()


def resume(config: Config) -> Journal:
    """Go on with a restore that was interrupted. Raises BackupError where there is none, and as `restore`."""
    state = StateFiles(config)
    if not state.restoring.exists():
        raise BackupError("no restore was interrupted here: name the backup to restore")
    lock = Lock(state.lock)
    try:
        with pruning.alone(state.audit):
            journal = placing.unfinished(state)
            if journal is None:
                raise BackupError("no restore was interrupted here: name the backup to restore")
            with _deciding(state):
                placing.finish(state, journal)
            return journal
    finally:
        lock.release()


@contextlib.contextmanager
def _deciding(state: StateFiles) -> Iterator[None]:
    """Where the body fails, take away what was laid ready; or, where it was decided, say how it is gone on with."""
    try:
        yield
    except BaseException as error:
        # A journal that is there, though perhaps not durable, is a decision.
        if not state.restoring.exists():
            placing.clear_stages(state)
        elif isinstance(error, OSError):
            raise BackupError(
                f"{error.filename}: {error.strerror}. The restore is decided, and not finished: the daemon doesn't "
                "start before it is. When that is mended, run `secretsctl backup restore --resume`"
            ) from error
        raise


def _prepared(
    config: Config,
    state: StateFiles,
    sealed: Path,
    using: Identities | Sensitive,
    masters: Sequence[Sensitive],
    accept_older: bool,
    progress: Callable[[int], None] | None,
) -> Restored:
    """Prove, compare, and lay the new files ready; return what is then to be decided."""
    vault_stage, audit_stage = placing.make_stages(state)
    folder = audit_stage / _UNPACKED
    folder.mkdir(mode=files.PRIVATE_FOLDER)
    unpacked = unpack(sealed, using, folder)
    proof = prove(unpacked, masters, None, progress)
    at = unpacked.manifest.checkpoint
    keys_here = _keys_here(state)
    log = loghere.look(state.audit, keys_here or proof.keys, at, unpacked.log)
    here = _position_here(state)
    broker = ask_broker(config, _newer(proof.keys, keys_here), at.log_id)
    verdict = judgement.judge(proof.position, at.sequence, here, log, broker)
    if verdict.foreign is not None:
        raise BackupError(
            f"{verdict.foreign} than the backup's: nothing was changed. If it is to go, move its files away yourself, "
            "or name another configuration"
        )
    older = verdict.older or (() if verdict.proven else _UNKNOWN)
    if older and not accept_older:
        raise BackupError(
            f"the backup of {unpacked.manifest.created_at} is older than what is known, or may be: {'; '.join(older)}. "
            "Nothing was changed. If what came after it is lost for good, give --accept-older"
        )
    kept = log is not None and log.kept
    keys = keys_here if kept and keys_here is not None else proof.keys
    document = _document(
        proof,
        state.audit if kept else unpacked.log,
        keys,
        (*broker.epochs, *(() if here is None else (here.epoch,))),
        unpacked.manifest.created_at,
    )
    assert proof.vault is not None  # noqa: S101 — there was a master key to prove it with
    files.replace(vault_stage / state.vault.name, proof.vault.encode(document))
    _stage_cursor(state, unpacked, vault_stage, document, kept=kept)
    if not kept or keys_here is None:
        _stage_keys(state, unpacked, audit_stage)
    if not kept:
        _stage_log(state, unpacked, audit_stage)
    for stage in {vault_stage, audit_stage}:
        files.give_to_owner_of(state.master_key, *(path for path in stage.iterdir() if path.is_file()))
    now = datetime.fromtimestamp(SystemClock().now_ms() / 1000, UTC)
    journal = Journal(
        aside=f"before-restore-{now:%Y%m%dT%H%M%SZ}",
        epoch=document.epoch,
        generation=document.generation,
        sequence=document.audit.sequence,
        log_kept=kept,
        created_at=unpacked.manifest.created_at,
    )
    return Restored(journal, older, broker.asked)


def _master_keys(state: StateFiles) -> list[Sensitive]:
    if not state.master_key.exists():
        raise KeyFileError(
            f"{state.master_key} is missing, and no backup holds it: bring it back first, with `secretsctl "
            "recovery import`"
        )
    return load_master_keys(state.master_key, passphrase.provided())


def _keys_here(state: StateFiles) -> EventKeys | None:
    """Return the signing keys of the log that is here; None where there are none that can be used."""
    try:
        return load_event_keys(state)
    except (KeyFileError, VaultError, EOFError, zlib.error):
        return None


def _newer(backups: EventKeys, here: EventKeys | None) -> EventKeys:
    """Return the keys that are further on: those that are here, where they follow from the backup's."""
    follow = here is not None and any(past.key.keyid == backups.current.keyid for past in here.past)
    return here if here is not None and follow else backups


def _position_here(state: StateFiles) -> Position | None:
    """Return how far the vault here says that it is; None where there is none, or none that can be read."""
    if not state.vault.exists():
        return None
    try:
        return position_in(store.read(state.vault), state.vault)
    except VaultError:
        return None


def _document(proof: Proof, log: Path, keys: EventKeys, epochs: Sequence[str], created_at: str) -> Document:
    """Return the vault's document in its new epoch, with the lines that its last commit still owes to the log."""
    assert proof.vault is not None  # noqa: S101 — as above
    before = proof.vault.document
    end = recovery.end_of_log(log, keys.current.public, [past.key for past in keys.past])
    note = f"restored from the backup of {created_at}: {goes_on(before, end)}"
    document = new_epoch(before, end, tuple(epoch for epoch in epochs if epoch != before.epoch), note)
    return replace(document, outbox=(*_owed(before, log, keys), *document.outbox))


def _owed(before: Document, log: Path, keys: EventKeys) -> tuple[OwedLine, ...]:
    mark = before.audit
    reach = recovery.reach(
        log,
        log_id=mark.log_id,
        sequence=mark.sequence,
        head=mark.head,
        key=keys.current.public,
        also=[past.key for past in keys.past],
    )
    if reach.gone is not None:
        return ()
    there = [(event.type, event.subject, event.data) for event in reach.since_mark]
    return tuple(line for line in before.outbox if (line.type, line.subject, line.data) not in there)


def _stage_cursor(state: StateFiles, unpacked: Unpacked, stage: Path, document: Document, *, kept: bool) -> None:
    """Lay ready how far the broker had acknowledged; with the log that is here, its own cursor stays.

    The connections' number never goes back: clients tell a newer daemon by it.
    """
    log_id = document.audit.log_id
    now_ms = SystemClock().now_ms()
    here = cursors.load(state.cursor, log_id, now_ms)
    if kept and state.cursor.exists():
        return
    cursor = cursors.load(unpacked.folder / CURSOR, log_id, now_ms)
    cursors.save(stage / state.cursor.name, replace(cursor, session=max(cursor.session, here.session)))


def _stage_keys(state: StateFiles, unpacked: Unpacked, stage: Path) -> None:
    files.replace(stage / state.sign_key.name, unpacked.small[SIGN_KEY].reveal())
    files.replace(stage / state.sign_pub.name, unpacked.small[SIGN_PUB].reveal(), PUBLIC_FILE)
    past = unpacked.bytes_of(PAST_KEYS)
    if past is not None:
        files.replace(stage / state.past_keys.name, past, PUBLIC_FILE)


def _stage_log(state: StateFiles, unpacked: Unpacked, stage: Path) -> None:
    pruned = unpacked.bytes_of(PRUNED)
    if pruned is not None:
        files.replace(stage / PRUNED_NAME, pruned)
    unpacked.log.rename(stage / state.audit.name)

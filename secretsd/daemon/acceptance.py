"""Going on with an older vault or log, knowingly: a new epoch, recorded in the log (docs/vault.md). Blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace
from secretsd_bus import ZERO_HASH, Chain, rfc3339
from secretsd_bus.payloads import DaemonLife

from secretsd.audit import recovery
from secretsd.audit.linefile import LineFile
from secretsd.clock import SystemClock
from secretsd.config import Config
from secretsd.daemon import passphrase
from secretsd.daemon.firststart import StateFiles, refuse_unfinished_restore
from secretsd.daemon.opening import load_keys
from secretsd.daemon.remembered import ask_broker
from secretsd.errors import StartupError
from secretsd.service.reads import VERSION
from secretsd.vault.document import AuditMark, Document, OwedLine, PastEpoch
from secretsd.vault.keys import new_id
from secretsd.vault.store import Lock
from secretsd.vault.vault import Vault


@dataclass(frozen=True, slots=True)
class Accepted:
    """What was accepted: where the vault goes on, and where the log did end."""

    epoch: str
    generation: int
    sequence: int
    broker_asked: bool
    """Whether the broker could tell which epoch it remembers; otherwise its checkpoint may be refused once more."""


def accept_rollback(config: Config) -> Accepted:
    """Begin a new epoch with vault and log as they lie there, and write that into the log.

    Clients drop their caches on the new epoch; what the lost state had acknowledged is lost, which is why a person
    has to say so. Raises StartupError: VaultLocked while the daemon runs, KeyFileError, VaultError.
    """
    state = StateFiles(config)
    lock = Lock(state.lock)
    try:
        refuse_unfinished_restore(state)
        recovery.set_aside_torn_tail(state.audit)
        masters, keys = load_keys(state, passphrase.provided())
        vault = Vault.load(state.vault, masters)
        remembered = ask_broker(config, keys, vault.document.audit.log_id)
        end = recovery.end_of_log(state.audit, keys.current.public, [past.key for past in keys.past])
        note = f"rollback accepted: {goes_on(vault.document, end)}"
        document = new_epoch(vault.document, end, remembered.epochs, note)
        line = document.outbox[0]
        vault.write(vault.encode(document))
        chain = Chain(
            log_id=document.audit.log_id,
            node=config.bus.node,
            key=keys.current,
            sequence=document.audit.sequence,
            head=document.audit.head,
        )
        event = chain.append(line.type, line.subject, line.data, rfc3339(SystemClock().now_ms()))
        LineFile(state.audit).append(event.raw + b"\n")
        return Accepted(document.epoch, document.generation, document.audit.sequence, remembered.asked)
    except OSError as error:
        raise StartupError(f"nothing was accepted: {error}") from error
    finally:
        lock.release()


def goes_on(before: Document, end: recovery.End | None) -> str:
    """Return in words where vault and log go on from."""
    return (
        f"the vault goes on from generation {before.generation}, the log from line {0 if end is None else end.sequence}"
    )


def new_epoch(before: Document, end: recovery.End | None, remembered: Sequence[str], note: str) -> Document:
    """Return the document that goes on from the log's end; without any log, in a new one.

    `remembered` are the epochs that the broker tells of, `note` is what the log will say of it.
    """
    epoch, generation = new_id(), before.generation + 1
    mark = AuditMark(new_id(), 0, ZERO_HASH) if end is None else AuditMark(end.log_id, end.sequence, end.head)
    known = {past.epoch for past in before.past_epochs}
    ended = [before.epoch, *remembered, *(() if end is None else end.epochs)]
    past = tuple(PastEpoch(one, before.generation) for one in dict.fromkeys(ended) if one not in known)
    started = DaemonLife(version=VERSION, session=0, epoch=epoch, generation=generation, note=note)
    return replace(
        before,
        epoch=epoch,
        generation=generation,
        audit=mark,
        past_epochs=(*before.past_epochs, *past),
        outbox=(OwedLine("daemon.started", None, started.data()),),
        # What was answered in the lost state must not be taken for answered in this one.
        receipts=(),
    )

"""Going on with an older vault or log, knowingly: a new epoch, recorded in the log (docs/vault.md). Blocks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace
from secretsd_bus import ZERO_HASH, BusError, Chain, Event, Link, Message, SigningKey, Topics, rfc3339
from secretsd_bus.payloads import DaemonLife

from secretsd.audit import recovery
from secretsd.audit.linefile import LineFile
from secretsd.clock import SystemClock
from secretsd.config import Config
from secretsd.daemon import passphrase
from secretsd.daemon.firststart import StateFiles
from secretsd.daemon.opening import load_keys
from secretsd.errors import StartupError
from secretsd.outbox.witness import Witness
from secretsd.service.reads import VERSION
from secretsd.vault.document import AuditMark, Document, OwedLine, PastEpoch
from secretsd.vault.store import Lock
from secretsd.vault.vault import Vault, new_id

BROKER_SECONDS: Final = 3.0


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
        master, key = load_keys(state, passphrase.provided())
        recovery.set_aside_torn_tail(state.audit)
        vault = Vault.load(state.vault, master)
        remembered = asyncio.run(_remembered_by_broker(config, key, vault.document.audit.log_id))
        end = recovery.end_of_log(state.audit, key.public)
        document = _new_epoch(vault.document, end, remembered or ())
        line = document.outbox[0]
        vault.write(vault.encode(document))
        chain = Chain(
            log_id=document.audit.log_id,
            node=config.bus.node,
            key=key,
            sequence=document.audit.sequence,
            head=document.audit.head,
        )
        event = chain.append(line.type, line.subject, line.data, rfc3339(SystemClock().now_ms()))
        LineFile(state.audit).append(event.raw + b"\n")
        return Accepted(document.epoch, document.generation, document.audit.sequence, remembered is not None)
    except OSError as error:
        raise StartupError(f"nothing was accepted: {error}") from error
    finally:
        lock.release()


def _new_epoch(before: Document, end: recovery.End | None, remembered: Sequence[str]) -> Document:
    """Return the document that goes on from the log's end; without any log, in a new one."""
    epoch, generation = new_id(), before.generation + 1
    mark = AuditMark(new_id(), 0, ZERO_HASH) if end is None else AuditMark(end.log_id, end.sequence, end.head)
    known = {past.epoch for past in before.past_epochs}
    ended = [before.epoch, *remembered, *(() if end is None else end.epochs)]
    past = tuple(PastEpoch(one, before.generation) for one in dict.fromkeys(ended) if one not in known)
    note = (
        f"rollback accepted: the vault goes on from generation {before.generation}, the log from line {mark.sequence}"
    )
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


async def _remembered_by_broker(config: Config, key: SigningKey, log_id: str) -> tuple[str, ...] | None:
    """Return the epoch of our checkpoint on the broker, none where it has none; None when it can't be asked."""
    if not config.bus.enabled:
        return ()
    topics = Topics(config.bus.topic_prefix)
    witness = Witness(topics, key.public, log_id)
    arrived: asyncio.Queue[Message] = asyncio.Queue()
    try:
        async with asyncio.timeout(BROKER_SECONDS):
            link = await Link.connect(
                config.bus.settings(), client_id=f"secretsctl-{new_id()[:8]}", on_message=arrived.put_nowait
            )
            await link.subscribe([topics.checkpoint(config.bus.node)])
    except (BusError, TimeoutError, ValueError, OSError):
        return None
    try:
        async with asyncio.timeout(BROKER_SECONDS):
            while True:
                message = await arrived.get()
                event: Event | None = witness.own(message.topic, message.payload)
                if event is not None:
                    return (str(event.data.get("epoch")),)
    except TimeoutError:
        return ()
    finally:
        await link.disconnect()

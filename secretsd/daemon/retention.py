"""Pruning the audit log of an installation: what may go, given the vault and what is owed to the bus. Blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from secretsd_bus import SigningKey, rfc3339

from secretsd import files
from secretsd.audit import pruning
from secretsd.audit.pruned import PRUNED_NAME
from secretsd.audit.pruning import Hold, Plan
from secretsd.audit.reader import LogReader
from secretsd.clock import SystemClock
from secretsd.config import Config
from secretsd.daemon.firststart import StateFiles, refuse_unfinished_restore
from secretsd.daemon.opening import load_event_keys
from secretsd.errors import KeyFileError, PruneError
from secretsd.outbox import cursor as cursors
from secretsd.outbox.feed import first_after
from secretsd.reserve import Reserve
from secretsd.vault import store
from secretsd.vault.document import AuditMark
from secretsd.vault.position import position_in


@dataclass(frozen=True, slots=True)
class Pruning:
    """What went, or with a dry run would go. `record` is where it is written down, None for nothing and a dry run."""

    plan: Plan
    record: Path | None


def prune(config: Config, before: str, *, dry_run: bool, progress: Callable[[int], None] | None = None) -> Pruning:
    """Remove the log's files whose lines are all older than `before` (RFC 3339), and keep what proves the rest.

    Works beside a running daemon and a running log rotation. What would go is verified first, in a dry run too. Raises
    PruneError, VaultError, OSError.
    """
    state = StateFiles(config)
    refuse_unfinished_restore(state)
    now_ms = SystemClock().now_ms()
    if before > rfc3339(now_ms):
        raise PruneError("--before lies in the future: the whole log would be older than that")
    with pruning.alone(state.audit):
        if not dry_run:
            pruning.tidy(state.audit)
        mark = position_in(store.read(state.vault), state.vault).audit
        chosen = pruning.plan(pruning.survey(state.audit), state.audit, before, _holds(config, state, mark, now_ms))
        if not chosen.remove:
            return Pruning(chosen, None)
        packed = pruning.being_compressed(state.audit, chosen)
        if packed is not None:
            raise PruneError(f"{packed} is just being compressed: try again when that is done; nothing was removed")
        key = _signing_key(state)
        record = pruning.record_of(
            state.audit,
            chosen,
            log_id=mark.log_id,
            before=before,
            now=rfc3339(now_ms),
            key=key.public,
            progress=progress,
        )
        if dry_run:
            return Pruning(chosen, None)
        kept = _with_reserve(state, lambda: pruning.carry_out(state.audit, chosen, record, key))
        files.give_to_owner_of(state.sign_key, kept)
        return Pruning(chosen, kept)


def _with_reserve(state: StateFiles, attempt: Callable[[], Path]) -> Path:
    """Do what frees space; where there is none to begin with, with what is kept for an operator. Raises OSError.

    What was taken of that is put back out of what became free; where it doesn't fit, the daemon does it later.
    """
    try:
        return attempt()
    except OSError as error:
        reserve = Reserve([state.vault.parent, state.audit.parent])
        if not files.is_full(error) or not reserve.give_up():
            raise
        try:
            return attempt()
        finally:
            reserve.put_back()


def _holds(config: Config, state: StateFiles, mark: AuditMark, now_ms: int) -> list[Hold]:
    """Return what has to stay: the line that the vault vouches for and what follows, and what the bus is owed."""
    holds = [Hold(mark.sequence, "the vault knows of, as of its last change (a reload is one)")]
    if not config.bus.enabled:
        return holds
    cursor = cursors.load(state.cursor, mark.log_id, now_ms)
    if cursor.changes is None or cursor.audit is None:
        return holds
    since = ""
    if config.bus.replay_max_ms is not None:
        since = rfc3339(max(0, now_ms - config.bus.replay_max_ms))
    owed = first_after(LogReader(state.audit), min(cursor.changes, cursor.audit), since)
    if owed is not None:
        holds.append(
            Hold(owed, "the broker has not acknowledged: they go after that, or when they are past replay_max")
        )
    return holds


def _signing_key(state: StateFiles) -> SigningKey:
    try:
        return load_event_keys(state).current
    except KeyFileError as error:
        raise PruneError(f"{state.sign_key}, which signs the record {PRUNED_NAME}, can't be used: {error}") from error

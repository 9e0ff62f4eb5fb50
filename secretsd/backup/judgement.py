"""Whether a backup may be older than what was acknowledged since, going by what is here and on the broker. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from secretsd_bus import Event

from secretsd.daemon.remembered import Remembered
from secretsd.outbox import witness
from secretsd.vault.position import Position


@dataclass(frozen=True, slots=True)
class LogHere:
    """The log that is here.

    `since` are the events beyond the vault's mark that name a generation, None where the log can't be kept: it ends
    before the backup's (`lost_because` None, for nothing is lost), or is broken, or another (`lost_because` says how).
    """

    log_id: str | None
    since: Sequence[Event] | None = None
    lost_because: str | None = None

    @property
    def kept(self) -> bool:
        """Whether it goes on from the backup's last line, unbroken."""
        return self.since is not None


@dataclass(frozen=True, slots=True)
class Verdict:
    """`foreign`: why these files are another vault's. `older`: how the backup is behind. `proven`: it can't be."""

    foreign: str | None
    older: tuple[str, ...]
    proven: bool


def judge(backup: Position, last: int, here: Position | None, log: LogHere | None, broker: Remembered) -> Verdict:
    """Return how a backup, whose log ends at line `last`, stands to the vault and log that are here.

    None: there is no vault, or one that can't be read; there is no log.
    """
    foreign = _foreign(backup, here, log)
    if foreign is not None:
        return Verdict(foreign, (), proven=False)
    older = [reason for reason in (_vault(backup, here), _log(backup, log), _broker(backup, last, broker)) if reason]
    proven = not older and (
        (here is not None and here.epoch == backup.epoch)
        or (log is not None and log.kept)
        or broker.epochs == (backup.epoch,)
    )
    return Verdict(None, tuple(older), proven)


def _foreign(backup: Position, here: Position | None, log: LogHere | None) -> str | None:
    if here is not None:
        return None if here.vault_id == backup.vault_id else "the vault that is here is another one"
    if log is not None and log.log_id not in {None, backup.audit.log_id}:
        return "the audit log that is here is another vault's"
    return None


def _vault(backup: Position, here: Position | None) -> str | None:
    if here is None or here.epoch in backup.ended:
        return None
    if here.epoch != backup.epoch:
        return "the vault that is here is of an epoch that the backup doesn't know"
    if here.generation > backup.generation:
        return f"the vault that is here is newer by {_commits(here.generation - backup.generation)}"
    return None


def _log(backup: Position, log: LogHere | None) -> str | None:
    if log is None:
        return None
    if log.since is None:
        return log.lost_because
    newest = backup.generation
    for event in log.since:
        epoch, generation = event.data.get("epoch"), event.data.get("generation")
        if epoch != backup.epoch and epoch not in backup.ended:
            return f"the audit log that is here tells of an epoch that the backup doesn't know (line {event.sequence})"
        if epoch == backup.epoch and isinstance(generation, int):
            newest = max(newest, generation)
    if newest == backup.generation:
        return log.lost_because
    return f"the audit log that is here tells of {_commits(newest - backup.generation)} more"


def _broker(backup: Position, last: int, broker: Remembered) -> str | None:
    position = witness.Position(backup.epoch, backup.ended, backup.generation, last)
    return witness.older_than(position, broker.checkpoint)


def _commits(count: int) -> str:
    return "1 commit" if count == 1 else f"{count} commits"

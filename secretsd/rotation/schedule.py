"""What is due when: a queue of instants over the vault's records, and the decision for one record. No I/O, no clock."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from secretsd.model import NEVER_MS
from secretsd.rotation.pending import in_way
from secretsd.rotation.transitions import warnings
from secretsd.vault.document import SecretRecord, VersionRecord


@dataclass(frozen=True, slots=True)
class Due:
    """What has to happen to one secret now; several at once are possible."""

    rotate: bool = False
    expired: bool = False
    expiring: int | None = None
    """The count of thresholds that will have been announced."""
    retire: tuple[VersionRecord, ...] = ()

    def __bool__(self) -> bool:
        return self.rotate or self.expired or self.expiring is not None or bool(self.retire)


def due(record: SecretRecord, now_ms: int) -> Due:
    """Return what the schedule owes `record` at `now_ms`. A rotation takes the place of an expiry."""
    retire = tuple(
        version for version in record.in_grace if version.grace_until is not None and version.grace_until <= now_ms
    )
    if record.expires_at <= now_ms:
        if record.rotation == "auto" and in_way(record) is None:
            return Due(rotate=True, retire=retire)
        if not _expires(record):
            return Due(retire=retire)
        return Due(expired=record.status != "expired", retire=retire)
    announced = sum(1 for instant in warnings(record) if instant <= now_ms)
    return Due(expiring=announced if announced > record.announced else None, retire=retire)


def next_instant(record: SecretRecord) -> int:
    """Return the next instant at which `due` can say something new, NEVER_MS for none."""
    instants = [version.grace_until for version in record.in_grace if version.grace_until is not None]
    rotates = record.rotation == "auto" and in_way(record) is None
    if rotates or (record.status != "expired" and _expires(record)):
        instants.append(record.expires_at)
        instants.extend(warnings(record)[record.announced :])
    return min(instants, default=NEVER_MS)


def _expires(record: SecretRecord) -> bool:
    """Tell whether its expiry is announced: a rotation that is under way takes its place, until it is known to fail."""
    pending = in_way(record)
    return pending is None or pending.reported or record.rotation != "auto"


class Agenda:
    """The next instant of every record. An entry whose record was replaced since is dropped when it comes up."""

    def __init__(self, records: Mapping[str, SecretRecord]) -> None:
        self._records: dict[str, SecretRecord] = {}
        self._queue: list[tuple[int, str]] = []
        self.update(records, records)

    def update(self, names: Iterable[str], records: Mapping[str, SecretRecord]) -> None:
        """Follow the vault to its next document, in which `names` changed."""
        for name in names:
            record = records.get(name)
            if record is None:
                self._records.pop(name, None)
                continue
            self._records[name] = record
            instant = next_instant(record)
            if instant < NEVER_MS:
                heapq.heappush(self._queue, (instant, name))

    def next_instant(self) -> int:
        """Return when to look again, NEVER_MS for not at all."""
        while self._queue:
            instant, name = self._queue[0]
            record = self._records.get(name)
            if record is not None and next_instant(record) == instant:
                return instant
            heapq.heappop(self._queue)
        return NEVER_MS

    def due(self, now_ms: int) -> Iterator[tuple[str, SecretRecord, Due]]:
        """Yield the records that something is due for, earliest first, each once; they stay until they change."""
        names = dict.fromkeys(name for _, name in sorted(entry for entry in self._queue if entry[0] <= now_ms))
        for name in names:
            record = self._records.get(name)
            decision = None if record is None else due(record, now_ms)
            if record is not None and decision:
                yield name, record, decision

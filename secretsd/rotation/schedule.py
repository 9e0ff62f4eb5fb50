"""What is due when: a queue of instants over the vault's records, and the decision for one record. No I/O, no clock."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from secretsd.model import DAY_MS, NEVER_MS
from secretsd.policy import Policy
from secretsd.rotation.pending import in_way
from secretsd.rotation.spacing import Slot, Spacing
from secretsd.rotation.transitions import ready_at, warnings
from secretsd.vault.document import SecretRecord, VersionRecord

HELD_MOST_MS: Final = 8 * DAY_MS
"""How long a rotation waits for its window, or for others, before that is called an expiry: a weekly window has opened
once by then."""


@dataclass(frozen=True, slots=True)
class Due:
    """What has to happen to one secret now; several at once are possible."""

    rotate: bool = False
    expired: bool = False
    expiring: int | None = None
    """The count of thresholds that will have been announced."""
    retire: tuple[VersionRecord, ...] = ()
    """The versions whose grace is over."""
    slot: Slot | None = None
    """Where the rotation was placed, if something besides its expiry had a say in it."""
    publish: bool = False
    """Whether the key of the next rotation is to be published."""
    unneeded: tuple[VersionRecord, ...] = ()
    """Those whose grace ends before its time, since every consumer has moved on."""

    def __bool__(self) -> bool:
        told = self.rotate or self.expired or self.publish or self.expiring is not None
        return told or bool(self.retire or self.unneeded)


def due(record: SecretRecord, now_ms: int, slot: Slot | None = None, ahead_ms: int | None = None) -> Due:
    """Return what the schedule owes `record` at `now_ms`. A rotation takes the place of an expiry.

    `slot` is where the rotation was placed; one that is held there for HELD_MOST_MS past its expiry counts as expired.
    `ahead_ms` is how long before its use a key is published.
    """
    publish = _publishes_at(record, ahead_ms) <= now_ms
    retire = tuple(
        version for version in record.in_grace if version.grace_until is not None and version.grace_until <= now_ms
    )
    if record.expires_at <= now_ms:
        if record.rotation == "auto" and in_way(record) is None:
            if slot is None and ready_at(record, ahead_ms) > now_ms:
                return Due(publish=publish, retire=retire)
            if slot is None or slot.at <= now_ms:
                return Due(rotate=True, retire=retire, slot=slot)
            late = record.expires_at + HELD_MOST_MS <= now_ms
            return Due(expired=late and record.status != "expired", retire=retire, slot=slot)
        if not _expires(record):
            return Due(retire=retire)
        return Due(expired=record.status != "expired", retire=retire)
    announced = sum(1 for instant in warnings(record) if instant <= now_ms)
    # One that has expired already, by a clock that went back since, isn't about to.
    expiring = announced if announced > record.announced and record.status != "expired" else None
    return Due(expiring=expiring, retire=retire, publish=publish)


def next_instant(record: SecretRecord, slot: Slot | None = None, ahead_ms: int | None = None) -> int:
    """Return the next instant at which `due` can say something new, NEVER_MS for none."""
    instants = [version.grace_until for version in record.in_grace if version.grace_until is not None]
    if record.rotation == "auto" and in_way(record) is None:
        instants.append(_publishes_at(record, ahead_ms))
        instants.append(ready_at(record, ahead_ms) if slot is None else slot.at)
        if slot is not None and record.status != "expired":
            instants.append(record.expires_at + HELD_MOST_MS)
    elif record.status != "expired" and _expires(record):
        instants.append(record.expires_at)
        instants.extend(warnings(record)[record.announced :])
    return min(instants, default=NEVER_MS)


def _publishes_at(record: SecretRecord, ahead_ms: int | None) -> int:
    """Return when the key of the next rotation is published, NEVER_MS where it is already or won't be."""
    if ahead_ms is None or record.rotation != "auto" or in_way(record) is not None:
        return NEVER_MS
    if record.published_ahead is not None or record.expires_at == NEVER_MS:
        return NEVER_MS
    return record.expires_at - ahead_ms


def _expires(record: SecretRecord) -> bool:
    """Tell whether its expiry is announced: a rotation that is under way takes its place, until it is known to fail."""
    pending = in_way(record)
    return pending is None or pending.reported or record.rotation != "auto"


class Agenda:
    """The next instant of every record. An entry whose record was replaced since is dropped when it comes up.

    A rotation that is due is placed once: where it may happen at once it has no slot, else it is held until its own.
    """

    def __init__(self, records: Mapping[str, SecretRecord], policy: Policy | None = None) -> None:
        """`policy` says what waits for a window and what keeps a distance; without one nothing does."""
        self._records: dict[str, SecretRecord] = {}
        self._queue: list[tuple[int, str]] = []
        self._instants: dict[str, int] = {}
        """What counts of the queue."""
        self._held: dict[str, Slot] = {}
        self._on_the_way: set[str] = set()
        """Those at another end, and not known to fail, that others keep clear of: when they arrive isn't known."""
        self._policy = policy
        self._spacing = Spacing(policy)
        self._misplaced = True
        """Whether something else happened than what was planned, so that all that is held is placed anew."""
        self.update(records, records)

    def follow(self, policy: Policy) -> None:
        """Place all anew, under a policy that came into force."""
        self._policy = policy
        self._spacing = Spacing(policy)
        self._place_anew()
        for name, record in self._records.items():
            self._look(name, record)
            if record.type == "jwt_signing_key":
                self._note(name, record)

    def update(self, names: Iterable[str], records: Mapping[str, SecretRecord]) -> None:
        """Follow the vault to its next document, in which `names` changed."""
        for name in names:
            before, record = self._records.get(name), records.get(name)
            slot = self._held.pop(name, None)
            if record is None:
                self._records.pop(name, None)
                self._instants.pop(name, None)
                self._on_the_way.discard(name)
            else:
                self._records[name] = record
                self._look(name, record)
            if record is not None and before is not None and _unmoved(before, record):
                if slot is not None:
                    self._held[name] = slot
            elif self._spacing.apart(name) and not (record and slot and slot.at == record.current.created_at):
                self._misplaced = True
            if record is not None:
                self._note(name, record)
        if self._misplaced and self._held:
            self._place_anew()

    def next_instant(self) -> int:
        """Return when to look again, NEVER_MS for not at all."""
        while self._queue:
            instant, name = self._queue[0]
            if self._instants.get(name) == instant:
                return instant
            heapq.heappop(self._queue)
        return NEVER_MS

    def due(self, now_ms: int) -> Iterator[tuple[str, SecretRecord, Due]]:
        """Yield the records that something is due for, earliest first, each once; they stay until they change."""
        names = self._up(now_ms)
        self._place(names, now_ms)
        for name in names:
            record = self._records.get(name)
            decision = None if record is None else due(record, now_ms, self._held.get(name), self._ahead(name, record))
            if record is not None and decision:
                yield name, record, decision
            elif record is not None:
                # It was looked at for nothing: it waits for something else than it did.
                self._note(name, record)

    def held(self) -> Mapping[str, Slot]:
        """Return the rotations that are due and wait, each with where it was placed."""
        return self._held

    def _up(self, now_ms: int) -> dict[str, None]:
        """Return the names whose instant has come, in order."""
        come: list[tuple[int, str]] = []
        while self._queue and self._queue[0][0] <= now_ms:
            entry = heapq.heappop(self._queue)
            if self._instants.get(entry[1]) == entry[0]:
                come.append(entry)
        for entry in come:
            heapq.heappush(self._queue, entry)
        return dict.fromkeys(name for _, name in come)

    def _place(self, names: dict[str, None], now_ms: int) -> None:
        """Give each due rotation that something may hold its slot; what is held goes to the queue again."""
        waiting = [name for name in names if self._rotates(name, now_ms) and not self._spacing.free_to_rotate(name)]
        if any(name in self._held and (self._on_the_way or self._held[name].at < now_ms) for name in waiting):
            # Its instant was missed: the window may have closed meanwhile, another may be too near. Or it came, and one
            # that others keep clear of is still on its way.
            self._place_anew()
        if self._misplaced:
            held = (
                name for name in self._held if self._rotates(name, now_ms) and not self._spacing.free_to_rotate(name)
            )
            waiting = [*dict.fromkeys((*waiting, *held))]
            self._held.clear()
            self._spacing.forget()
            for name, record in self._records.items():
                if self._spacing.apart(name):
                    self._keep_clear(name, record, now_ms)
            self._misplaced = False
        new = [(self._ready_at(name), name) for name in waiting if name not in self._held]
        for ready, name in sorted(new):
            slot = self._held[name] = self._spacing.place(name, ready, now_ms)
            if slot.at > now_ms:
                self._note(name, self._records[name])
            names[name] = None

    def _look(self, name: str, record: SecretRecord) -> None:
        """Know whether a rotation that others keep clear of is on its way."""
        if _on_its_way(record) and self._spacing.apart(name):
            self._on_the_way.add(name)
        else:
            self._on_the_way.discard(name)

    def _keep_clear(self, name: str, record: SecretRecord, now_ms: int) -> None:
        """Keep others off a rotation that was, or is under way; one that is known to fail holds nobody up."""
        if _on_its_way(record):
            self._spacing.stand(name, now_ms)
        elif 0 <= now_ms - record.current.created_at < self._spacing.widest_ms:
            self._spacing.stand(name, record.current.created_at)

    def _rotates(self, name: str, now_ms: int) -> bool:
        record = self._records.get(name)
        return (
            record is not None
            and record.rotation == "auto"
            and self._ready_at(name) <= now_ms
            and in_way(record) is None
        )

    def _ready_at(self, name: str) -> int:
        record = self._records[name]
        return ready_at(record, self._ahead(name, record))

    def _ahead(self, name: str, record: SecretRecord) -> int | None:
        """Return how long before its use the secret's new key is published, None where it isn't."""
        if self._policy is None or record.type != "jwt_signing_key":
            return None
        rule = self._policy.rule_for(name)
        return rule.publish_ahead_ms if rule.jwks else None

    def _place_anew(self) -> None:
        self._misplaced = True
        for name in self._held:
            self._note(name, self._records[name], due_ms=self._records[name].expires_at)

    def _note(self, name: str, record: SecretRecord, due_ms: int | None = None) -> None:
        ahead_ms = self._ahead(name, record)
        instant = next_instant(record, self._held.get(name), ahead_ms) if due_ms is None else due_ms
        if instant < NEVER_MS and self._instants.get(name) != instant:
            heapq.heappush(self._queue, (instant, name))
        self._instants[name] = instant


def _on_its_way(record: SecretRecord) -> bool:
    """Tell whether a rotation is under way to another end, and not known to fail."""
    pending = in_way(record)
    return pending is not None and not pending.reported


def _unmoved(before: SecretRecord, record: SecretRecord) -> bool:
    """Tell whether a secret's rotations stand where they stood: only graces ended, or it was said to expire."""
    return (
        before.current.version == record.current.version
        and before.expires_at == record.expires_at
        and before.rotation == record.rotation
        and in_way(before) is None
        and in_way(record) is None
    )

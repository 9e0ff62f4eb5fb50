"""The changes of secrets as drafts of the next document: decisions only, nothing is written here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from secretsd.config import Config
from secretsd.crypto.sensitive import Sensitive
from secretsd.errors import Problem
from secretsd.model import Encoding
from secretsd.policy import Policy, SecretSettings
from secretsd.rotation.announce import SCHEDULE, Announcer, Cause, Laggards
from secretsd.rotation.generate import generate
from secretsd.rotation.pending import dropped, in_way
from secretsd.rotation.schedule import Due
from secretsd.rotation.transitions import buried, created, resettled, superseded
from secretsd.service.commits import Draft
from secretsd.service.departures import NO_ROTATOR, Departures, Value
from secretsd.service.values import settled
from secretsd.vault.document import Document, OwedLine, PolicyMark, SecretRecord, VersionRecord, Wishes
from secretsd.vault.vault import Vault

_EXTERNAL: Final = (
    'An external secret is issued elsewhere: get the new value there and send it in "values", or with PUT.'
)
_STILL_EXTERNAL: Final = (
    "It was made as an external secret, and keeps that type though its rule says {type} by now: delete it and make it "
    'anew with the value that it has, so that values can be generated; or send the new one in "values", or with PUT.'
)


class Changes:
    """Makes drafts under one policy and configuration. `now_ms` is the commit's time."""

    def __init__(
        self, vault: Vault, policy: Policy, config: Config, laggards: Laggards = lambda _name, _version: None
    ) -> None:
        self._vault = vault
        self._policy = policy
        self._config = config
        self._laggards = laggards
        self._departures = Departures(vault, self.generated, self.settings)

    def create(
        self,
        document: Document,
        generation: int,
        name: str,
        value: tuple[Sensitive, Encoding],
        settings: SecretSettings,
        wishes: Wishes,
        cause: Cause,
        now_ms: int,
    ) -> Draft:
        """Draft a new secret; one of a deleted name continues its versions. Raises Problem `exists`."""
        if name in document.secrets:
            raise Problem("exists", "A secret of this name exists; PUT /secret/{name} gives it a new version.")
        stone = document.tombstones.get(name)
        version = 1 if stone is None else stone.version + 1
        first = self._vault.seal(name, version, *value, now_ms)
        record = created(first, settings, wishes, generation)
        event = self.announcer(document).changed("created", name, record, cause)
        return Draft([event], {name: record}, {} if stone is None else {name: None})

    def renew(
        self,
        document: Document,
        generation: int,
        values: Mapping[str, Value | None],
        grace_ms: Mapping[str, int | UnsetType | None],
        verb: Literal["rotated", "updated"],
        cause: Cause,
        now_ms: int,
    ) -> Draft:
        """Draft a new version of each secret in `values`, of the value there, or of a generated one.

        `grace_ms` is that of the version before, each, UNSET for that of its settings. Where a rotator has to bring it
        to the other end first, the version is under way with this commit, and current with a later one. Raises Problem
        `value-required`, `rotation-pending`.
        """
        announcer = self.announcer(document)
        events: list[OwedLine] = []
        records: dict[str, SecretRecord] = {}
        for name, value in values.items():
            before = document.secrets[name]
            rule = self._policy.rule_for(name).rotator
            if rule is not None:
                records[name], own = self._departures.depart(
                    announcer, name, before, rule, value, generation, grace_ms[name], verb, cause, now_ms
                )
                events.extend(own)
                continue
            if in_way(before) is not None:
                raise Problem("rotation-pending", NO_ROTATOR)
            asked_ms = grace_ms[name]
            grace = self.settings(name, before).grace_ms if isinstance(asked_ms, UnsetType) else asked_ms
            record, ended = self._superseded(name, before, value, generation, grace, now_ms, urgent=cause.urgent)
            records[name] = record
            events.append(announcer.changed(verb, name, record, cause))
            events.extend(announcer.retired(name, record, version, cause) for version in ended)
        return Draft(events, records, {})

    def delete(self, document: Document, generation: int, name: str, cause: Cause) -> Draft:
        """Draft a secret gone, with all its versions; its tombstone stays."""
        stone = buried(document.secrets[name], generation)
        event = self.announcer(document).deleted(name, stone, cause)
        return Draft([event], {name: None}, {name: stone})

    def scheduled(
        self, document: Document, generation: int, due: Iterable[tuple[str, SecretRecord, Due]], now_ms: int
    ) -> Draft:
        """Draft all that is due, as one commit."""
        announcer = self.announcer(document)
        events: list[OwedLine] = []
        records: dict[str, SecretRecord] = {}
        for name, found, decision in due:
            record, own = self._carried_out(announcer, name, found, decision, generation, now_ms)
            records[name] = record
            events.extend(own)
        return Draft(events, records, {})

    def policy_changed(self, document: Document, generation: int, event: OwedLine) -> Draft:
        """Draft a policy coming into force: secrets follow their rules, clients learn that their rights may differ."""
        records: dict[str, SecretRecord | None] = {}
        for name, record in document.secrets.items():
            follows = resettled(record, self.settings(name, record), generation)
            if follows is not record:
                records[name] = follows
        return Draft([event], records, {}, PolicyMark(self._policy.sha256, generation))

    def settings(self, name: str, record: SecretRecord) -> SecretSettings:
        """Return what policy, wishes and defaults say of an existing secret now."""
        return settled(record.type, record.wishes, self._policy.rule_for(name), self._config.security)

    def generated(self, name: str, record: SecretRecord) -> Value:
        """Return a new value in the kind of the current one. Raises Problem `value-required` for an external one."""
        if record.type == "external":
            ruled = self._policy.rule_for(name).type or "external"
            raise Problem("value-required", _EXTERNAL if ruled == "external" else _STILL_EXTERNAL.format(type=ruled))
        like = self._vault.open(name, record.current) if record.type == "jwt_signing_key" else None
        return generate(record.type, like), "utf-8"

    def _carried_out(
        self, announcer: Announcer, name: str, record: SecretRecord, due: Due, generation: int, now_ms: int
    ) -> tuple[SecretRecord, list[OwedLine]]:
        events: list[OwedLine] = []
        over = (*due.retire, *(version for version in due.unneeded if version not in due.retire))
        if over:
            record = replace(record, versions=tuple(v for v in record.versions if v not in over), generation=generation)
        rule = self._policy.rule_for(name).rotator
        if due.rotate and rule is not None:
            record, own = self._departures.depart(
                announcer, name, record, rule, None, generation, UNSET, "rotated", Cause(SCHEDULE, "expired"), now_ms
            )
            events.extend(own)
        elif due.rotate:
            grace_ms = self.settings(name, record).grace_ms
            record, pushed_out = self._superseded(name, record, None, generation, grace_ms, now_ms, urgent=False)
            over += pushed_out
            events.append(announcer.changed("rotated", name, record, Cause(SCHEDULE, "expired")))
        elif due.expired:
            record = replace(record, status="expired", generation=generation)
            held = "its rotation still waits for its window, or for a distance to others"
            reason = "expires_at has passed" if due.slot is None else held
            events.append(announcer.changed("expired", name, record, Cause(SCHEDULE, reason)))
        elif due.expiring is not None:
            record = replace(record, status="expiring", announced=due.expiring, generation=generation)
            events.append(announcer.changed("expiring", name, record, Cause(SCHEDULE, "expires_at is near")))
        if due.publish:
            upcoming = self._vault.seal(name, record.current.version + 1, *self.generated(name, record), now_ms)
            record = replace(record, upcoming=upcoming, generation=generation)
            events.append(announcer.key_published(name, record, upcoming, Cause(SCHEDULE, "used from its rotation on")))
        early = Cause(SCHEDULE, "every consumer has moved on")
        late = Cause(SCHEDULE, "grace is over")
        events.extend(
            announcer.retired(name, record, version, late if version not in due.unneeded else early) for version in over
        )
        return record, events

    def _superseded(
        self,
        name: str,
        record: SecretRecord,
        value: Value | None,
        generation: int,
        grace_ms: int | None,
        now_ms: int,
        *,
        urgent: bool,
    ) -> tuple[SecretRecord, tuple[VersionRecord, ...]]:
        upcoming = record.published_ahead
        if value is None and upcoming is not None and not urgent:
            new = replace(upcoming, created_at=now_ms)
        else:
            # In an emergency also what was published ahead is dropped: it lay where the leaked one did.
            made = value or self.generated(name, record)
            new = self._vault.seal(name, record.current.version + 1, *made, now_ms)
        return superseded(
            dropped(record), new, self.settings(name, record), generation=generation, grace_ms=grace_ms, urgent=urgent
        )

    def announcer(self, document: Document) -> Announcer:
        """Return what words the events of a commit on `document`."""
        return Announcer(document.epoch, self._config.bus.spread_ms, self._laggards)

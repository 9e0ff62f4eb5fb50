"""What is given out: authorise, then audit, then release. Nothing is released before its line is durable."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Container
from typing import Final

from msgspec import UNSET
from secretsd_bus import rfc3339
from secretsd_bus.payloads import Accessed

from secretsd.audit.log import Entry
from secretsd.audit.reader import LogReader
from secretsd.auth import Caller
from secretsd.errors import AuditWriteError, Problem
from secretsd.model import BusInfo, Changes, Health, SecretAnswer, SecretList
from secretsd.reserve import SPENT
from secretsd.rotation.announce import metadata, previous
from secretsd.rotation.generate import public_jwk
from secretsd.rotation.keyset import fresh_for_ms, published
from secretsd.service.answers import Answered, KeySet, ReadResult, Selector
from secretsd.service.core import Core
from secretsd.service.gate import audit_unavailable, keep_reserve
from secretsd.service.history import changes_since, readable_version
from secretsd.service.page import page, pieces
from secretsd.service.values import delivered
from secretsd.vault.document import Document, VersionRecord
from secretsd.vault.keys import VaultKeys

VERSION: Final = "0.1.0"


class Reads:
    """Every call that changes nothing."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._jwks: dict[str, dict[str, str]] = {}

    async def read(
        self,
        caller: Caller,
        name: str,
        selector: Selector,
        *,
        if_none_match: Container[str] | None,
        min_generation: int | None,
        head: bool = False,
    ) -> Answered[ReadResult]:
        """Return a secret's value as of one generation; no body where the kid of what is meant is in `if_none_match`.

        For a HEAD, `head`, the caller isn't given the value: its line says that it was told of it, not that it has it.
        Raises Problem `forbidden`, `not-found`, `version-not-found`, `behind`, `audit-unavailable`.
        """
        core = self._core
        await self._ready()
        await core.gate.authorise(caller, "read", "read", name)
        # Taken together: a rotation of keys while the line is written must not leave one without the other.
        document, keys = core.document, core.vault.keys
        version: VersionRecord | None = None
        try:
            version = self._found(document, name, selector, min_generation)
        except Problem as problem:
            problem.position = document.position
            await self._audit_read(caller, document, name, None, problem.slug, head=head)
            raise
        unchanged = if_none_match is not None and version.kid in if_none_match
        await self._audit_read(caller, document, name, version, "not-modified" if unchanged else "ok", head=head)
        if not head and version is not document.secrets[name].current:
            core.metrics.previous_reads.inc()
        body = None if unchanged else self._answer(document, keys, name, version)
        return Answered(ReadResult(body, version.kid), document.position)

    async def list_secrets(self, caller: Caller) -> Answered[SecretList]:
        """Return the metadata of what the caller may read, by name."""
        core = self._core
        await self._ready()
        document, graces_ms = core.document, core.graces_until_ms
        found = [
            metadata(name, record, graces_ms)
            for name, record in sorted(document.secrets.items())
            if core.policy.may(caller.client, "read", name)
        ]
        await self._audit(self._access("secret.listed", caller, "list", None, None, "ok"))
        return Answered(SecretList(secrets=found), document.position)

    async def changes(self, caller: Caller, since: str | None) -> Answered[Changes]:
        """Return what changed since the position `since`. Raises Problem `history-gone`."""
        core = self._core
        await self._ready()
        document = core.document
        found = changes_since(document, since, lambda name: core.policy.may(caller.client, "read", name))
        session, uptime_ms = core.bus.session, core.uptime_ms
        await self._audit(self._access("secret.listed", caller, "changes", None, None, "ok"))
        answer = Changes(
            epoch=document.epoch,
            generation=document.generation,
            session=session,
            uptime_ms=uptime_ms,
            changes=found,
        )
        return Answered(answer, document.position)

    async def audit_lines(
        self, caller: Caller, *, after: int | None, since_ms: int | None, limit: int
    ) -> Answered[AsyncGenerator[bytes, None]]:
        """Return up to `limit` signed lines after a sequence or a time, in pieces. Raises `history-gone`."""
        core = self._core
        await self._ready()
        await core.gate.authorise(caller, "audit", "audit")
        position = core.document.position
        since = "" if since_ms is None else rfc3339(since_ms)
        await self._audit(self._access("secret.listed", caller, "audit", None, None, "ok"))
        lines = pieces(LogReader(core.audit_path), after=after, since=since, limit=limit, durable=core.log.told)
        return Answered(await page(lines), position)

    def bus_info(self, caller: Caller) -> Answered[BusInfo]:
        """Return where the broker is. Raises Problem `not-found` when the bus is disabled."""
        del caller
        core = self._core
        bus = core.config.bus
        if not bus.enabled:
            raise Problem(
                "not-found",
                "The bus is disabled in config.toml: read over HTTP.",
                position=core.document.position,
            )
        return Answered(BusInfo(url=bus.url, topic_prefix=bus.topic_prefix, node=bus.node), core.document.position)

    def health(self) -> Health:
        """Return whether the daemon can serve, and what an operator looks at first."""
        core = self._core
        reason = core.stopped_serving or core.log.failure
        if reason is None and core.committer.unfinished:
            reason = "a change waits for its audit line"
        if reason is None and core.reserve.spent:
            reason = SPENT
        return Health(
            status="ok" if reason is None else "unavailable",
            version=VERSION,
            uptime_secs=core.uptime_ms // 1000,
            secrets_count=len(core.document.secrets),
            bus=core.bus.status,
            clock="ok" if core.guard.doubt is None else "in-doubt",
            reason=reason or core.guard.doubt,
        )

    def event_keys(self) -> dict[str, object]:
        """Return the JWK set of the keys that sign events, those of the past with the line that ended each."""
        return self._core.event_keys.key_set()

    def jwks(self) -> KeySet:
        """Return the JWK set of the signing keys that the policy publishes, and how long it may be kept."""
        core = self._core
        core.serving()
        now_ms, graces_ms = core.clock.now_ms(), core.graces_until_ms
        of_policy = {
            name: record
            for name, record in core.document.secrets.items()
            if record.type == "jwt_signing_key" and core.policy.rule_for(name).jwks
        }
        self._jwks = {
            version.kid: self._jwks.get(version.kid) or public_jwk(core.vault.open(name, version), version.kid)
            for name, record in of_policy.items()
            for version in published(record, graces_ms)
        }
        fresh_ms = fresh_for_ms(
            ((record, core.policy.rule_for(name).publish_ahead_ms) for name, record in of_policy.items()), now_ms
        )
        return KeySet([*self._jwks.values()], fresh_ms // 1000)

    def _found(self, document: Document, name: str, selector: Selector, min_generation: int | None) -> VersionRecord:
        if min_generation is not None and min_generation > document.generation:
            raise Problem(
                "behind",
                f"The vault is at generation {document.generation}: ask again in a moment.",
                headers={"Retry-After": "1"},
            )
        record = document.secrets.get(name)
        if record is None:
            raise Problem("not-found", "No secret has this name; GET /secrets lists those that you may read.")
        return readable_version(record, selector, self._core.graces_until_ms)

    def _answer(self, document: Document, keys: VaultKeys, name: str, version: VersionRecord) -> SecretAnswer:
        record = document.secrets[name]
        graces_ms = self._core.graces_until_ms
        about = metadata(name, record, graces_ms)
        value = keys.open(name, version)
        return SecretAnswer(
            name=name,
            version=version.version,
            kid=version.kid,
            type=about.type,
            status=about.status,
            rotation=about.rotation,
            created_at=rfc3339(version.created_at),
            expires_at=about.expires_at,
            previous=about.previous if version is record.current else previous(record, graces_ms, version.version),
            generation=about.generation,
            pending=about.pending,
            upcoming=about.upcoming if version is record.current else UNSET,
            value=delivered(value, version.encoding),
            encoding=version.encoding,
        )

    async def _ready(self) -> None:
        """Return when the vault may be read. Raises Problem `vault-unavailable`, `audit-unavailable`.

        A change that only waits for its line, since the log could not be written, comes before anything that is read.
        """
        core = self._core
        core.serving()
        if core.committer.unfinished:
            await core.committer.settle()

    async def _audit_read(
        self,
        caller: Caller,
        document: Document,
        name: str,
        version: VersionRecord | None,
        outcome: str,
        *,
        head: bool,
    ) -> None:
        known = name if name in document.secrets or name in document.tombstones else None
        superseded = version is not None and version is not document.secrets[name].current
        kind, action = ("secret.listed", "head") if head else ("secret.read", "read")
        await self._audit(self._access(kind, caller, action, known, version, outcome, superseded=superseded))

    async def _audit(self, entry: Entry) -> None:
        await keep_reserve(self._core.reserve)
        try:
            await self._core.log.append(entry)
        except AuditWriteError as error:
            raise audit_unavailable(error) from error

    @staticmethod
    def _access(
        kind: str,
        caller: Caller,
        action: str,
        name: str | None,
        version: VersionRecord | None,
        outcome: str,
        *,
        superseded: bool = False,
    ) -> Entry:
        accessed = Accessed(
            client=caller.client,
            instance=caller.instance,
            auth=caller.auth,
            action=action,
            name=name,
            kid=None if version is None else version.kid,
            version=None if version is None else version.version,
            superseded=superseded,
            outcome=outcome,
            reason=None,
            peer=caller.peer,
            request_id=caller.request_id,
        )
        return Entry(kind, name, accessed.data())

"""Many secrets in one commit: a migration is there as a whole, or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from msgspec import UnsetType

from secretsd.auth import Caller
from secretsd.crypto.sensitive import Sensitive
from secretsd.errors import Problem
from secretsd.model import BatchEntry, CreateSecrets, Encoding, SecretList
from secretsd.policy import SecretSettings, decide
from secretsd.rotation.announce import Cause
from secretsd.service.answers import Answered
from secretsd.service.changes import Changes
from secretsd.service.commits import Draft, joined
from secretsd.service.placed import placed
from secretsd.service.values import grace_asked, supplied, wishes
from secretsd.service.writes import Writes, first_value
from secretsd.vault.document import Document

_FOR_NEW_ONES: Final = ("type", "rotation", "rotation_period", "rotation_days")


@dataclass(frozen=True, slots=True)
class _New:
    """What a new secret becomes, decided before the commit."""

    settings: SecretSettings
    value: tuple[Sensitive, Encoding]


class Batches(Writes):
    """The calls of `Writes`, and the one that makes many secrets."""

    async def create_all(
        self, caller: Caller, body: CreateSecrets, *, idempotency_key: str | None
    ) -> Answered[SecretList]:
        """Make the new secrets and the new versions that `body` asks for, all of them or none.

        Raises Problem `exists`, `not-found`, `precondition-failed`, `value-required`; its detail begins with the
        entry's place, as `secrets[3]`, and never names it.
        """
        core = self._core
        core.serving()
        entries = body.secrets
        if len({entry.name for entry in entries}) < len(entries):
            raise Problem("invalid-request", "secrets: a name stands there twice; give each once.")
        decided: list[_New | None] = []
        for place, entry in enumerate(entries):
            with placed(f"secrets[{place}]"):
                await core.gate.authorise(caller, "write", "create_all", entry.name)
                decided.append(self._decided(entry))
        cause = Cause(caller.client)

        def build(document: Document, generation: int) -> Draft:
            now_ms = core.clock.now_ms()
            drafts: list[Draft] = []
            for place, (entry, new) in enumerate(zip(entries, decided, strict=True)):
                with placed(f"secrets[{place}]"):
                    drafts.append(self._draft(document, generation, entry, new, cause, now_ms))
            return joined(drafts)

        carried = await self._commit(caller, "create_all", "", body, idempotency_key, build)
        settled = await self._settled([entry.name for entry in entries], carried)
        return Answered(SecretList(secrets=settled.value), settled.position)

    def _decided(self, entry: BatchEntry) -> _New | None:
        """Return what a new secret becomes; None for a new version, which its secret's record decides."""
        if isinstance(entry.replaces, UnsetType):
            rule = self._core.policy.rule_for(entry.name)
            settings = decide(rule, entry, self._core.config.security)
            return _New(settings, first_value(entry, settings.type, rule))
        if any(not isinstance(getattr(entry, member), UnsetType) for member in _FOR_NEW_ONES):
            raise Problem("invalid-request", f"{', '.join(_FOR_NEW_ONES)}: for new secrets; leave them out to replace.")
        if isinstance(entry.value, UnsetType):
            raise Problem("value-required", "A new version needs its value; POST /rotate generates one.")
        return None

    def _draft(
        self, document: Document, generation: int, entry: BatchEntry, new: _New | None, cause: Cause, now_ms: int
    ) -> Draft:
        changes: Changes = self._changes()
        if new is not None:
            return changes.create(
                document, generation, entry.name, new.value, new.settings, wishes(entry), cause, now_ms
            )
        record = self._existing(document, entry.name)
        if entry.replaces != record.current.kid:
            raise Problem("precondition-failed", "Another version is current now: read it, then decide again.")
        value = supplied(str(entry.value), entry.encoding, record.type), entry.encoding
        grace = grace_asked(entry.grace_period, entry.grace_days, self._settings(entry.name, record))
        return changes.renew(document, generation, {entry.name: value}, {entry.name: grace}, "updated", cause, now_ms)

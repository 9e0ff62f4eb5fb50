"""What is changed: authorise, decide, commit. The change's own event is its audit line."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Final

from msgspec import UNSET, Struct, UnsetType

from secretsd.auth import Caller
from secretsd.crypto.sensitive import Sensitive
from secretsd.errors import Problem
from secretsd.model import (
    CreateSecret,
    Encoding,
    Metadata,
    PutSecret,
    RestoreRequest,
    Rotated,
    RotateRequest,
    SecretType,
    ValueIn,
    is_name,
)
from secretsd.policy import SecretRule, SecretSettings, decide
from secretsd.rotation.announce import Cause
from secretsd.rotation.generate import generate
from secretsd.service.answers import Answered, Selector
from secretsd.service.changes import Changes
from secretsd.service.commits import Build, Draft, in_slices, joined
from secretsd.service.convergence import laggards
from secretsd.service.core import Core
from secretsd.service.departures import Value, called_off
from secretsd.service.history import readable_version
from secretsd.service.outcome import outcome
from secretsd.service.placed import placed
from secretsd.service.reasons import held_values, reason_given, refuse_values
from secretsd.service.receipts import Carried, Keyed
from secretsd.service.values import grace_asked, supplied, wishes
from secretsd.vault.document import Document, Receipt, SecretRecord

SETTLE_SECONDS: Final = 10.0
"""How long a request waits for a rotation to reach the other end, before it is answered as accepted."""


class _Repeated(Exception):
    """The change was made by an earlier request with the same Idempotency-Key."""

    def __init__(self, receipt: Receipt) -> None:
        super().__init__()
        self.receipt = receipt


class Writes:
    """Every call that changes secrets."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.until_settled: Callable[[Iterable[str], float], Awaitable[None]] = _at_once
        """Waits for rotations that are under way to come to something, for at most so many seconds."""

    async def create(self, caller: Caller, body: CreateSecret, *, idempotency_key: str | None) -> Answered[Metadata]:
        """Make a secret, of the value given or of a generated one. Raises Problem `exists`, `value-required`."""
        core = self._core
        core.serving()
        await core.gate.authorise(caller, "write", "create", body.name)
        rule = core.policy.rule_for(body.name)
        settings = decide(rule, body, core.config.security)
        wished, value = wishes(body), first_value(body, settings.type, rule)
        cause = Cause(caller.client)

        def build(document: Document, generation: int) -> Draft:
            now_ms = core.clock.now_ms()
            return self._changes().create(document, generation, body.name, value, settings, wished, cause, now_ms)

        return await self._one(caller, "create", body.name, body, idempotency_key, build)

    async def update(
        self, caller: Caller, name: str, body: PutSecret, *, if_match: str | None, idempotency_key: str | None
    ) -> Answered[Metadata]:
        """Make a new version of a given value; `if_match` is the kid that must be current. Raises `not-found`."""
        core = self._core
        core.serving()
        await core.gate.authorise(caller, "write", "update", name)
        cause = Cause(caller.client, reason_given(body.reason), body.urgent)

        def build(document: Document, generation: int) -> Draft:
            record = self._existing(document, name)
            if if_match not in {None, "*", record.current.kid}:
                raise Problem("precondition-failed", "Another version is current now: read it, then decide again.")
            value = supplied(body.value, body.encoding, record.type), body.encoding
            self._keep_out(cause.reason, caller, name, record, value)
            grace = grace_asked(body.grace_period, body.grace_days, self._settings(name, record))
            now_ms = core.clock.now_ms()
            return self._changes().renew(document, generation, {name: value}, {name: grace}, "updated", cause, now_ms)

        return await self._one(caller, "update", name, body, idempotency_key, build, condition=if_match)

    async def rotate(self, caller: Caller, body: RotateRequest, *, idempotency_key: str | None) -> Answered[Rotated]:
        """Make new versions of all names or of none, in one commit. Raises `not-found`, `value-required`.

        Where there are several names the detail of a refusal begins with the place of the one that it is about.
        """
        core = self._core
        core.serving()
        names = {name: place for place, name in enumerate(body.names)}
        if len(names) != len(body.names):
            raise Problem("invalid-request", "names: a name stands there twice; give each once.")
        if not names.keys() >= body.values.keys():
            raise Problem("invalid-request", "values: a name that isn't in names; give values for names that rotate.")

        def at(name: str) -> AbstractContextManager[None]:
            return placed(f"names[{names[name]}]") if len(names) > 1 else nullcontext()

        for name in names:
            with at(name):
                await core.gate.authorise(caller, "rotate", "rotate", name)
                if name in body.values:
                    await core.gate.authorise(caller, "write", "rotate", name)
        cause = Cause(caller.client, reason_given(body.reason), body.urgent)

        async def build(document: Document, generation: int) -> Draft:
            changes, now_ms = self._changes(), core.clock.now_ms()

            def draft(name: str) -> Draft:
                with at(name):
                    record = self._existing(document, name)
                    value: Value | None = _given(body.values[name], record) if name in body.values else None
                    self._keep_out(cause.reason, caller, name, record, value)
                    grace = grace_asked(body.grace_period, body.grace_days, self._settings(name, record))
                    return changes.renew(document, generation, {name: value}, {name: grace}, "rotated", cause, now_ms)

            return await in_slices(names, lambda part: joined(map(draft, part)))

        carried = await self._commit(caller, "rotate", "", body, idempotency_key, build)
        rotated = await self._settled(list(names), carried)
        return Answered(Rotated(rotated=rotated.value), rotated.position)

    async def restore(
        self, caller: Caller, name: str, body: RestoreRequest, *, idempotency_key: str | None
    ) -> Answered[Metadata]:
        """Make the value of a version in grace the current one again, as a new version. Raises `version-not-found`."""
        core = self._core
        core.serving()
        await core.gate.authorise(caller, "rotate", "restore", name)
        reason = reason_given(body.reason)
        cause = Cause(caller.client, reason or f"version {body.version} restored")

        def build(document: Document, generation: int) -> Draft:
            record = self._existing(document, name)
            if body.version == record.current.version:
                raise Problem("invalid-request", "version: it is the current one already; name a version in grace.")
            self._keep_out(reason, caller, name, record, None)
            now_ms = core.clock.now_ms()
            version = readable_version(record, Selector(version=body.version), core.graces_until_ms)
            value = core.vault.open(name, version), version.encoding
            return self._changes().renew(document, generation, {name: value}, {name: UNSET}, "rotated", cause, now_ms)

        return await self._one(caller, "restore", name, body, idempotency_key, build)

    async def cancel(self, caller: Caller, name: str, *, idempotency_key: str | None) -> Answered[Metadata]:
        """Give up a rotation: the other end takes the old value again, or is not tidied up. Raises `not-found`."""
        core = self._core
        core.serving()
        await core.gate.authorise(caller, "rotate", "cancel", name)

        def build(document: Document, generation: int) -> Draft:
            record = self._existing(document, name)
            if record.under_way is None:
                raise Problem("not-found", "No rotation of this secret is under way.")
            announcer, now_ms = self._changes().announcer(document), core.clock.now_ms()
            after, events = called_off(announcer, name, record, caller.client, now_ms, generation)
            return Draft(events, {name: after}, {})

        return await self._one(caller, "cancel", name, None, idempotency_key, build)

    async def delete(self, caller: Caller, name: str, *, idempotency_key: str | None) -> Answered[None]:
        """Destroy a secret's values and leave its tombstone. Raises `not-found`."""
        core = self._core
        core.serving()
        await core.gate.authorise(caller, "delete", "delete", name)

        def build(document: Document, generation: int) -> Draft:
            self._existing(document, name)
            return self._changes().delete(document, generation, name, Cause(caller.client))

        carried = await self._commit(caller, "delete", name, None, idempotency_key, build)
        return Answered(None, carried.document.position)

    async def _one(
        self,
        caller: Caller,
        action: str,
        name: str,
        body: Struct | None,
        idempotency_key: str | None,
        build: Build,
        *,
        condition: str | None = None,
    ) -> Answered[Metadata]:
        carried = await self._commit(caller, action, name, body, idempotency_key, build, condition=condition)
        settled = await self._settled([name], carried)
        return Answered(settled.value[0], settled.position)

    async def _settled(self, names: Sequence[str], carried: Carried) -> Answered[list[Metadata]]:
        """Return the metadata of what a request made once that came to something.

        Raises Problem `not-found`, `version-not-found`.
        """
        await self.until_settled(names, SETTLE_SECONDS)
        document = self._core.document
        return Answered(outcome(names, carried, document, self._core.graces_until_ms), document.position)

    async def _commit(
        self,
        caller: Caller,
        action: str,
        name: str,
        body: Struct | None,
        key: str | None,
        build: Build,
        *,
        condition: str | None = None,
    ) -> Carried:
        """Carry a change through, unless the same request was answered before."""
        core = self._core
        keyed = None
        if key is not None:
            parts = (action, name) if condition is None else (action, name, condition)
            keyed = Keyed.of(core.vault.fingerprint_key, caller.client, key, parts, body, core.clock.now_ms())

        def once(document: Document, generation: int) -> Draft | Awaitable[Draft]:
            receipt = None if keyed is None else keyed.answered(document)
            if receipt is not None:
                raise _Repeated(receipt)
            return build(document, generation)

        try:
            return Carried((await core.committer.commit(once, keyed)).document)
        except _Repeated as repeated:
            return Carried(core.document, repeated.receipt)
        except Problem as problem:
            problem.position = problem.position or core.document.position
            raise

    def _changes(self) -> Changes:
        core = self._core
        return Changes(core.vault, core.policy, core.config, partial(laggards, core))

    def _settings(self, name: str, record: SecretRecord) -> SecretSettings:
        return self._changes().settings(name, record)

    @staticmethod
    def _existing(document: Document, name: str) -> SecretRecord:
        record = document.secrets.get(name)
        if record is None:
            if not is_name(name):
                raise Problem(
                    "invalid-request",
                    "A secret's name has 1 to 128 letters, digits, dots, underscores and hyphens, and begins with a "
                    "letter or digit.",
                    status=400,
                )
            raise Problem("not-found", "No secret has this name; POST /secret makes one, GET /secrets lists them.")
        return record

    def _keep_out(
        self, reason: str | None, caller: Caller, name: str, record: SecretRecord, value: Value | None
    ) -> None:
        """Return where the reason holds neither the value that is given nor one that is kept of the secret.

        Raises Problem `invalid-request`.
        """
        if reason is not None:
            given = [] if value is None else [value[0]]
            refuse_values(reason, [*given, *held_values(self._core, caller, name, record)])


def first_value(body: CreateSecret, kind: SecretType, rule: SecretRule) -> tuple[Sensitive, Encoding]:
    """Return the value of a new secret: the one given, or a generated one. Raises Problem `value-required`."""
    if not isinstance(body.value, UnsetType):
        return supplied(body.value, body.encoding, kind), body.encoding
    if rule.rotator is not None:
        raise Problem(
            "value-required",
            "Its other end has a value already, and a rotator keeps the two the same: send the one that is in force "
            "there. POST /rotate then makes a new one.",
        )
    if kind == "external":
        raise Problem(
            "value-required", "An external secret is issued elsewhere: get its value there and send it as value."
        )
    return generate(kind), "utf-8"


def _given(value: str | ValueIn, record: SecretRecord) -> tuple[Sensitive, Encoding]:
    if isinstance(value, str):
        return supplied(value, "utf-8", record.type), "utf-8"
    return supplied(value.value, value.encoding, record.type), value.encoding


async def _at_once(names: Iterable[str], seconds: float) -> None:
    """Wait for nothing: nobody carries rotations to another end."""
    del names, seconds

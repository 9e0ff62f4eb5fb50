"""Who has which version: asked for by operators, told by clients that say what they use (docs/consumers.md)."""

from __future__ import annotations

from msgspec import UnsetType
from secretsd_bus import rfc3339

from secretsd.auth import Caller
from secretsd.consumers.sightings import ACKNOWLEDGED, consumer_key
from secretsd.consumers.standing import Standing, lagging
from secretsd.errors import Problem
from secretsd.model import AcknowledgedVersion, AcknowledgeRequest, Consumer, Consumers
from secretsd.rotation.announce import previous
from secretsd.service.answers import Answered, Selector
from secretsd.service.convergence import is_complete, standing
from secretsd.service.reads import Reads


class ConsumerCalls(Reads):
    """The calls of `Reads`, and those about consumers."""

    async def consumers(self, caller: Caller, name: str) -> Answered[Consumers]:
        """Return who has which version of a secret. Raises Problem `forbidden`, `not-found`.

        For who may rotate the secret, and has to know whom that reaches, or may read the audit log, which tells it too.
        """
        core = self._core
        await self._ready()
        if not core.policy.may(caller.client, "audit"):
            await core.gate.authorise(caller, "rotate", "consumers", name)
        document, now_ms = core.document, core.clock.now_ms()
        record = document.secrets.get(name)
        known = name if record is not None or name in document.tombstones else None
        outcome = "ok" if record is not None else "not-found"
        await self._audit(self._access("secret.listed", caller, "consumers", known, None, outcome))
        if record is None:
            raise Problem("not-found", "No secret has this name; GET /secrets lists them.", position=document.position)
        found = standing(core, name, record)
        late = lagging(record, found, now_ms)
        answer = Consumers(
            name=name,
            version=record.current.version,
            kid=record.current.kid,
            current_since=rfc3339(record.current.created_at),
            previous=previous(record, core.graces_until_ms),
            complete=is_complete(core, record),
            grace="until-converged" if core.policy.rule_for(name).converges else "period",
            consumers=[_worded(one, lags=one in late) for one in found],
        )
        return Answered(answer, document.position)

    async def acknowledge(self, caller: Caller, name: str, body: AcknowledgeRequest) -> Answered[AcknowledgedVersion]:
        """Take in that the caller uses a version that is current or in grace; said again it leaves no line.

        Raises Problem `forbidden`, `not-found`, `version-not-found`, `invalid-request`, `audit-unavailable`.
        """
        core = self._core
        await self._ready()
        await core.gate.authorise(caller, "read", "acknowledge", name)
        selector = _selector(body)
        document = core.document
        try:
            version = self._found(document, name, selector, None)
        except Problem as problem:
            problem.position = document.position
            raise
        current = version is document.secrets[name].current
        sighting = core.follower.sightings.of(name).get(consumer_key(caller.client, caller.instance))
        known = None if sighting is None else sighting.acknowledged
        if known is None or (known.kid != version.kid and (current or known.version < version.version)):
            await self._audit(
                self._access(ACKNOWLEDGED, caller, "acknowledge", name, version, "ok", superseded=not current)
            )
        return Answered(
            AcknowledgedVersion(name=name, version=version.version, kid=version.kid, current=current),
            document.position,
        )


def _selector(body: AcknowledgeRequest) -> Selector:
    version = None if isinstance(body.version, UnsetType) else body.version
    kid = None if isinstance(body.kid, UnsetType) else body.kid
    if (version is None) == (kid is None):
        raise Problem("invalid-request", "version or kid: name the version that is in use by one of the two.")
    return Selector(version=version, kid=kid)


def _worded(one: Standing, *, lags: bool) -> Consumer:
    client, _, instance = one.key.partition("/")
    read, acknowledged = one.sighting.read, one.sighting.acknowledged
    return Consumer(
        client=client,
        instance=instance or None,
        state=one.state,
        version=None if one.using is None else one.using.version,
        kid=None if one.using is None else one.using.kid,
        read_at=None if read is None else read.at,
        acknowledged_version=None if acknowledged is None else acknowledged.version,
        acknowledged_at=None if acknowledged is None else acknowledged.at,
        seen_at=one.seen_at,
        live=one.live,
        counts=one.counts,
        lags=lags,
    )

"""Who may: identification, authorisation, and the audit of refusals."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from secretsd.audit.log import AuditLog
from secretsd.auth import Caller, Claims, identify
from secretsd.clock import Clock
from secretsd.config import Config
from secretsd.errors import AuditWriteError, Problem
from secretsd.metrics import Metrics
from secretsd.model import Capability
from secretsd.policy import Policy
from secretsd.reserve import SPENT, Reserve
from secretsd.service.refusals import FOLD_SECONDS, Brake, Refusal, RefusalFolder, peer_group
from secretsd.vault.document import Document

Action = str


def audit_unavailable(error: AuditWriteError) -> Problem:
    """Return the answer where a line could not be made durable: nothing is released."""
    return Problem(
        "audit-unavailable",
        f"Nothing was released, because it could not be audited: {error}. Free some space or repair the file system.",
        headers={"Retry-After": "5"},
    )


async def keep_reserve(reserve: Reserve) -> None:
    """Return while there is room for lines that are no changes. Raises Problem `audit-unavailable`.

    Once the reserve was given up, what it freed is for an operator's changes until it can be taken back.
    """
    if reserve.spent:
        await asyncio.to_thread(reserve.take)
    if reserve.spent:
        raise audit_unavailable(AuditWriteError(SPENT))


class Gate:
    """Lets callers through, or refuses and says so in the audit log."""

    def __init__(
        self,
        config: Config,
        policy: Policy,
        log: AuditLog,
        clock: Clock,
        metrics: Metrics,
        document: Callable[[], Document],
        reserve: Reserve,
    ) -> None:
        self.policy = policy
        self._config = config
        self._log = log
        self._clock = clock
        self._metrics = metrics
        self._document = document
        self._reserve = reserve
        self._folder = RefusalFolder()
        self._brake = Brake()
        self._flusher: asyncio.Task[None] | None = None

    async def identify(self, claims: Claims, action: Action, name: str | None) -> Caller:
        """Return the proven caller. Raises Problem `missing-client`, `unknown-client` or `bad-credential`, slowly."""
        try:
            return identify(
                claims,
                self.policy,
                require_header=self._config.security.require_client_id_header,
                now_ms=self._clock.now_ms(),
            )
        except Problem as problem:
            await self._failed(claims, action, name, problem)
            raise

    async def authorise(self, caller: Caller, capability: Capability, action: Action, name: str | None = None) -> None:
        """Return when the policy allows it. Raises Problem `forbidden`, alike for names that exist and that don't."""
        if self.policy.may(caller.client, capability, name):
            return
        document = self._document()
        refusal = Refusal(
            "access.denied",
            caller.client,
            caller.auth,
            action,
            self._known(name),
            "not allowed by policy",
            caller.peer,
        )
        await self._record(refusal, caller.request_id)
        if name is None:
            detail = f"The policy doesn't give this client the right {capability}: add it to the client's can"
        else:
            detail = (
                f"The policy doesn't let this client {capability} this secret: the name belongs under the client's "
                f"allow (and not its deny), {capability} under its can"
            )
        raise Problem("forbidden", f"{detail}, in policy.yaml; then reload.", position=document.position)

    async def refuse_foreign(self, claims: Claims, action: Action, reason: str) -> None:
        """Write the line of a request that came from elsewhere: a browser page, a proxy, another host."""
        client = claims.client if claims.client in self.policy.clients else None
        await self._record(Refusal("access.denied", client, None, action, None, reason, claims.peer), claims.request_id)

    def _known(self, name: str | None) -> str | None:
        """Return `name` if a secret has or had it: what else was asked for may be a value in the wrong place."""
        document = self._document()
        return name if name in document.secrets or name in document.tombstones else None

    async def flush(self) -> None:
        """Write the lines of the refusals counted so far."""
        folded = self._folder.drain()
        if not folded:
            return
        try:
            await self._log.append(*(refusal.entry(count=count, request_id=None) for refusal, count in folded.items()))
        except AuditWriteError:
            self._folder.put_back(folded)
            raise

    async def _failed(self, claims: Claims, action: Action, name: str | None, problem: Problem) -> None:
        client = claims.client if claims.client in self.policy.clients else None
        await self._record(
            Refusal("access.failed", client, None, action, self._known(name), problem.slug, claims.peer),
            claims.request_id,
        )
        peer = f"{peer_group(claims.peer)} {claims.peer_uid}"
        delay = self._brake.failed(peer, self._clock.elapsed_ms() / 1000)
        if delay == 0:
            return
        if not self._brake.enter():
            raise Problem(
                "too-many-requests",
                "Too many wrong credentials at once: correct the client's token before asking again.",
                headers={"Retry-After": str(int(delay) + 1)},
            )
        try:
            await asyncio.sleep(delay)
        finally:
            self._brake.leave()

    async def _record(self, refusal: Refusal, request_id: str) -> None:
        self._metrics.refusals.labels(refusal.type.removeprefix("access.")).inc()
        await keep_reserve(self._reserve)
        if self._folder.take(refusal, self._clock.elapsed_ms() / 1000):
            try:
                await self._log.append(refusal.entry(count=1, request_id=request_id))
            except AuditWriteError as error:
                raise audit_unavailable(error) from error
        elif self._flusher is None or self._flusher.done():
            self._flusher = asyncio.get_running_loop().create_task(self._flush_later())

    async def _flush_later(self) -> None:
        await asyncio.sleep(FOLD_SECONDS)
        # What can't be written now is counted on; the next refusal tries again.
        with contextlib.suppress(AuditWriteError):
            await self.flush()

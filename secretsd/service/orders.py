"""What a step of a rotator is given, and how it is run: with a time limit, and with nothing secret in what it says."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from secretsd_bus import Unchained, rfc3339

from secretsd.crypto.sensitive import Sensitive
from secretsd.errors import AuditWriteError
from secretsd.rotation.announce import clean_reason
from secretsd.rotation.pending import Fault
from secretsd.rotators import Order, Refused, Retryable, RotatorError, RotatorRule
from secretsd.rotators.scrub import scrubbed
from secretsd.service.core import Core
from secretsd.service.ownuse import own_read
from secretsd.vault.document import Pending, SecretRecord
from secretsd.vault.keys import new_id

Method = Literal["set", "test", "rollback", "finish"]
NOTHING: Final = Sensitive(b"")


@dataclass(slots=True)
class Errand:
    """One step of one rotation: its order, and every value that it came to know."""

    order: Order
    rule: RotatorRule
    known: list[Sensitive] = field(default_factory=list)
    dropped: bool = False
    """Whether its rotation is no longer under way, as the secret was deleted."""
    _way: asyncio.Timeout | None = field(default=None, init=False)
    """The limit of the method that runs, where that brings the new value."""

    def drop(self) -> None:
        """End what brings the new value, now; what puts the old one back goes on."""
        self.dropped = True
        if self._way is not None and not self._way.expired():
            self._way.reschedule(0)

    async def run(self, method: Method, *, reverse: bool = False) -> Fault | None:
        """Run a method of the rotator, with `reverse` for the old value; return why it failed, None if it didn't."""
        order = self.order.reversed() if reverse else self.order
        said: str | None = None
        final = False
        limit = asyncio.timeout(self.rule.timeout_ms / 1000)
        self._way = limit if method in {"set", "test"} and not reverse else None
        try:
            async with limit:
                await getattr(self.rule.build(), method)(order)
        except RotatorError as error:
            said, final = error.reason, isinstance(error, Refused)
        except BaseException as error:  # foreign code can raise SystemExit too, and anything may be in the text
            if _meant_for_us(error):
                raise
            late = isinstance(error, TimeoutError) and limit.expired()
            seconds = self.rule.timeout_ms // 1000
            said = f"no answer within {seconds} s" if late else f"an unforeseen {type(error).__name__} in the rotator"
        finally:
            self._way = None
        if said is None:
            return None
        return Fault(clean_reason(f"{method}: {scrubbed(said, self.known)}") or method, final)


def _meant_for_us(error: BaseException) -> bool:
    """Tell whether the daemon itself is to end, or the step's task; a rotator's own task may be cancelled as well."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is None or task.cancelling() > 0
    return isinstance(error, KeyboardInterrupt)


class Orders:
    """Makes errands. Signs with the key in force, under an id of this daemon's run."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._sealer = Unchained(
            log_id=new_id(), node=core.config.bus.node, key=core.event_keys.current, session=core.bus.session
        )

    def errand(self, name: str, record: SecretRecord, pending: Pending, rule: RotatorRule) -> Errand:
        """Return the errand of the next step of the rotation under way."""
        vault = self._core.vault
        new = vault.open(name, pending.version)
        before = record.current if pending.step != "finish" else next(iter(record.in_grace), None)
        old = NOTHING if before is None else vault.open(name, before)
        known = [new, old]

        async def read(other: str) -> Sensitive:
            value = await self._read(name, rule, other)
            known.append(value)
            return value

        order = Order(
            name=name,
            token=pending.token,
            version=pending.version.version,
            new=new,
            old=old,
            read=read,
            sign=lambda kind, data: self._sign(name, kind, data),
        )
        return Errand(order, rule, known)

    async def _read(self, name: str, rule: RotatorRule, other: str) -> Sensitive:
        """Return the current value of a secret that the rule's settings name; its audit line comes first."""
        core = self._core
        if other not in rule.config.reads():
            raise Refused(f"the rotator asked for {other}, which its settings don't name as a secret that it reads")
        document, keys = core.document, core.vault.keys
        record = document.secrets.get(other)
        if record is None:
            raise Refused(f"there is no secret {other}, which the rotator's settings name: make it")
        line = own_read(
            other, record.current, current=True, action="rotate", reason=clean_reason(f"rotation of {name}")
        )
        try:
            await core.log.append(line)
        except AuditWriteError as error:
            raise Retryable("a secret that the rotator reads could not be audited") from error
        return keys.open(other, record.current)

    def _sign(self, name: str, kind: str, data: Mapping[str, Any]) -> bytes:
        self._sealer.key = self._core.event_keys.current
        return self._sealer.seal(kind, name, dict(data), rfc3339(self._core.clock.now_ms())).raw

"""What a rotator is: the steps that bring a new value to the other end, each safe to repeat.

A rotator keeps no state between steps: a restart of the daemon comes between any two of them. Whatever else a rotator
raises than RotatorError counts as Retryable, and only its class is told.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Generic, TypeVar

from msgspec import Meta, Struct

from secretsd.crypto.sensitive import Sensitive
from secretsd.model import SecretName as SecretName  # noqa: PLC0414 — part of what a rotator's author imports from here

Seconds = Annotated[int, Meta(ge=1, le=3600)]


class RotatorConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What stands under `rotator:` besides `kind`, `timeout` and `retries`; each kind has its own members.

    A `__post_init__` that raises ValueError refuses the policy with that text, so it says what is allowed.
    """

    def reads(self) -> tuple[str, ...]:
        """Return the other secrets that the steps may ask for; an `Order` gives out no others."""
        return ()

    def check_own(self, secret: str) -> None:
        """Return when `secret`, one of `reads`, may be the rotated one itself. Raises ValueError, saying what may."""
        del secret

    def own_reads(self) -> tuple[str, ...]:
        """Return those of `reads` that hold the password which this rule rotates: no other rule may have them."""
        return ()


ConfigT = TypeVar("ConfigT", bound=RotatorConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Bring `new` to the other end, where `old` is in force.

    `token` is the rotation's own: the same for every repetition of a step, also after a restart, and never used for
    another value. `version` is the number that `new` gets in the vault.
    """

    name: str
    token: str
    version: int
    new: Sensitive
    old: Sensitive
    read: Callable[[str], Awaitable[Sensitive]]
    """Gives the current value of another secret, one that the config's `reads` names. It leaves an audit line."""
    sign: Callable[[str, Mapping[str, Any]], bytes]
    """Gives the bytes of a CloudEvent of a type (without its prefix) and `data`, signed with the daemon's key like its
    events. It is part of no chain and never goes to the bus."""

    def reversed(self) -> Order:
        """Return the order that puts the old value back."""
        return replace(self, new=self.old, old=self.new)


class Rotator(ABC, Generic[ConfigT]):
    """One rule's way to the other end.

    Made anew for each step, on the daemon's event loop, which a step must not block: what waits for anything does so
    with `await`, or in `asyncio.to_thread`. A step that exceeds the rule's `timeout` is cancelled, and counts as
    Retryable. In a thread that can't be cancelled, so calls made there have a limit of their own below it.
    """

    config_type: ClassVar[type[RotatorConfig]]
    """What the rule's members are parsed into."""

    def __init__(self, config: ConfigT) -> None:
        self.config = config

    def shape(self, generated: Sensitive, current: Sensitive) -> Sensitive:
        """Return the value to rotate to, made from a generated one. Pure; raises Refused where it can't be.

        A rotator overrides it where the value is more than a password: a URL, or the name of a user too.
        """
        del current
        return generated

    def check(self, value: Sensitive) -> None:
        """Return when `value`, given by a client, can be brought to the other end. Pure; raises Refused, saying why."""
        del value

    def displaces(self, kept: Sensitive, new: Sensitive) -> bool:
        """Tell whether `kept`, current or in its grace, stops working once the other end takes `new`. Pure.

        A grace then ends when the rotation begins. False where the other end only ever takes one value: such a grace
        is for who reads late, and promises nothing there.
        """
        del kept, new
        return False

    def next_account(self, current: Sensitive) -> str | None:
        """Return whose turn it is after `current`, where several accounts take turns; None with one account. Pure.

        A value that a client gives and that `displaces` the current one is refused with it, unless it is urgent.
        """
        del current
        return None

    @abstractmethod
    async def set(self, order: Order) -> None:
        """Let the other end take `order.new`; done again with the same token it changes nothing more."""

    @abstractmethod
    async def test(self, order: Order) -> None:
        """Use `order.new` at the other end the way a client would; return only when it works."""

    async def rollback(self, order: Order) -> None:
        """Let the other end take `order.old` again, whether or not it ever took `order.new`; safe to repeat."""
        await self.set(order.reversed())

    async def finish(self, order: Order) -> None:
        """Tidy up at the other end once `order.new` is the current version; it stays so if this fails.

        `order.old` is the version before, and empty where that was destroyed already.
        """
        del order

    def finishes(self, *, urgent: bool) -> bool:
        """Tell whether `finish` does anything after a rotation that was urgent, or one that wasn't."""
        del urgent
        return type(self).finish is not Rotator.finish

"""What the service gives back."""

from __future__ import annotations

from typing import Generic, TypeVar

from msgspec import Struct

from secretsd.model import SecretAnswer

T = TypeVar("T")


class Answered(Struct, Generic[T], frozen=True):
    """A value, and the vault's `EPOCH:GENERATION` that it is of."""

    value: T
    position: str


class ReadResult(Struct, frozen=True):
    """A secret; the body is None where the caller has this version already."""

    body: SecretAnswer | None
    kid: str


class KeySet(Struct, frozen=True):
    """A JWK set; who has it may go by it for `max_age_secs`."""

    keys: list[dict[str, str]]
    max_age_secs: int


class Selector(Struct, frozen=True):
    """Which version is meant; none of them: the current one."""

    version: int | None = None
    previous: bool = False
    kid: str | None = None

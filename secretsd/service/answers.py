"""What the service gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from secretsd.model import SecretAnswer

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answered(Generic[T]):
    """A value, and the vault's `EPOCH:GENERATION` that it is of."""

    value: T
    position: str


@dataclass(frozen=True, slots=True)
class ReadResult:
    """A secret; the body is None where the caller has this version already."""

    body: SecretAnswer | None
    kid: str


@dataclass(frozen=True, slots=True)
class Selector:
    """Which version is meant; none of them: the current one."""

    version: int | None = None
    previous: bool = False
    kid: str | None = None

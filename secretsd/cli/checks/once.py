"""What is worked out once, and remembered even if it comes to nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

from secretsd.cli.checks.finding import Skip

T = TypeVar("T")


class Once(Generic[T]):
    """A property that is worked out once, whether it comes to a value or to a reason to skip."""

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self._name = make.__name__
        self.__doc__ = make.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> T | Self:
        if instance is None:
            return self
        known: dict[str, T | Skip] = instance.__dict__.setdefault("_known", {})
        if self._name not in known:
            try:
                known[self._name] = self._make(instance)
            except Skip as skip:
                known[self._name] = skip
        value = known[self._name]
        if isinstance(value, Skip):
            raise Skip(str(value))
        return value

"""A value that must not show up by accident."""

from __future__ import annotations

import hmac
from typing import NoReturn


class Sensitive:
    """Bytes that are secret: `repr` and `str` are redacted, comparison takes constant time, pickling is refused."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """Return the bytes themselves; every call is a place to look at."""
        return self._value

    def __repr__(self) -> str:
        return "Sensitive(redacted)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sensitive):
            return NotImplemented
        return hmac.compare_digest(self._value, other._value)

    __hash__ = None  # type: ignore[assignment]  # a secret is no key of a dict

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret value can't be pickled")

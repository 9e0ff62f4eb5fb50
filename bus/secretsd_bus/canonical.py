"""Canonical JSON (RFC 8785, JCS) of the values that travel here: what is signed, sealed and hashed.

The subset: ASCII keys, strings without control characters, U+007F or lone surrogates, integers below 2^53,
booleans, null, lists and objects of them. In it msgspec's encoder writes the bytes that RFC 8785 asks for, in
a twentieth of the time (a property test holds it to the package `rfc8785`); `jq -cS` writes them too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from secretsd_bus._strict import parse
from secretsd_bus.errors import Refused

JSON: TypeAlias = "Mapping[str, JSON] | Sequence[JSON] | str | int | bool | None"

INTEGER_LIMIT: Final = 2**53
"""Integers stay below this in absolute value: every JSON reader holds them exactly."""

_SIMPLE: Final = frozenset({str, bool, type(None)})

_write: Final = msgspec.json.Encoder(order="sorted").encode

# In the encoder's output a backslash before anything but a quote or a backslash begins a control character.
_ONLY_PLAIN_ESCAPES: Final = re.compile(rb'[^\\]*(?:\\["\\][^\\]*)*')


def encode(value: JSON) -> bytes:
    """Return the canonical bytes of `value`, without a newline.

    Raises ValueError for what is outside the subset; the message never shows the value.
    """
    try:
        _check(value)
    except RecursionError as error:
        raise ValueError("nested too deeply for canonical JSON") from error
    try:
        data = _write(value)
    except UnicodeEncodeError as error:
        # The error of Python's codec would carry the text; ours doesn't.
        raise ValueError(f"a string with a lone surrogate has no canonical form ({error.reason})") from None
    if b"\x7f" in data or (b"\\" in data and _ONLY_PLAIN_ESCAPES.fullmatch(data) is None):
        raise ValueError("a string with a control character has no canonical form here")
    return data


def decode(data: bytes) -> dict[str, Any]:
    """Return the object in `data`, which must be its canonical form.

    Raises Refused: `not-json` for what isn't one JSON object (bad UTF-8, doubled members and nesting over 16
    levels included), `not-canonical` for another spelling or a value outside the subset.
    """
    value = parse(data)
    try:
        canonical = encode(value)
    except ValueError as error:
        raise Refused("not-canonical", str(error)) from error
    if canonical != data:
        raise Refused("not-canonical", "the same content is spelled otherwise")
    return value


def _check(value: object) -> None:
    """Raise ValueError unless `value` holds only the subset's types, not their subclasses; strings are judged later."""
    kind = type(value)
    if kind in _SIMPLE:
        return
    if kind is int and isinstance(value, int):
        if not -INTEGER_LIMIT < value < INTEGER_LIMIT:
            raise ValueError("an integer of 2^53 or more has no canonical form here")
    elif isinstance(value, dict):
        for key, member in value.items():
            if not (type(key) is str and key.isascii()):
                raise ValueError("a key that isn't ASCII text has no canonical form here")
            if type(member) not in _SIMPLE:
                _check(member)
    elif isinstance(value, list):
        for element in value:
            _check(element)
    else:
        raise ValueError(f"a value of type {kind.__name__} has no canonical form here")

"""A strict JSON parser for the readers' side: what parsers disagree about is refused here."""

from __future__ import annotations

import json
import math
from typing import Any, Final, NoReturn

from secretsd_bus.errors import Refused

DEPTH_MOST: Final = 16
"""Levels of objects and arrays, the outermost included."""

_EXACT_DIGITS: Final = 17  # a sign and the 16 digits of 2^53


def parse(data: bytes) -> dict[str, Any]:
    """Return the JSON object in `data`. A number that isn't a short integer comes back as a float.

    Raises Refused("not-json"): bad UTF-8, a byte order mark, no JSON, a doubled member, NaN and its kin,
    more than 16 levels, or something else than an object.
    """
    try:
        value = _decoder.decode(data.decode("utf-8"))
    except (ValueError, RecursionError):
        # Not chained: the parser's error would carry the text it failed on.
        raise Refused("not-json", "not one JSON text in UTF-8") from None
    if not isinstance(value, dict):
        raise Refused("not-json", "not an object")
    if _deeper_than(value, DEPTH_MOST):
        raise Refused("not-json", f"nested over {DEPTH_MOST} levels")
    return value


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a doubled member")
    return members


def _integer(digits: str) -> int | float:
    # Longer ones are out of range anyway, and reading thousands of digits takes quadratic time.
    return int(digits) if len(digits) <= _EXACT_DIGITS else math.inf


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _deeper_than(value: object, levels: int) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    if levels == 0:
        return True
    children = value.values() if isinstance(value, dict) else value
    return any(_deeper_than(child, levels - 1) for child in children)


_decoder = json.JSONDecoder(object_pairs_hook=_members, parse_int=_integer, parse_constant=_constant)

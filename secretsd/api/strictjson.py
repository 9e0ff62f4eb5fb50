"""JSON as it is meant: one reading only, bounded, and nothing of it in an error."""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn

import msgspec

from secretsd.api.problems import unreadable
from secretsd.model import MAX_SAFE_INTEGER

MAX_DEPTH: Final = 16
MAX_CONTAINERS: Final = 100_000
MAX_COMMAS: Final = 200_000
MAX_STRINGS: Final = 400_000
"""More than the largest batch has. What is refused for its shape is refused in time that grows with its length only."""
_BOM: Final = b"\xef\xbb\xbf"
_NOT_BRACKETS: Final = bytes(sorted(set(range(256)) - set(b"[]{}")))
_OPENING: Final = frozenset(b"[{")


class _RefusedError(Exception):
    """What the parser's hooks found; the message is fit to be shown."""


def parse(data: bytes) -> Any:
    """Return the value that `data` holds.

    Raises Problem invalid-request (400) for what isn't one JSON text in UTF-8 with one meaning: doubled
    members, a byte order mark, NaN, lone surrogates, integers of 2^53 and more, depth over 16.
    """
    if not data.strip():
        raise unreadable("The body is empty; send a JSON object.")
    if data.startswith(_BOM):
        raise unreadable("The body begins with a byte order mark; leave it out.")
    _check_shape(data)
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_members,
            parse_int=_integer,
            parse_constant=_constant,
        )
        # Lone surrogates pass json.loads; encoding is what finds them.
        msgspec.json.encode(value)
    except _RefusedError as refused:
        raise unreadable(str(refused)) from None
    except UnicodeDecodeError:
        raise unreadable("The body isn't UTF-8 text.") from None
    except UnicodeEncodeError:
        raise unreadable("A string of the body has half of a surrogate pair; bytes go as base64.") from None
    except json.JSONDecodeError as error:
        raise unreadable(f"The body isn't JSON from line {error.lineno}, column {error.colno} on.") from None
    except (ValueError, RecursionError):
        raise unreadable("The body isn't JSON.") from None
    return value


def _check_shape(data: bytes) -> None:
    """Refuse deep nesting and more parts than any call takes, before a recursive parser sees them."""
    quotes = data.replace(b"\\\\", b"").replace(b'\\"', b"")  # those that begin or end a string are left
    if quotes.count(b'"') > 2 * MAX_STRINGS:
        raise unreadable(f"The body has more than {MAX_STRINGS} strings.")
    outside = b"".join(quotes.split(b'"')[::2])
    if outside.count(b",") > MAX_COMMAS:
        raise unreadable(f"The body has more than {MAX_COMMAS} members and items.")
    brackets = outside.translate(None, _NOT_BRACKETS)
    if len(brackets) > 2 * MAX_CONTAINERS:
        raise unreadable(f"The body has more than {MAX_CONTAINERS} objects and arrays.")
    depth = 0
    for bracket in brackets:
        depth += 1 if bracket in _OPENING else -1
        if depth > MAX_DEPTH:
            raise unreadable(f"The body is nested deeper than {MAX_DEPTH}.")


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _RefusedError("An object of the body has a member twice.")
    return members


def _integer(digits: str) -> int:
    # Sixteen digits and a sign: anything longer is over 2^53 and not worth converting.
    if len(digits) > 17 or abs(number := int(digits)) > MAX_SAFE_INTEGER:
        raise _RefusedError("A number of the body is 2^53 or more.")
    return number


def _constant(_name: str) -> NoReturn:
    raise _RefusedError("The body holds NaN or Infinity, which JSON doesn't have.")

"""From a request's body to a struct. What depends on policy or vault (periods, values) is judged there."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from typing import Final, TypeVar, get_args

import msgspec
from aiohttp.web import BaseRequest, RequestPayloadError

from secretsd.api import strictjson
from secretsd.api.guards import too_large
from secretsd.api.incoming import Incoming
from secretsd.api.problems import invalid, unreadable
from secretsd.model import (
    NAME_PATTERN,
    PATTERN_WORDS,
    BatchEntry,
    CreateSecret,
    CreateSecrets,
    Encoding,
    KeyKind,
    Request,
    RotateRequest,
    Rotation,
    SecretType,
    ValueIn,
    is_name,
)

READ_SECONDS: Final = 30.0
"""How long a body may take to arrive, start to end."""

R = TypeVar("R", bound=Request)

# msgspec's messages can quote what they found (an enum's value, a member's name). Only these forms, which
# name types, limits and members of ours, are passed on.
_SAFE: Final = re.compile(
    r"(?:Expected `[a-z| ]+`(?:, got `[a-z]+`| of length [<>]= \d+| [<>]=? -?\d+)"
    r"|Object missing required field `[a-z_]+`)"
)
_PATTERN: Final = re.compile(r"Expected `str` matching regex '([^']*)'")
_PATH: Final = re.compile(r" - at (?:`(key)` in )?`\$([a-z_.\[\]0-9]*)`\Z")
_CHOICES: Final = {
    "type": get_args(SecretType),
    "key": get_args(KeyKind),
    "rotation": get_args(Rotation),
    "encoding": get_args(Encoding),
}


_PARTS: Final[dict[str, type[Request]]] = {"values": ValueIn, "secrets[": BatchEntry}
"""The structs within bodies, by how the path to one begins."""


async def read(incoming: Incoming, kind: type[R]) -> R:
    """Return the request's body as a `kind`.

    Raises Problem too-large, invalid-request with 400 where it can't be read at all, with 422 where a member
    is wrong. No detail holds anything of the body: a misplaced secret can sit in any member, or be a
    member's name.
    """
    route = incoming.found.route
    data = await _receive(incoming.raw, route.max_body if route is not None else 0)
    return parse(data, kind)


def parse(data: bytes, kind: type[R]) -> R:
    """Return `data` as a `kind`; raises Problem invalid-request, 400 or 422."""
    value = strictjson.parse(data)
    if not isinstance(value, dict):
        raise invalid("The body is a JSON object.")
    try:
        body = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise invalid(explain(str(error), kind)) from None
    # The pattern is the OpenAPI document's too, so it ends in $, which in Python lets a final newline by.
    if not all(map(is_name, _names(body))):
        raise invalid(f"a name: {PATTERN_WORDS[NAME_PATTERN]}.")
    return body


def explain(message: str, kind: type[Request]) -> str:
    """Return a validation message of msgspec in words that quote nothing of what was sent."""
    path = _PATH.search(message)
    place = "the body" if path is None or not path[2] else path[2].lstrip(".")
    if path is not None and path[1]:
        place = f"a key of {place}"
    said = message if path is None else message[: path.start()]
    if said.startswith("Object contains unknown field"):
        within = next((part for start, part in _PARTS.items() if place.startswith(start)), kind)
        return f"{place}: an unknown member; allowed are {', '.join(within.__struct_fields__)}."
    choices = _CHOICES.get(place.rpartition(".")[2])
    if said.startswith("Invalid enum value") and choices is not None:
        return f"{place}: allowed are {', '.join(choices)}."
    pattern = _PATTERN.fullmatch(said)
    if pattern is not None and pattern[1] in PATTERN_WORDS:
        return f"{place}: {PATTERN_WORDS[pattern[1]]}."
    if _SAFE.fullmatch(said):
        return f"{place}: {said[0].lower()}{said[1:]}."
    return f"{place}: not what is allowed there; GET /openapi.json says what is."


def _names(body: Request) -> Iterable[str]:
    if isinstance(body, CreateSecret):
        return (body.name,)
    if isinstance(body, CreateSecrets):
        return (entry.name for entry in body.secrets)
    if isinstance(body, RotateRequest):
        return (*body.names, *body.values)
    return ()


async def _receive(raw: BaseRequest, limit: int) -> bytes:
    if "Expect" in raw.headers and raw.version.minor > 0:
        # The guards have let only 100-continue through; HTTP/1.0 doesn't know it (RFC 9110, 10.1.1). What follows is
        # still the first of the answer.
        await raw.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        raw.writer.output_size = 0
    received = bytearray()
    try:
        async with asyncio.timeout(READ_SECONDS):
            async for chunk in raw.content.iter_any():
                received += chunk
                if len(received) > limit:
                    raise too_large(limit)
    except TimeoutError:
        raise unreadable(f"The body didn't arrive within {READ_SECONDS:.0f} seconds.") from None
    except RequestPayloadError:
        raise unreadable("The body isn't framed as HTTP/1.1 has it.") from None
    except ConnectionError:
        raise unreadable("The connection ended within the body.") from None
    return bytes(received)

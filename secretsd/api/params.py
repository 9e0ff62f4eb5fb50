"""What calls take besides a body: path, query and headers, as the OpenAPI document describes them."""

from __future__ import annotations

from typing import Any, Final

from secretsd.api import queries
from secretsd.api.routing import Parameter
from secretsd.model import MAX_SAFE_INTEGER, NAME_PATTERN


def _integer(least: int, most: int = MAX_SAFE_INTEGER, **more: Any) -> dict[str, Any]:
    return {"type": "integer", "minimum": least, "maximum": most, **more}


NAME: Final = Parameter(
    name="name",
    where="path",
    description="The secret's name",
    schema={"type": "string", "pattern": NAME_PATTERN},
)
IDEMPOTENCY_KEY: Final = Parameter(
    name="Idempotency-Key",
    where="header",
    description="Makes a retry safe: the same key and body answer what the first did",
    schema={"type": "string", "minLength": 1, "maxLength": 200},
)
INSTANCE: Final = Parameter(
    name="X-Jarvis-Instance",
    where="header",
    description="Which of the processes that share the client's name asks; taken at its word",
    schema={"type": "string", "pattern": NAME_PATTERN},
)
IF_NONE_MATCH_SET: Final = Parameter(
    name="If-None-Match",
    where="header",
    description="The ETag of a set in double quotes, or several: 304 where one of them is that of now",
    schema={"type": "string"},
)
SINCE_POSITION: Final = Parameter(
    name="since",
    where="query",
    description="EPOCH:GENERATION, as Vault-Generation has it; without it: all of it",
    schema={"type": "string", "pattern": "^[^:]+:(0|[1-9][0-9]*)$"},
)
DAYS: Final = Parameter(
    name="days",
    where="query",
    description="How far ahead",
    schema=_integer(1, queries.MAX_DAYS, default=queries.DEFAULT_DAYS),
)
PATTERN: Final = Parameter(
    name="secret",
    where="query",
    description="Only of this name, or of those that this glob (* and ?) matches",
    schema={"type": "string", "pattern": "^[A-Za-z0-9*?][A-Za-z0-9._*?-]{0,127}$"},
)
VERSION: Final = Parameter(
    name="version",
    where="query",
    description="A version's number, or `previous`; excludes kid",
    schema={"oneOf": [_integer(1), {"const": "previous"}]},
)
KID: Final = Parameter(
    name="kid",
    where="query",
    description="A version's kid; excludes version",
    schema={"type": "string", "pattern": "^[A-Za-z0-9_-]{16,64}$"},
)
MIN_GENERATION: Final = Parameter(
    name="min_generation",
    where="query",
    description="409 `behind` while the vault hasn't reached this generation",
    schema=_integer(0),
)
IF_NONE_MATCH: Final = Parameter(
    name="If-None-Match",
    where="header",
    description="Kids in double quotes, or *: 304 where one of them is the version asked for",
    schema={"type": "string"},
)
IF_MATCH: Final = Parameter(
    name="If-Match",
    where="header",
    description="The kid, in double quotes, that has to be the current one; else 412",
    schema={"type": "string"},
)
AFTER: Final = Parameter(name="after", where="query", description="Only lines after this sequence", schema=_integer(0))
SINCE_TIME: Final = Parameter(
    name="since",
    where="query",
    description="Begin with the first line of this time or later (RFC 3339) and leave out none that follows",
    schema={"type": "string", "format": "date-time"},
)
LIMIT: Final = Parameter(
    name="limit",
    where="query",
    description="How many lines at most",
    schema=_integer(1, queries.MAX_LINES, default=queries.DEFAULT_LINES),
)

"""Query parameters and conditional headers, as strictly read as bodies."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import parse_qsl

from secretsd.api.incoming import Incoming
from secretsd.api.problems import unreadable
from secretsd.model import MAX_SAFE_INTEGER, NEVER_MS, is_pattern
from secretsd.service import Selector

DEFAULT_LINES: Final = 1000
MAX_LINES: Final = 10_000
DEFAULT_DAYS: Final = 90
MAX_DAYS: Final = 366

CURRENT: Final = Selector()

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_MS: Final = (datetime(1, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)

_NUMBER: Final = re.compile(r"(?:0|[1-9][0-9]{0,15})\Z")
_KID: Final = re.compile(r"[A-Za-z0-9_-]{16,64}\Z")
_POSITION: Final = re.compile(r"[\x21-\x39\x3b-\x7e]{1,128}:(?:0|[1-9][0-9]{0,15})\Z")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)\Z", re.ASCII)
_KEY: Final = re.compile(r"[\x20-\x7e]{1,200}\Z")
_TAG: Final = re.compile(r'"([\x21\x23-\x7e]*)"\Z')
_TAGS: Final = re.compile(r'[ \t]*(?:W/)?"([\x21\x23-\x7e]*)"[ \t]*(?:,|\Z)|[ \t]*,')


def parameters(incoming: Incoming) -> dict[str, str]:
    """Return the query's parameters; raises Problem (400) for an unknown or a doubled one."""
    if not incoming.query:
        return {}
    route = incoming.found.route
    allowed = frozenset[str]() if route is None else route.query_names
    try:
        pairs = parse_qsl(
            incoming.query, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=16
        )
    except ValueError:
        raise unreadable("The query isn't name=value&… in UTF-8, percent-encoded.") from None
    found = dict(pairs)
    if not found.keys() <= allowed:
        knows = f"takes {', '.join(sorted(allowed))}" if allowed else "takes none"
        raise unreadable(f"The query has a parameter that this call doesn't know; it {knows}.")
    if len(found) != len(pairs):
        raise unreadable("The query has a parameter twice.")
    return found


def number(found: dict[str, str], name: str, *, least: int = 0, most: int = MAX_SAFE_INTEGER) -> int | None:
    """Return the parameter as an integer, None where it isn't given; raises Problem (400)."""
    text = found.get(name)
    if text is None:
        return None
    if not _NUMBER.match(text) or not least <= int(text) <= most:
        raise unreadable(f"{name}: an integer from {least} to {most}.")
    return int(text)


def pattern(found: dict[str, str], name: str) -> str | None:
    """Return the parameter as a name or a glob of names, None where it isn't given; raises Problem (400)."""
    text = found.get(name)
    if text is not None and not is_pattern(text):
        raise unreadable(f"{name}: a name, or one with * and ?.")
    return text


def selector(found: dict[str, str]) -> Selector:
    """Return which version `GET /secret/{name}` asks for; raises Problem (400)."""
    if not found:
        return CURRENT
    version, kid = found.get("version"), found.get("kid")
    if version is not None and kid is not None:
        raise unreadable("version and kid exclude each other.")
    if kid is not None:
        if not _KID.match(kid):
            raise unreadable("kid: 16 to 64 of A-Z, a-z, 0-9, _ and -.")
        return Selector(kid=kid)
    if version == "previous":
        return Selector(previous=True)
    if version is not None and not _NUMBER.match(version):
        raise unreadable("version: a version's number, or previous.")
    return Selector(version=number(found, "version", least=1))


def position(found: dict[str, str]) -> str | None:
    """Return `since` of `GET /changes`: EPOCH:GENERATION, or None without one; raises Problem (400)."""
    text = found.get("since")
    if text is not None and not _POSITION.match(text):
        raise unreadable("since: EPOCH:GENERATION, as Vault-Generation has it.")
    return text


def instant(found: dict[str, str], name: str) -> int | None:
    """Return an RFC 3339 time as epoch milliseconds, None where it isn't given; raises Problem (400)."""
    text = found.get(name)
    if text is None:
        return None
    refusal = unreadable(f"{name}: a time like 2026-11-23T17:00:00Z (a + of an offset is written %2B in a query).")
    if not _TIME.match(text):
        raise refusal
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError:
        raise refusal from None
    # Up to the next millisecond, which is what lines have; an offset must not lead out of the years that they have.
    whole = -((_EPOCH - moment) // timedelta(milliseconds=1))
    return max(_FIRST_MS, min(whole, NEVER_MS))


def idempotency_key(incoming: Incoming) -> str | None:
    """Return the Idempotency-Key, None without one; raises Problem (400) for an odd one."""
    key = incoming.headers.get("Idempotency-Key")
    if key is not None and not _KEY.match(key):
        raise unreadable("Idempotency-Key: 1 to 200 printable ASCII characters.")
    return key


def if_match(incoming: Incoming) -> str | None:
    """Return the kid that If-Match names, `*` for any, None without the header.

    Raises Problem (400) for anything but one strong tag: a weak one never matches, of several only one could.
    """
    text = incoming.headers.get("If-Match")
    if text is None or text.strip() == "*":
        return text and "*"
    tag = _TAG.match(text.strip())
    if tag is None:
        raise unreadable("If-Match: one kid in double quotes, as ETag has it, or *.")
    return tag[1]


class NoneMatch:
    """An If-None-Match header: one tag, a list or `*`; weak tags count as strong ones (RFC 9110, 13.1.2)."""

    __slots__ = ("_any", "_kids")

    def __init__(self, kids: frozenset[str], *, any_version: bool) -> None:
        self._kids = kids
        self._any = any_version

    @classmethod
    def of(cls, incoming: Incoming) -> NoneMatch | None:
        """Return the request's condition, None without one; one that can't be read is none, too."""
        texts = incoming.headers.getall("If-None-Match", None)
        if texts is None:
            return None
        text = ", ".join(texts)
        if text.strip() == "*":
            return cls(frozenset(), any_version=True)
        kids, end = set(), 0
        while end < len(text):
            tag = _TAGS.match(text, end)
            if tag is None:
                return None
            if tag[1] is not None:
                kids.add(tag[1])
            end = tag.end()
        return cls(frozenset(kids), any_version=False)

    def __contains__(self, kid: object) -> bool:
        """Tell whether the sender has the version `kid` already."""
        return self._any or kid in self._kids

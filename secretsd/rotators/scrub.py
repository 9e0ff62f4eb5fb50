"""Strikes values out of words that come from elsewhere: an exception's text, a program's output, a server's message."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from secretsd.crypto.sensitive import Sensitive

STRUCK: Final = "[struck out]"
_SHORTEST: Final = 4
"""Shorter parts of a value are left: striking each "a" out of a sentence leaves nothing of it."""
_NO_SECRETS: Final = frozenset({"user", "username", "host", "port", "dbname", "database", "engine"})
"""Members of a value in JSON that tell where it is used, not what it is."""


def scrubbed(text: str, values: Iterable[Sensitive]) -> str:
    """Return `text` without any of `values`, be they whole, quoted, encoded, or their secret parts alone."""
    found = {form for value in values for part in _parts(value) for form in _forms(part)}
    for form in sorted(found, key=len, reverse=True):
        text = text.replace(form, STRUCK)
    return text


def _parts(value: Sensitive) -> set[str]:
    """Return the value and what is secret within it: the password of a URL, the texts of a JSON object."""
    data = value.reveal()
    parts = {base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode(), data.hex()}
    text = data.decode("utf-8", "ignore")
    parts |= {text, *text.splitlines()}
    try:
        password = urlsplit(text).password
    except ValueError:
        password = None
    if password is not None:
        parts |= {password, unquote(password)}
    try:
        members = json.loads(text)
    except (ValueError, RecursionError):
        members = None
    if isinstance(members, dict):
        parts |= {member for name, member in members.items() if isinstance(member, str) and name not in _NO_SECRETS}
    return {part for part in parts if len(part.strip()) >= _SHORTEST} | ({text} if text else set())


def _forms(part: str) -> set[str]:
    return {
        part,
        part.strip() or part,
        quote(part, safe=""),
        json.dumps(part)[1:-1],
        repr(part)[1:-1],
        part.replace("'", "''"),
    }

"""A secret as a template sees it, and the filters that bring a value into another form. Pure."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Callable
from typing import Any, Final

from secretsd_client import Secret


class NotText(ValueError):
    """The value is bytes that are no text."""


class Text(str):
    """A value that is text, and what is known of its version. Its repr is redacted, as of all values here."""

    __slots__ = ("expires_at", "kid", "name", "version")

    name: str
    version: int
    kid: str
    expires_at: str

    def __repr__(self) -> str:
        return f"<secret {self.name}>"


class Binary:
    """A value that is no text: only a filter makes text of it."""

    __slots__ = ("_data", "expires_at", "kid", "name", "version")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.name = ""
        self.version = 0
        self.kid = ""
        self.expires_at = ""

    def __bytes__(self) -> bytes:
        return self._data

    def __repr__(self) -> str:
        return f"<secret {self.name}>"

    def __str__(self) -> str:
        raise NotText(f"{self.name} is bytes, not text: use a filter, {{{{ secret('{self.name}') | b64 }}}}")


def value_of(secret: Secret) -> Text | Binary:
    """Return what `secret("name")` is in a template."""
    made: Text | Binary
    try:
        made = Text(secret.data.decode())
    except UnicodeDecodeError:
        made = Binary(secret.data)
    made.name, made.version, made.kid, made.expires_at = secret.name, secret.version, secret.kid, secret.expires_at
    return made


def _bytes(value: object) -> bytes:
    return bytes(value) if isinstance(value, Binary) else str(value).encode()


def b64(value: object) -> str:
    """Return base64 with padding."""
    return base64.b64encode(_bytes(value)).decode()


def b64decode(value: object) -> str:
    """Return the text that base64 stands for."""
    return base64.b64decode(str(value), validate=True).decode()


def hexadecimal(value: object) -> str:
    """Return lower-case hex digits."""
    return _bytes(value).hex()


def to_json(value: object) -> str:
    """Return JSON; of text a string in double quotes, which most configuration languages take."""
    return json.dumps(value, ensure_ascii=False)


def from_json(value: object) -> Any:
    """Return what the JSON stands for."""
    return json.loads(str(value))


def shell(value: object) -> str:
    """Return one word of a POSIX shell."""
    return shlex.quote(str(value))


FILTERS: Final[dict[str, Callable[..., Any]]] = {
    "b64": b64,
    "b64decode": b64decode,
    "hex": hexadecimal,
    "json": to_json,
    "from_json": from_json,
    "shell": shell,
}
"""What templates have besides Jinja's own."""

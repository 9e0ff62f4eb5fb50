"""What a secret for PostgreSQL looks like: a password, a connection URL, or a JSON object. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from secretsd.crypto.sensitive import Sensitive
from secretsd.rotators.errors import Refused

Form = Literal["password", "url", "json"]
SCHEMES: Final = frozenset({"postgresql", "postgres"})
_USER_MEMBERS: Final = ("username", "user")
"""A JSON value that has the second keeps it; the first is what the tools of clouds write."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the database is, for values that tell it."""

    host: str
    port: int
    database: str
    sslmode: str


@dataclass(frozen=True, slots=True, repr=False)
class Login:
    """A role and its password."""

    role: str
    password: str


def read(value: Sensitive, form: Form, role: str) -> Login:
    """Return the login that `value` holds; a password alone is that of `role`. Raises Refused, without a value."""
    text = _text(value)
    if form == "password":
        return _whole(Login(role, text))
    login = _of_url(text) if form == "url" else _of_json(text)
    if login is None:
        wanted = "postgresql://ROLE:PASSWORD@HOST/DATABASE" if form == "url" else '{"username": …, "password": …}'
        raise Refused(f"it has to be a {'connection URL' if form == 'url' else 'JSON object'} like {wanted}")
    return _whole(login)


def read_leniently(value: Sensitive, form: Form, role: str) -> Login:
    """Return the login that `value` holds, where a first value may be the password of `role` alone."""
    try:
        return read(value, form, role)
    except Refused:
        return read(value, "password", role)


def write(login: Login, form: Form, current: Sensitive, place: Place) -> Sensitive:
    """Return the value for `login` in `form`; what the current one says besides role and password it keeps."""
    if form == "password":
        text = login.password
    elif form == "url":
        text = _url(login, current, place)
    else:
        text = _json(login, current, place)
    return Sensitive(text.encode())


def _of_url(text: str) -> Login | None:
    try:
        parts = urlsplit(text)
    except ValueError:
        return None
    if parts.scheme not in SCHEMES or not parts.username or not parts.password:
        return None
    return Login(unquote(parts.username), unquote(parts.password))


def _of_json(text: str) -> Login | None:
    members = _members(text)
    role = next((members[name] for name in _USER_MEMBERS if name in members), None)
    password = members.get("password")
    return Login(role, password) if isinstance(role, str) and isinstance(password, str) else None


def _members(text: str) -> dict[str, Any]:
    try:
        members = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return members if isinstance(members, dict) else {}


def _url(login: Login, current: Sensitive, place: Place) -> str:
    text = _text(current)
    credentials = f"{quote(login.role, safe='')}:{quote(login.password, safe='')}"
    if _of_url(text) is not None:
        parts = urlsplit(text)
        return urlunsplit(parts._replace(netloc=f"{credentials}@{parts.netloc.rpartition('@')[2]}"))
    database = quote(place.database, safe="")
    if place.host.startswith("/"):
        return f"postgresql://{credentials}@/{database}?host={quote(place.host, safe='')}&port={place.port}"
    host = f"[{place.host}]" if ":" in place.host else place.host
    return f"postgresql://{credentials}@{host}:{place.port}/{database}?sslmode={place.sslmode}"


def _json(login: Login, current: Sensitive, place: Place) -> str:
    members = _members(_text(current))
    if not members:
        members = {"host": place.host, "port": place.port, "dbname": place.database}
    user = next((name for name in _USER_MEMBERS if name in members), _USER_MEMBERS[0])
    return json.dumps({**members, user: login.role, "password": login.password})


def _whole(login: Login) -> Login:
    if not login.role or not login.password or "\0" in login.role + login.password:
        raise Refused("a role and a password of PostgreSQL are not empty and hold no NUL")
    return login


def _text(value: Sensitive) -> str:
    try:
        return value.reveal().decode()
    except UnicodeDecodeError:
        raise Refused("a login of PostgreSQL is UTF-8 text") from None

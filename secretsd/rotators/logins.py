"""A user's name and password in one value, where two accounts are used in turn (docs/rotators.md#two-accounts-in-turn).

The value is a JSON object with the members `username` and `password`, as other secret managers have it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from secrets import token_urlsafe
from typing import Final

import msgspec
from msgspec import Struct

from secretsd.crypto.sensitive import Sensitive
from secretsd.rotators.errors import Refused, Retryable

_UNKNOWN_BYTES: Final = 48
"""Random bytes of a password that is kept nowhere."""


class Login(Struct, frozen=True, forbid_unknown_fields=True):
    """With what a client logs in."""

    username: str
    password: str

    def __repr__(self) -> str:
        return f"Login(username={self.username!r}, password redacted)"

    @property
    def value(self) -> Sensitive:
        """The secret's value that says this."""
        return Sensitive(msgspec.json.encode(self))


def login_of(value: Sensitive, accounts: Sequence[str]) -> Login:
    """Return the login that a value is for one of `accounts`; one that is no JSON is the password of the first.

    So a secret that was a plain password goes over to two accounts with its next rotation. Raises Refused for another
    account's login, and for what is no text.
    """
    try:
        text = value.reveal().decode()
    except UnicodeDecodeError:
        raise Refused("a login is UTF-8 text, and this value is not") from None
    if not text.lstrip().startswith("{"):
        return Login(accounts[0], text)
    try:
        login = msgspec.json.decode(text, type=Login)
    except (msgspec.MsgspecError, RecursionError):
        # Not chained: such an error can quote what it read.
        raise Refused('a login is a JSON object {"username": "…", "password": "…"} and nothing else') from None
    if login.username not in accounts:
        raise Refused(f"the value is the login of another account than {' and '.join(accounts)}")
    return login


def next_account(current: Sensitive, accounts: Sequence[str]) -> str:
    """Return the account that `current` isn't of. Raises Refused."""
    used = login_of(current, accounts).username
    return next(one for one in accounts if one != used)


def next_login(generated: Sensitive, current: Sensitive, accounts: Sequence[str]) -> Login:
    """Return the login to rotate to: the account that `current` isn't of, with the generated password."""
    return Login(next_account(current, accounts), generated.reveal().decode())


@contextmanager
def ending(account: str) -> Iterator[str]:
    """Give a password that nobody knows, for the account in use before: the one that it has may have leaked.

    Where it can't be set, the failure says that the old one works still.
    """
    try:
        yield token_urlsafe(_UNKNOWN_BYTES)
    except (Refused, Retryable) as error:
        raise type(error)(f"{account} still logs in with its old password: {error.reason}") from None

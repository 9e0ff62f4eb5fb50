"""A name and a password in one value: what is taken, and that errors and repr never show the password."""

from __future__ import annotations

import pytest

from secretsd.crypto.sensitive import Sensitive
from secretsd.rotators import Refused
from secretsd.rotators.logins import Login, login_of, next_login

ACCOUNTS = ("app_a", "app_b")


def test_a_login_goes_through_its_value_and_back() -> None:
    login = Login("app_a", 'quotes " and \\ and \n and ü')
    assert login_of(login.value, ACCOUNTS) == login
    assert "ü" not in repr(login)


def test_a_plain_password_is_the_first_accounts() -> None:
    assert login_of(Sensitive(b"plain"), ACCOUNTS) == Login("app_a", "plain")
    assert next_login(Sensitive(b"new"), Sensitive(b"plain"), ACCOUNTS) == Login("app_b", "new")
    assert next_login(Sensitive(b"new"), Login("app_b", "x").value, ACCOUNTS) == Login("app_a", "new")


@pytest.mark.parametrize(
    "value",
    [
        b"{",
        b'{"username": "app_a"}',
        b'{"username": "app_a", "password": "hidden", "host": "x"}',
        b'{"username": "app_a", "password": 1}',
        b'{"username": "somebody", "password": "hidden"}',
        b"[" * 100_000,
        b"\xff hidden",
    ],
)
def test_what_is_no_login_of_these_accounts_is_refused_without_being_repeated(value: bytes) -> None:
    if value.startswith(b"["):
        assert login_of(Sensitive(value), ACCOUNTS).password == value.decode(), "no object: a plain password"
        return
    with pytest.raises(Refused) as refused:
        login_of(Sensitive(value), ACCOUNTS)
    assert "hidden" not in str(refused.value)

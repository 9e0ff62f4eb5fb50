"""The forms of a login for PostgreSQL: what is read out of each, and what a new value keeps of the current one."""

from __future__ import annotations

import json

import pytest

from secretsd.crypto.sensitive import Sensitive
from secretsd.rotators import Refused, configure
from secretsd.rotators.pgvalue import Form, Login, Place, read, write

PLACE = Place("db.lan", 5432, "app", "verify-full")
ODD = "p@ss:w/rd %20?#"


def sensitive(text: str) -> Sensitive:
    return Sensitive(text.encode())


@pytest.mark.parametrize("form", ["password", "url", "json"])
def test_what_is_written_is_read_again(form: Form) -> None:
    value = write(Login("app", ODD), form, sensitive("the first password"), PLACE)
    assert read(value, form, "app") == Login("app", ODD)


def test_a_new_url_keeps_all_but_role_and_password() -> None:
    current = sensitive("postgres://old:x@[::1]:6432/app?sslmode=verify-full&application_name=a%20b")
    value = write(Login("new", "y z"), "url", current, PLACE).reveal()
    assert value == b"postgres://new:y%20z@[::1]:6432/app?sslmode=verify-full&application_name=a%20b"


def test_the_first_url_is_made_of_the_settings() -> None:
    assert write(Login("a", "x"), "url", sensitive("pw"), PLACE).reveal() == (
        b"postgresql://a:x@db.lan:5432/app?sslmode=verify-full"
    )
    socket = Place("/run/postgresql", 5432, "app", "disable")
    assert write(Login("a", "x"), "url", sensitive("pw"), socket).reveal() == (
        b"postgresql://a:x@/app?host=%2Frun%2Fpostgresql&port=5432"
    )


def test_a_new_object_keeps_all_but_role_and_password() -> None:
    current = sensitive('{"engine": "postgres", "user": "old", "password": "x", "host": "h"}')
    value = json.loads(write(Login("new", "y"), "json", current, PLACE).reveal())
    assert value == {"engine": "postgres", "user": "new", "password": "y", "host": "h"}
    first = json.loads(write(Login("a", "x"), "json", sensitive("pw"), PLACE).reveal())
    assert first == {"host": "db.lan", "port": 5432, "dbname": "app", "username": "a", "password": "x"}


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ("password", b"\xff"),
        ("password", b"a\x00b"),
        ("url", b"just-a-password"),
        ("url", b"postgresql://role@h/d"),
        ("url", b"postgresql://[broken"),
        ("json", b"[]"),
        ("json", b'{"username": "a"}'),
        ("json", b'{"username": "a", "password": 7}'),
    ],
)
def test_what_is_no_login_is_refused_without_being_repeated(form: Form, value: bytes) -> None:
    with pytest.raises(Refused) as refused:
        read(Sensitive(value), form, "a")
    assert value.decode(errors="replace") not in str(refused.value)


def test_the_roles_take_turns_and_a_bare_first_password_is_the_first_ones() -> None:
    rule = {"kind": "postgres", "host": "h", "roles": ["a", "b"], "admin": {"user": "p", "secret": "s"}}
    rotator = configure(rule).build()
    value, seen = sensitive("a-first-password"), []
    for number in range(4):
        value = rotator.shape(sensitive(f"password-{number}"), value)
        seen.append(read(value, "url", "a"))
    assert seen == [
        Login("b", "password-0"),
        Login("a", "password-1"),
        Login("b", "password-2"),
        Login("a", "password-3"),
    ]

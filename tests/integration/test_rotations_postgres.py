"""A daemon, a PostgreSQL and a login that is rotated between them: who can log in, at each moment."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from tests.support.daemon import OPEN_POLICY, Daemon
from tests.support.postgres import SUPERUSER, SUPERUSER_PASSWORD, Postgres, needs_postgres
from tests.support.waiting import eventually

pytestmark = needs_postgres

NAME = "app_database_url"
FIRST = "the first password of the application"


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A server that may be killed, for both tests."""
    running = Postgres().start()
    yield running
    running.close()


@pytest.fixture
def made(new_daemon: Callable[..., Daemon], server: Postgres) -> Daemon:
    server.execute("DROP ROLE IF EXISTS app_a; DROP ROLE IF EXISTS app_b")
    server.execute(f"CREATE ROLE app_a LOGIN PASSWORD '{FIRST}'; CREATE ROLE app_b LOGIN")
    rotator: dict[str, Any] = {
        "kind": "postgres",
        "host": "127.0.0.1",
        "port": server.port,
        "ca_file": str(server.authority),
        "roles": ["app_a", "app_b"],
        "admin": {"user": SUPERUSER, "secret": "postgres_admin_password"},
        "retries": 100,
    }
    policy = dict(OPEN_POLICY) | {"secrets": {NAME: {"type": "password", "grace_period": "1h", "rotator": rotator}}}
    daemon = new_daemon(policy=policy).start()
    daemon.api.create("postgres_admin_password", SUPERUSER_PASSWORD)
    daemon.api.create(NAME, f"postgresql://app_a:{FIRST.replace(' ', '%20')}@127.0.0.1:{server.port}/postgres")
    return daemon


def logs_in(server: Postgres, url: str) -> bool:
    parts = urlsplit(url)
    return server.accepts(parts.username or "", unquote(parts.password or ""))


def ask(daemon: Daemon) -> None:
    """Ask for a rotation; a daemon that is killed meanwhile doesn't answer."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        daemon.api.post("/rotate", {"names": [NAME]})


def test_old_and_new_both_log_in_during_the_grace_and_the_one_before_ends_with_the_next_rotation(
    made: Daemon, server: Postgres
) -> None:
    before = made.api.value(NAME)
    for version in (2, 3, 4):
        assert made.api.rotate(NAME)[0]["version"] == version
        now = made.api.value(NAME)
        assert urlsplit(now).username == ("app_b" if version % 2 == 0 else "app_a")
        assert logs_in(server, now)
        assert logs_in(server, before)
        assert made.api.value(NAME, "?version=previous") == before
        before = now
    retired = [event["data"]["retired_version"] for event in made.events("secret.retired")]
    assert retired == [1, 2], "nobody is given a login that works no more"
    assert server.failed_logins("app_a") + server.failed_logins("app_b") == 0
    for value in (now, before):
        assert unquote(urlsplit(value).password or "") not in server.log


def test_with_the_database_down_the_old_login_stays_in_force_and_it_gets_through_afterwards(
    made: Daemon, server: Postgres
) -> None:
    before = made.api.value(NAME)
    server.kill()
    asking = threading.Thread(target=ask, args=(made,), daemon=True)
    asking.start()
    eventually(lambda: made.api.secret(NAME).get("pending", {}).get("failure"), "the first try fails")
    assert made.api.value(NAME) == before
    made.sigkill()
    server.start()
    made.start()
    eventually(lambda: made.api.secret(NAME)["version"] == 2, "it gets through")
    assert logs_in(server, made.api.value(NAME))
    assert logs_in(server, before)
    asking.join(20)

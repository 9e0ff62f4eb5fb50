"""The tests' PostgreSQL keeps what it said across a kill, refuses wrong passwords, and wants TLS to be verified."""

from __future__ import annotations

import psycopg
import pytest

from tests.support.postgres import Postgres, needs_postgres

pytestmark = needs_postgres


def test_a_server_survives_its_sigkill_with_all_that_was_committed_and_refuses_wrong_passwords(
    own_postgres: Postgres,
) -> None:
    """Also what the log says of both, which later tests rely on."""
    own_postgres.execute("CREATE ROLE alice LOGIN PASSWORD 'first'")
    own_postgres.execute("ALTER ROLE alice PASSWORD 'second'")
    own_postgres.kill()
    with pytest.raises(psycopg.OperationalError):
        own_postgres.connect()
    own_postgres.start()
    assert own_postgres.accepts("alice", "second")
    assert not own_postgres.accepts("alice", "first")
    assert own_postgres.failed_logins("alice") == 1
    assert "'second'" in own_postgres.log, "the log shows statements, so a clear password would be seen"
    with own_postgres.connect("alice", "second") as session:
        assert session.pgconn.ssl_in_use
    own_postgres.stop()
    own_postgres.start()
    assert own_postgres.accepts("alice", "second")

"""An application under load goes through rotations, some of them with a kill in the middle, and is never refused.

PostgreSQL has two roles in turn; the application's pool logs in anew all the time, with what the Python client gives.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.rotations.course import ADMIN_SECRET, CLIENT, FIRST, ROLES, SECRET, VICTIMS, Course, Figures, running
from tests.support.broker import Broker
from tests.support.daemon import Daemon
from tests.support.postgres import SUPERUSER, Postgres, needs_postgres

pytestmark = needs_postgres


def policy(postgres: Postgres) -> dict[str, Any]:
    """An operator, the application, and the rule of its login."""
    rotator = {
        "kind": "postgres",
        "host": "127.0.0.1",
        "port": postgres.port,
        "ca_file": str(postgres.authority),
        "roles": list(ROLES),
        "value": "json",
        "admin": {"user": SUPERUSER, "secret": ADMIN_SECRET},
    }
    return {
        "clients": {"admin": {"allow": ["*"]}, CLIENT: {"allow": [SECRET], "can": ["read"]}},
        "secrets": {SECRET: {"type": "password", "grace_period": "1h", "rotator": rotator}},
    }


@pytest.fixture
def course(own_postgres: Postgres, own: Broker, prefix: str, new_daemon: Callable[..., Daemon]) -> Course:
    for role in ROLES:
        own_postgres.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{FIRST}'")
    daemon = new_daemon(bus=own.url, prefix=prefix, policy=policy(own_postgres)).start().wait_bus()
    daemon.api.create(ADMIN_SECRET, own_postgres.password)
    daemon.api.create(SECRET, json.dumps({"username": ROLES[0], "password": FIRST}))
    return Course(daemon, own_postgres, own, random.Random(20))


def gone_through(course: Course, rotations: int, kill_every: int) -> Figures:
    """Return what came of it; every so many rotations somebody is killed, in turn."""
    with running(course.daemon, course.postgres) as application:
        for number in range(1, rotations + 1):
            turn, kills = number // kill_every, number % kill_every == 0
            course.rotate(VICTIMS[(turn - 1) % len(VICTIMS)] if kills else None)
        application.end()
        figures = course.judge(application)
    sys.stdout.write(f"\n{figures}\n")
    return figures


def judged(figures: Figures, rotations: int, kills: int) -> None:
    assert figures.rotations == rotations
    assert figures.kills.total() == kills
    assert figures.logins > rotations, "each rotation makes the pool log in anew"
    assert figures.refused == figures.refused_by_server == 0
    assert figures.retired_uses == 0


def test_no_login_is_refused_in_three_rotations_and_a_kill_of_each(course: Course) -> None:
    judged(gone_through(course, 3, 1), 3, 3)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("rotations", "kill_every"), [(100, 3), (60, 1)])
def test_no_login_is_refused_in_many_rotations_and_kills(course: Course, rotations: int, kill_every: int) -> None:
    figures = gone_through(course, rotations, kill_every)
    judged(figures, rotations, rotations // kill_every)
    assert figures.resumed > 0, "no kill of the daemon fell into the middle of a rotation"

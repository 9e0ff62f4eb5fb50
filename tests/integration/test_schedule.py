"""What the real daemon says it will do by itself, and that it does it: windows, distances, reloads."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.support.daemon import COMMANDS, OPEN_POLICY, Daemon
from tests.support.http import Api
from tests.support.waiting import eventually

LATER = timedelta(hours=18)
AUTO: dict[str, Any] = {"type": "generic", "rotation": "auto", "grace_period": "0s"}
POLICY: dict[str, Any] = {
    **OPEN_POLICY,
    "secrets": {
        "apart_*": {**AUTO, "rotation_period": "2s", "not_with": ["apart_*"], "gap": "1s"},
        "report": {**AUTO, "rotation_schedule": "0 3 1 * *", "time_zone": "Europe/Berlin"},
    },
}


def first_in_a_window(api: Api) -> Any:
    """The first thing that will happen, once that is in a window."""
    first = api.get("/schedule?days=2").ok()["occurrences"][0]
    return first if first["window"] else None


def hours(at: datetime) -> str:
    return f"{at:%H:%M}"


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon(policy=POLICY) as running:
        yield running


@pytest.fixture
def api(daemon: Daemon) -> Api:
    return daemon.api


def secretsctl(daemon: Daemon, *arguments: str) -> str:
    done = subprocess.run(
        [COMMANDS / "secretsctl", *arguments, "--url", f"http://127.0.0.1:{daemon.port}", "--client", "admin"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_secretsctl_shows_what_will_happen_and_info_what_is_next(daemon: Daemon, api: Api) -> None:
    api.create("report")
    found = json.loads(secretsctl(daemon, "schedule", "--secret", "report", "--days", "70", "--json"))["occurrences"]
    assert {one["at"][8:16] for one in found} <= {"01T01:00", "01T02:00"}  # three o'clock in Berlin
    assert [one["version"] for one in found] == [*range(2, 2 + len(found))]
    table = secretsctl(daemon, "schedule", "--secret", "report")
    assert table.count("schedule 0 3 1 * * Europe/Berlin") >= 2
    assert "rotate v2" in secretsctl(daemon, "info", "report")


@pytest.mark.parametrize("query", ["days=0", "days=367", "days=x", "secret=", "secret=_*", "days=1&days=2", "limit=1"])
def test_a_query_that_makes_no_sense_is_refused(api: Api, query: str) -> None:
    api.get(f"/schedule?{query}").refused(400, "invalid-request")


@pytest.mark.slow
def test_rotations_keep_apart_in_real_time(daemon: Daemon, api: Api) -> None:
    for name in ("apart_a", "apart_b"):
        api.create(name)
    rotated = eventually(
        lambda: [event for event in daemon.events("secret.rotated") if len(daemon.events("secret.rotated")) >= 3],
        "one of them rotates again",
    )
    # When a version was made is told by its expiry; its event's line is written a little later.
    moments = [datetime.fromisoformat(event["data"]["expires_at"]) for event in rotated]
    assert all(after - before >= timedelta(seconds=1) for before, after in itertools.pairwise(moments))
    assert {event["data"]["name"] for event in rotated} == {"apart_a", "apart_b"}


def test_a_reload_holds_what_is_due_until_its_window_opens() -> None:
    with Daemon(policy={**OPEN_POLICY, "secrets": {"x": {**AUTO, "rotation_period": "1h"}}}) as daemon:
        created = daemon.api.create("x")
        opens = datetime.fromisoformat(created["created_at"]) + LATER
        window = {"from": hours(opens), "to": hours(opens + timedelta(hours=1))}
        daemon.write_policy({**OPEN_POLICY, "secrets": {"x": {**AUTO, "rotation_period": "12h", "window": window}}})
        daemon.reload()
        one = eventually(lambda: first_in_a_window(daemon.api), "the policy is in force")
        assert one["what"] == "rotate"
        assert one["at"][11:16] == hours(opens)
        (listed,) = daemon.api.get("/secrets").ok()["secrets"]
        assert (listed["version"], listed["status"], listed["expires_at"]) == (1, "active", one["at"])
        assert daemon.api.rotate("x")[0]["version"] == 2  # by hand at once

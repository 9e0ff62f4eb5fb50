"""secretsctl schedule: what will happen, when on both clocks, and why."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.unit.cli.conftest import Ctl
from tests.unit.cli.fake_daemon import FakeDaemon


def occurrence(at: str, name: str, what: str = "rotate", **members: Any) -> dict[str, Any]:
    given = {"version": 2, "due_at": at, "schedule": None, "window": None, "moved": False, "moved_by": None}
    return {"at": at, "name": name, "what": what, **given, **members}


@pytest.fixture(autouse=True)
def _in_berlin(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture(autouse=True)
def _planned(daemon: FakeDaemon) -> None:
    daemon.schedule = {
        "now": "2026-11-28T00:00:00.000Z",
        "until": "2027-02-26T00:00:00.000Z",
        "complete": True,
        "doubt": None,
        "occurrences": [
            occurrence("2026-11-29T01:00:00.000Z", "db_a", window="night"),
            occurrence(
                "2026-11-29T02:00:00.000Z",
                "db_b",
                due_at="2026-11-29T01:00:00.000Z",
                window="night",
                moved=True,
                moved_by="db_a",
            ),
            occurrence("2026-12-01T02:00:00.000Z", "report", schedule="0 3 1 * * Europe/Berlin"),
            occurrence("2026-12-02T02:00:00.000Z", "x", moved=True, due_at="2026-12-02T01:00:00.000Z"),
            occurrence("2026-12-03T02:00:00.000Z", "api_key", "warn", due_at="2026-12-10T02:00:00.000Z"),
            occurrence("2026-12-04T02:00:00.000Z", "db_a", "grace ends", version=1),
            occurrence("2026-12-10T02:00:00.000Z", "api_key", "expire"),
            occurrence("2026-12-18T02:00:00.000Z", "y", "expire", due_at="2026-12-10T02:00:00.000Z"),
        ],
    }


def test_each_line_says_when_on_both_clocks_and_why(ctl: Ctl) -> None:
    lines = ctl("schedule").stdout.splitlines()
    assert lines[0].split() == ["WHEN", "UTC", "IN", "NAME", "WHAT", "WHY"]
    when = ["Sun", "2026-11-29", "02:00", "CET", "11-29", "01:00Z", "25", "h"]
    assert lines[1].split() == [*when, "db_a", "rotate", "v2", "period;", "window", "night"]
    assert [line.split("  ")[-1].strip() for line in lines[2:]] == [
        "period; window night; moved by not_with db_a; due 2026-11-29 01:00Z",
        "schedule 0 3 1 * * Europe/Berlin",
        "period; moved by not_with another secret; due 2026-12-02 01:00Z",
        "expires 2026-12-10",
        "its grace is over",
        "period; doesn't rotate by itself",
        "its rotation is held back",
    ]


def test_what_is_asked_for_reaches_the_daemon(ctl: Ctl, daemon: FakeDaemon) -> None:
    assert ctl("schedule", "--days", "7", "--secret", "db_*").exit_code == 0
    assert daemon.seen[-1].path == "/schedule?days=7&secret=db_%2A"


def test_json_is_the_daemons_answer(ctl: Ctl, daemon: FakeDaemon) -> None:
    assert json.loads(ctl("schedule", "--json").stdout) == daemon.schedule


def test_doubts_and_what_is_left_out_are_said(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.schedule |= {"complete": False, "doubt": "the clock jumped"}
    said = ctl("schedule").stderr
    assert "while the clock is in doubt: the clock jumped" in said
    assert "and more until 2027-02-26" in said


def test_an_empty_schedule_is_said_to_be(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.schedule["occurrences"] = []
    assert ctl("schedule", "--days", "3").stdout == "Nothing will happen by itself within 3 days.\n"


def test_info_says_when_a_secret_rotates_next(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.plant("db_a", "x", rotation="auto")
    said = ctl("info", "db_a").stdout
    assert "rotate v2, 2026-11-29 01:00" in said
    assert "period; window night" in said
    assert daemon.seen[-1].path == "/schedule?days=366&secret=db_a"


def test_info_does_without_a_daemon_that_plans(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.plant("db_a", "x", rotation="auto")
    daemon.refusals["GET /schedule"] = [(404, "not-found")]
    result = ctl("info", "db_a")
    assert result.exit_code == 0
    assert "next" not in result.stdout


def test_info_says_first_when_the_next_version_is_published(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.plant("key", "x", rotation="auto")
    daemon.schedule["occurrences"] = [
        occurrence("2026-11-29T00:00:00.000Z", "key", "publish"),
        occurrence("2026-11-29T01:00:00.000Z", "key"),
        occurrence("2026-11-30T00:00:00.000Z", "key", "publish", version=3),
    ]
    line = next(line for line in ctl("info", "key").stdout.splitlines() if line.startswith("next"))
    publish, rotate = line.split(", then ")
    assert publish.split()[1:5] == ["publish", "v2,", "2026-11-29", "00:00"]
    assert rotate.startswith("rotate v2, 2026-11-29 01:00")
    assert rotate.endswith(": period")

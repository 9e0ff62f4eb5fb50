"""Each blueprint's automation runs exactly once for each event, also in a burst of fifty."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from secretsd.outbox.homeassistant.ids import device_id
from tests.home_assistant.home import Home
from tests.home_assistant.runs import DEVICE, FOLLOWING, Runs, automation
from tests.support.broker import Broker
from tests.support.daemon import NODE, Daemon
from tests.support.waiting import eventually

BURST = 50


@pytest.fixture(autouse=True)
def automations(home: Home) -> None:
    home.automations(FOLLOWING)


def ids(daemon: Daemon, *kinds: str, after: int) -> list[str]:
    """Return the ids of the log's events of these kinds beyond a number of lines."""
    lines = daemon.lines()[after:]
    return [line["id"] for line in lines if line["type"].removeprefix("jarvis.secretsd.") in kinds]


def published(broker: Broker, topic: str, messages: list[dict[str, Any]]) -> None:
    lines = "".join(json.dumps(message) + "\n" for message in messages)
    subprocess.run(
        ["mosquitto_pub", "-p", str(broker.port), "-q", "1", "-t", topic, "-l"], input=lines, text=True, check=True
    )


def test_fifty_secrets_rotated_at_once_are_fifty_runs(daemon: Daemon, home: Home, runs: Runs) -> None:
    names = [f"burst_{number}" for number in range(BURST)]
    for name in names:
        daemon.api.create(name, type="generic")
    before = len(daemon.lines())
    daemon.api.post("/rotate", {"names": names}).ok()
    expected = ids(daemon, "secret.rotated", after=before)
    assert len(expected) == BURST
    runs.wait("secret_rotated", expected)


def test_fifty_refusals_are_a_run_for_each_line_of_the_log(daemon: Daemon, home: Home, runs: Runs) -> None:
    daemon.api.create("forbidden", "v")
    before = len(daemon.lines())
    for _ in range(BURST):
        daemon.api.as_("backend").get("/secret/forbidden").refused(403, "forbidden")

    def counted() -> list[str]:
        # The first twenty have a line each; those after them share lines that hold their count.
        lines = [line for line in daemon.lines()[before:] if line["type"] == "jarvis.secretsd.access.denied"]
        assert sum(line["data"]["count"] for line in lines) == BURST
        return [line["id"] for line in lines]

    runs.wait("access_denied", eventually(counted, "every refusal is in the log"))


def test_fifty_refused_requests_in_a_burst_of_single_events_are_fifty_runs(
    broker: Broker, daemon: Daemon, home: Home, runs: Runs
) -> None:
    data = {"client": "backend", "name": "x", "reason": "not allowed by policy", "peer": "127.0.0.1", "count": 1}
    events = [
        {"type": "jarvis.secretsd.access.denied", "id": f"another-{number}", "time": "", "data": data}
        for number in range(1, BURST + 1)
    ]
    published(broker, f"homeassistant/secretsd/{device_id(daemon.prefix, NODE)}/event", events)
    runs.wait("access_denied", [event["id"] for event in events])


def test_fifty_secrets_that_run_out_are_a_run_each_for_expiring_and_for_expired(
    daemon: Daemon, home: Home, runs: Runs
) -> None:
    before = len(daemon.lines())
    names = [f"brief_{number}" for number in range(BURST)]
    for name in names:
        daemon.api.create(name)
    kinds = ("secret.expiring", "secret.expired")
    eventually(lambda: len(ids(daemon, *kinds, after=before)) == 2 * BURST, "all have expired", within=60)
    home.wait_state(f"binary_sensor.{DEVICE}_problem", "on", expired=BURST)
    runs.wait("secret_expiring", ids(daemon, *kinds, after=before))
    for name in names:
        daemon.api.delete(f"/secret/{name}").ok(204)
    home.wait_state(f"binary_sensor.{DEVICE}_problem", "off", expired=0)


def test_a_daemon_that_comes_and_goes_fifty_times_is_told_once_when_it_stays_away(
    broker: Broker, daemon: Daemon, home: Home, runs: Runs
) -> None:
    session = int(home.wait_state(f"binary_sensor.{DEVICE}_connection", "on")["attributes"]["session"])
    statuses = [
        {"time": datetime.now(UTC).isoformat(), "data": {"state": state, "session": session}}
        for _ in range(BURST)
        for state in ("online", "offline")
    ]
    daemon.sigkill()  # alive, it would say at once that it is online
    home.wait_state(f"binary_sensor.{DEVICE}_connection", "off")
    published(broker, f"{daemon.prefix}/status/testnode", statuses)
    runs.wait("daemon_offline", ["offline"])
    daemon.start().wait_bus()
    home.wait_state(f"binary_sensor.{DEVICE}_connection", "on")


def test_the_digest_comes_once_at_its_time_also_while_everything_changes(
    daemon: Daemon, home: Home, runs: Runs
) -> None:
    at = datetime.now(UTC) + timedelta(seconds=8)
    home.automations(
        [automation("daily_digest", "title ~ ': ' ~ message", secrets=f"sensor.{DEVICE}_secrets", at=f"{at:%H:%M:%S}")]
    )
    for number in range(BURST):
        daemon.api.create(f"meanwhile_{number}", "v")
    eventually(lambda: runs.of("daily_digest"), "the digest", within=60)
    runs.wait("daily_digest", runs.of("daily_digest")[:1])
    digest = runs.of("daily_digest")[0]
    assert digest.startswith("Secrets: all well: ")
    assert "0 expired." in digest

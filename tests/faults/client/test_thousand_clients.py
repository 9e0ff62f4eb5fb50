"""A thousand clients told at once: each asks once of each kind, and not all in the same moment."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from secretsd_bus import parse_time

from tests.faults.client.service import CLIENT, metric
from tests.support.broker import Broker
from tests.support.daemon import NODE, Daemon
from tests.support.waiting import eventually

PROCESSES = 4
EACH = 250
SPREAD_MS = 4000
ROOT = Path(__file__).resolve().parents[3]


class Fleet:
    """A process with many clients (fleet.py). A context manager."""

    def __init__(self, daemon: Daemon, broker: Broker, name: str, count: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.client.fleet"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        url = f"http://127.0.0.1:{daemon.port}"
        self.say({"url": url, "client_id": CLIENT, "mqtt_url": broker.url, "name": name, "count": count})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._process.kill()
        self._process.communicate()

    def say(self, what: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()

    def hear(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


def requests(daemon: Daemon, route: str) -> float:
    """Return how many requests for a route the daemon has answered."""
    return metric(daemon, f'secretsd_requests_total{{method="GET",route="{route}"')


@pytest.fixture
def busy_broker() -> Iterator[Broker]:
    running = Broker().start()
    yield running
    running.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_thousand_clients_ask_once_of_each_kind_spread_over_the_time_that_the_daemon_names(
    busy_broker: Broker, new_daemon: Callable[..., Daemon], name: str
) -> None:
    daemon = new_daemon(busy_broker, spread_ms=SPREAD_MS)
    daemon.api.create(name)
    count = PROCESSES * EACH
    fleets: list[Fleet] = []
    try:
        fleets = [Fleet(daemon, busy_broker, name, EACH) for _ in range(PROCESSES)]
        for fleet in fleets:
            assert fleet.hear() == "ready"
        fetched, asked = requests(daemon, "/secret/{name}"), requests(daemon, "/changes")
        (rotated,) = daemon.api.rotate(name)
        for fleet in fleets:
            fleet.say(rotated["version"])
        told = [fleet.hear() for fleet in fleets]
        with daemon.tap(filters=[f"{daemon.prefix}/checkpoint/{NODE}"]) as tap:
            # Whoever would ask again, would by then.
            eventually(lambda: len(tap.heard) >= 4, "three more checkpoints come", within=60)
        for fleet in fleets:
            fleet.say("later")
        later = [fleet.hear() for fleet in fleets]
    finally:
        for fleet in fleets:
            fleet.__exit__(None, None, None)
    for answers in (told, later):
        assert [versions for answer in answers for versions in answer["versions"]] == [[2]] * count
    members = [member for answer in later for member in answer["asked"]]
    assert [member for member in members if member["fetches"] != 1 or member["changes_asked"] > 1] == []
    assert requests(daemon, "/secret/{name}") - fetched == count
    assert requests(daemon, "/changes") - asked <= count
    reads = [event for event in daemon.events("secret.read") if event["data"]["version"] == rotated["version"]]
    times = sorted(parse_time(event["time"]) for event in reads)
    assert len(times) == count
    assert times[-1] - times[0] > SPREAD_MS / 2, "the requests come in one burst"

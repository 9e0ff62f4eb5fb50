"""A thousand secrets: they don't flood Home Assistant, and what is shown of them follows the settings."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import pytest

from tests.home_assistant.home import PATIENCE_SECS, Home
from tests.home_assistant.runs import Runs, of_events
from tests.home_assistant.test_blueprints import ids
from tests.support.broker import Broker
from tests.support.daemon import Daemon
from tests.support.tap import Tap
from tests.support.waiting import eventually

MANY = 1000
NODE = "many"
PER_SECOND = 200
"""What docs/home-assistant.md promises."""
ANSWERS_WITHIN_SECS = 15.0
"""Generous: a machine that does much else meanwhile. A flood of two thousand at once holds it up for longer."""
WINDOW_SECS = 3.0


@pytest.fixture(scope="module")
def many(broker: Broker) -> Iterator[Daemon]:
    """A daemon with a thousand secrets that Home Assistant doesn't know yet."""
    daemon = Daemon(bus=broker.url, prefix="many/secretsd", config={"bus": {"node": NODE, "enabled": False}})
    with daemon:
        secrets = [{"name": f"n{number}", "value": "v"} for number in range(MANY)]
        daemon.api.post("/secrets", {"secrets": secrets}).ok(201)
        yield daemon


def apply(daemon: Daemon, **settings: object) -> None:
    daemon.terminate()
    daemon.configure({"bus": {"enabled": True}, "homeassistant": settings})
    daemon.start().wait_bus()


def shown(home: Home) -> list[str]:
    """Return the secrets of that daemon which have their two entities."""
    found = [re.fullmatch(rf"sensor.secretsd_{NODE}_(n[0-9]\w*)_(expiry|status)", entity) for entity in home.states()]
    names = [match[1] for match in found if match is not None]
    return sorted({name for name in names if names.count(name) == 2})


class Watch:
    """Looks at Home Assistant, and at what it is told, again and again. A context manager."""

    def __init__(self, home: Home, broker: Broker, daemon: Daemon) -> None:
        self._home = home
        self._tap = Tap(broker.url, daemon.prefix, daemon.keyring(), filters=["homeassistant/#"])
        self._ended = threading.Event()
        # A thread each: an answer that takes long must not hide what comes meanwhile.
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._count, self._ask)]
        self.seen: list[tuple[float, int]] = []
        """When, and how many messages there were by then."""
        self.longest_secs = 0.0
        """What the slowest answer of Home Assistant took; endless where one failed."""

    def __enter__(self) -> Self:
        self._tap.__enter__()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self._tap.__exit__(kind, error, trace)

    def _count(self) -> None:
        while not self._ended.wait(0.1):
            self.seen.append((time.monotonic(), len(self._tap.heard)))

    def _ask(self) -> None:
        while not self._ended.wait(0.1):
            began = time.monotonic()
            try:
                self._home.state(f"sensor.secretsd_{NODE}_secrets")
            except OSError:
                self.longest_secs = float("inf")
            self.longest_secs = max(self.longest_secs, time.monotonic() - began)

    def most_per_second(self) -> float:
        """Return the highest rate of messages over some seconds."""
        rates = [0.0]
        for place, (began, before) in enumerate(self.seen):
            later = next(((at, count) for at, count in self.seen[place:] if at - began >= WINDOW_SECS), None)
            if later is not None:
                rates.append((later[1] - before) / (later[0] - began))
        return max(rates)


def test_a_thousand_secrets_that_are_all_shown_come_in_an_orderly_way(home: Home, broker: Broker, many: Daemon) -> None:
    with Watch(home, broker, many) as watch:
        apply(many, secrets_most=MANY)
        home.wait_state(f"sensor.secretsd_{NODE}_secrets", str(MANY), hidden=0)
        eventually(lambda: len(shown(home)) == MANY, "all are shown", within=PATIENCE_SECS)
    assert watch.seen[-1][1] >= 2 * MANY
    # A worker that was held up hears what came meanwhile at once: half as much again is no flood.
    assert watch.most_per_second() <= 1.5 * PER_SECOND
    assert watch.longest_secs < ANSWERS_WITHIN_SECS


def test_of_a_thousand_secrets_a_hundred_are_shown_and_events_go_on_meanwhile(
    home: Home, daemon: Daemon, many: Daemon, runs: Runs
) -> None:
    home.automations([of_events("secret_rotated")])
    daemon.api.create("bystander", type="generic")
    before = len(daemon.lines())
    apply(many, secrets_most=100)
    home.wait_state(f"sensor.secretsd_{NODE}_secrets", str(MANY), hidden=MANY - 100)
    daemon.api.rotate("bystander")
    runs.wait("secret_rotated", ids(daemon, "secret.rotated", after=before))
    first = sorted(f"n{number}" for number in range(MANY))[:100]
    home.wait_state(f"sensor.secretsd_{NODE}_{first[-1]}_status", "active")
    eventually(lambda: shown(home) == first, "the others are gone", within=PATIENCE_SECS)


def test_a_pattern_shows_some_of_them_and_takes_the_others_away(home: Home, many: Daemon) -> None:
    apply(many, secrets=["n99?"])
    home.wait_state(f"sensor.secretsd_{NODE}_n999_status", "active")
    eventually(
        lambda: home.state(f"sensor.secretsd_{NODE}_n0_status") is None, "the others are gone", within=PATIENCE_SECS
    )
    eventually(
        lambda: shown(home) == [f"n{number}" for number in range(990, 1000)], "ten are left", within=PATIENCE_SECS
    )


def test_discovery_that_is_switched_off_takes_the_device_away(home: Home, many: Daemon) -> None:
    apply(many, discovery=False)
    eventually(
        lambda: home.state(f"sensor.secretsd_{NODE}_n999_status") is None, "its secrets are gone", within=PATIENCE_SECS
    )
    eventually(
        lambda: not [entity for entity in home.states() if f"secretsd_{NODE}_" in entity],
        "all are gone",
        within=PATIENCE_SECS,
    )

    def devices() -> list[str]:
        return [device["name"] for device in home.stored("core.device_registry")["devices"]]

    eventually(lambda: devices() == ["secretsd testnode"], "the device is gone", within=PATIENCE_SECS)

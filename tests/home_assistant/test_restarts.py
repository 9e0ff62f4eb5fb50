"""Restarts of Home Assistant, the broker and the daemon: no false alarm, nothing twice, and everything goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from secretsd.outbox.homeassistant.ids import device_id
from tests.home_assistant.home import Home
from tests.home_assistant.runs import DEVICE, FOLLOWING, LONGER_SECS, Runs
from tests.home_assistant.test_blueprints import ids, published
from tests.support.broker import Broker
from tests.support.daemon import NODE, Daemon
from tests.support.waiting import always, eventually

BLUEPRINTS = ("access_denied", "secret_expiring", "secret_rotated", "daemon_offline")


@pytest.fixture(autouse=True)
def automations(home: Home, daemon: Daemon) -> None:
    home.automations(FOLLOWING)
    if daemon.api.get("/secret/turning").status == 404:
        daemon.api.create("turning", type="generic")


def rotated(daemon: Daemon) -> list[str]:
    """Rotate a secret and return the ids of the events."""
    before = len(daemon.lines())
    daemon.api.rotate("turning")
    return ids(daemon, "secret.rotated", after=before)


def last_runs(home: Home) -> dict[str, str | None]:
    """Return when each automation last ran, which Home Assistant remembers over its own restarts."""
    states = home.states()
    return {name: states[f"automation.{name}"]["attributes"]["last_triggered"] for name in BLUEPRINTS}


def settled(home: Home) -> None:
    """Wait until Home Assistant shows the daemon as it is: until discovery has come anew, all is unavailable."""
    home.wait_state(f"binary_sensor.{DEVICE}_connection", "on")
    home.wait_state(f"binary_sensor.{DEVICE}_problem", "off")
    home.wait_available(f"event.{DEVICE}_events")
    for name in BLUEPRINTS:
        home.wait_state(f"automation.{name}", "on")


def restart_home_assistant(home: Home, broker: Broker, daemon: Daemon) -> None:
    home.restart()


def restart_the_broker(home: Home, broker: Broker, daemon: Daemon) -> None:
    broker.stop()
    home.wait_state(f"binary_sensor.{DEVICE}_connection", "unavailable")
    broker.start()
    daemon.wait_bus()


def kill_the_broker(home: Home, broker: Broker, daemon: Daemon) -> None:
    broker.kill()
    home.wait_state(f"binary_sensor.{DEVICE}_connection", "unavailable")
    broker.start()
    daemon.wait_bus()


def restart_the_daemon(home: Home, broker: Broker, daemon: Daemon) -> None:
    daemon.restart().wait_bus()


def kill_the_daemon(home: Home, broker: Broker, daemon: Daemon) -> None:
    daemon.sigkill()
    daemon.start().wait_bus()


@pytest.mark.parametrize(
    "disturb",
    [restart_home_assistant, restart_the_broker, kill_the_broker, restart_the_daemon, kill_the_daemon],
    ids=lambda disturb: disturb.__name__,
)
def test_a_restart_raises_no_alarm_and_repeats_nothing(
    home: Home, broker: Broker, daemon: Daemon, disturb: Callable[[Home, Broker, Daemon], None]
) -> None:
    with Runs(broker.url, daemon.keyring()) as before:
        before.wait("secret_rotated", rotated(daemon))
    last = last_runs(home)
    disturb(home, broker, daemon)
    settled(home)
    always(lambda: last_runs(home) == last, "an automation runs", during=LONGER_SECS)
    with Runs(broker.url, daemon.keyring()) as after:
        after.wait("secret_rotated", rotated(daemon))


def test_a_daemon_that_is_killed_in_a_burst_owes_the_rest_and_repeats_nothing(
    home: Home, broker: Broker, daemon: Daemon, runs: Runs
) -> None:
    names = [f"killed_{number}" for number in range(50)]
    for name in names:
        daemon.api.create(name, type="generic")
    before = len(daemon.lines())
    daemon.api.post("/rotate", {"names": names}).ok()
    daemon.sigkill()
    daemon.start().wait_bus()
    expected = ids(daemon, "secret.rotated", after=before)
    assert len(expected) == len(names)
    runs.wait("secret_rotated", expected)


def test_an_event_that_is_delivered_again_runs_nothing(home: Home, broker: Broker, daemon: Daemon, runs: Runs) -> None:
    data = {"name": "turning", "version": 9, "client": "admin", "reason": None, "urgent": False}
    events = [
        {"type": "jarvis.secretsd.secret.rotated", "id": f"a-log-{number}", "time": "", "data": data}
        for number in (1, 2, 3, 2, 3, 3, 4)
    ]
    published(broker, f"homeassistant/secretsd/{device_id(daemon.prefix, NODE)}/event", events)
    runs.wait("secret_rotated", [f"a-log-{number}" for number in (1, 2, 3, 4)])


def test_an_event_that_came_before_a_restart_of_home_assistant_runs_nothing_after_it(
    home: Home, broker: Broker, daemon: Daemon, runs: Runs
) -> None:
    data = {"name": "turning", "version": 9, "client": "admin", "reason": None, "urgent": False}
    event = {"type": "jarvis.secretsd.secret.rotated", "id": "b-log-7", "time": "", "data": data}
    topic = f"homeassistant/secretsd/{device_id(daemon.prefix, NODE)}/event"
    published(broker, topic, [event])
    runs.wait("secret_rotated", ["b-log-7"])
    home.restart()
    settled(home)
    published(broker, topic, [event, {**event, "id": "b-log-8"}])
    runs.wait("secret_rotated", ["b-log-7", "b-log-8"])


@pytest.fixture
def gone(daemon: Daemon) -> Iterator[Daemon]:
    """The daemon, to be ended; it runs again afterwards."""
    yield daemon
    daemon.start().wait_bus()


def test_a_daemon_that_stays_away_is_told_once_also_over_a_restart_of_home_assistant(
    home: Home, gone: Daemon, runs: Runs
) -> None:
    gone.sigkill()
    runs.wait("daemon_offline", ["offline"])
    home.restart()
    home.wait_state(f"binary_sensor.{DEVICE}_connection", "off")
    # What the time pattern does every five minutes.
    always(lambda: len(runs.of("daemon_offline")) == 1, "it is told again", during=LONGER_SECS)
    home.call("automation/trigger", entity_id="automation.daemon_offline", skip_condition=False)
    runs.wait("daemon_offline", ["offline"])


def test_a_daemon_that_went_while_home_assistant_was_away_is_told(home: Home, gone: Daemon, runs: Runs) -> None:
    home.stop()
    gone.sigkill()
    home.start()
    home.wait_state(f"binary_sensor.{DEVICE}_connection", "off")

    def told() -> bool:
        home.call("automation/trigger", entity_id="automation.daemon_offline", skip_condition=False)
        return bool(runs.of("daemon_offline"))

    eventually(told, "it is told")
    runs.wait("daemon_offline", ["offline"])

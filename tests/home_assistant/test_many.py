"""A thousand secrets: they don't flood Home Assistant, and what is shown of them follows the settings."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.home_assistant.home import PATIENCE_SECS, Home
from tests.home_assistant.runs import Runs, of_events
from tests.home_assistant.test_blueprints import ids
from tests.support.broker import Broker
from tests.support.daemon import Daemon
from tests.support.waiting import eventually

MANY = 1000
NODE = "many"


@pytest.fixture(scope="module")
def many(broker: Broker) -> Iterator[Daemon]:
    """A daemon with a thousand secrets that Home Assistant doesn't know yet."""
    daemon = Daemon(bus=broker.url, prefix="many/secretsd", config={"bus": {"node": NODE, "enabled": False}})
    with daemon:
        for number in range(MANY):
            daemon.api.create(f"n{number}", "v")
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


def test_of_a_thousand_secrets_a_hundred_are_shown_and_events_go_on_meanwhile(
    home: Home, daemon: Daemon, many: Daemon, runs: Runs
) -> None:
    home.automations([of_events("secret_rotated")])
    daemon.api.create("bystander", type="generic")
    before = len(daemon.lines())
    apply(many)
    home.wait_state(f"sensor.secretsd_{NODE}_secrets", str(MANY), hidden=MANY - 100)
    daemon.api.rotate("bystander")
    runs.wait("secret_rotated", ids(daemon, "secret.rotated", after=before))
    first = sorted(f"n{number}" for number in range(MANY))[:100]
    home.wait_state(f"sensor.secretsd_{NODE}_{first[-1]}_status", "active")
    assert shown(home) == first


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

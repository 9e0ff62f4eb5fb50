"""One Home Assistant, one broker and one daemon for all: a start takes seconds. Skipped where it can't be installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.home_assistant.home import Home
from tests.home_assistant.installation import CannotInstall, installed
from tests.home_assistant.runs import Runs
from tests.support.broker import Broker, saving_by_the_second
from tests.support.daemon import OPEN_POLICY, Daemon

POLICY: dict[str, Any] = {
    **OPEN_POLICY,
    "secrets": {"brief_*": {"type": "generic", "rotation_period": "6s", "grace_period": "2s"}},
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all that stands here; the first test may have to install Home Assistant."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.home_assistant)
            item.add_marker(pytest.mark.timeout(1500))


@pytest.fixture(scope="session")
def hass() -> Path:
    """The command that starts Home Assistant."""
    try:
        return installed()
    except CannotInstall as reason:
        pytest.skip(f"Home Assistant can't be installed here: {reason}")


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """A broker that anybody may use, and which a thousand secrets don't slow down."""
    running = saving_by_the_second().start()
    yield running
    running.close()


@pytest.fixture(scope="session")
def daemon(broker: Broker) -> Iterator[Daemon]:
    """The daemon that Home Assistant shows."""
    with Daemon(bus=broker.url, policy=POLICY, config={"homeassistant": {"secrets_most": 1000}}) as running:
        yield running.wait_bus()


@pytest.fixture(scope="session")
def home(hass: Path, broker: Broker, daemon: Daemon) -> Iterator[Home]:
    """Home Assistant, started, with the daemon's entities."""
    running = Home(hass, broker.port)
    try:
        running.start()
        running.wait_state("binary_sensor.secretsd_testnode_connection", "on")
        running.wait_state("binary_sensor.secretsd_testnode_problem", "off")
        running.wait_available("event.secretsd_testnode_events")
        yield running
    finally:
        running.close()


@pytest.fixture
def runs(broker: Broker, daemon: Daemon) -> Iterator[Runs]:
    """What the automations did."""
    with Runs(broker.url, daemon.keyring()) as listening:
        yield listening

"""A daemon of the test's own, and a real Mosquitto where it is installed."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.broker import Broker
from tests.unit.client.daemon import FakeDaemon
from tests.unit.client.world import World


@pytest.fixture
def world() -> World:
    """A client's state, and the time that it is told."""
    return World()


@pytest.fixture
async def daemon() -> AsyncIterator[FakeDaemon]:
    """A daemon without a bus, with one secret."""
    fake = FakeDaemon()
    fake.put("db", "first")
    await fake.start()
    yield fake
    await fake.close()


@pytest.fixture
def broker() -> Iterator[Broker]:
    """A running broker that lets everybody do everything, a hostile one included."""
    if shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin") is None:
        pytest.skip("mosquitto isn't installed")
    made = Broker().start()
    yield made
    made.close()


@pytest.fixture
async def bus_daemon(broker: Broker) -> AsyncIterator[FakeDaemon]:
    """A daemon with one secret that has said its first checkpoint on the broker."""
    fake = FakeDaemon(broker_url=broker.url)
    fake.put("db", "first")
    await fake.start()
    await fake.say_checkpoint()
    yield fake
    await fake.close()

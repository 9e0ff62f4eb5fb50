"""Real brokers for the link's tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.broker import Broker
from tests.support.tls import make_server_certificate

USERS = {"secretsd": "the daemon's", "backend": "a service's"}


def _needs_mosquitto() -> None:
    if shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin") is None:
        pytest.skip("needs the program mosquitto")


def _running(broker: Broker) -> Iterator[Broker]:
    try:
        yield broker.start()
    finally:
        broker.close()


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    """A broker in which anybody may do anything, and which keeps nothing on disk: thousands of messages pass fast."""
    _needs_mosquitto()
    broker = Broker()
    configuration = broker.directory / "mosquitto.conf"
    configuration.write_text(configuration.read_text().replace("persistence true", "persistence false"))
    yield from _running(broker)


@pytest.fixture
def mortal_broker() -> Iterator[Broker]:
    """The same, for a test that kills it."""
    _needs_mosquitto()
    yield from _running(Broker())


@pytest.fixture(scope="module")
def strict_broker() -> Iterator[Broker]:
    """A broker with the project's ACL and the passwords of USERS."""
    _needs_mosquitto()
    yield from _running(Broker(access="acl", users=USERS))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A certificate authority and a server's certificate by it."""
    return make_server_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def tls_broker(authority: dict[str, Path]) -> Iterator[Broker]:
    """A broker that speaks TLS only."""
    _needs_mosquitto()
    yield from _running(Broker(tls=authority))

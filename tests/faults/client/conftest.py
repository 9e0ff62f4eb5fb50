"""Fixtures: a broker for all, a proxy before it for each test, a daemon for each module, services that end."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.faults.client.service import INTERVAL_SECS, POLICY, NewService, Service, settings_for
from tests.support.broker import Broker
from tests.support.daemon import Daemon
from tests.support.http import Api
from tests.support.mqtt_proxy import MqttProxy

_numbers = itertools.count(1)


@pytest.fixture
def proxy(broker: Broker) -> Iterator[MqttProxy]:
    with MqttProxy(broker.port) as running:
        yield running


def _daemon(broker: Broker, **bus: Any) -> Daemon:
    settings = {"checkpoint_secs": int(INTERVAL_SECS), **bus}
    return Daemon(bus=broker.url, prefix=f"faults/c{next(_numbers)}", policy=POLICY, config={"bus": settings})


@pytest.fixture(scope="module")
def daemon(broker: Broker) -> Iterator[Daemon]:
    """A daemon that the module's tests share and leave running."""
    with _daemon(broker) as running:
        yield running.wait_bus()


@pytest.fixture
def new_daemon(broker: Broker) -> Iterator[Callable[..., Daemon]]:
    """Start daemons for one test: `new_daemon()`; other broker and `[bus]` settings may be given."""
    made: list[Daemon] = []

    def make(at: Broker = broker, **bus: Any) -> Daemon:
        made.append(_daemon(at, **bus))
        return made[-1].start().wait_bus()

    yield make
    for daemon in made:
        daemon.close()


@pytest.fixture
def api(daemon: Daemon) -> Api:
    return daemon.api


@pytest.fixture
def new_service(proxy: MqttProxy) -> Iterator[NewService]:
    """Make services that listen through the proxy: `new_service(daemon, **settings)`."""
    made: list[Service] = []

    def make(daemon: Daemon, *, mqtt_url: str | None = None, **settings: Any) -> Service:
        made.append(Service(daemon, settings_for(daemon, mqtt_url or proxy.url, **settings)))
        return made[-1]

    yield make
    for service in made:
        service.client.close()


@pytest.fixture
def name() -> str:
    """A secret's name that no other test uses."""
    return f"n{next(_numbers)}"

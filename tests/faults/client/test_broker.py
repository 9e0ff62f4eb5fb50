"""A broker that is silent, frozen, dead, grudging or too small: staleness is bounded whoever fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from secretsd_client import Times

from tests.faults.client.service import BOUND_SECS, HEARD_ONLY, NewService
from tests.support.broker import Broker
from tests.support.daemon import Daemon
from tests.support.http import Api
from tests.support.mqtt_packets import SUBACK, Packet
from tests.support.mqtt_proxy import MqttProxy, on
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

NOT_AUTHORISED = 0x87
QUICK = {"times": Times(ttl_silent=1.0), "timeout_secs": 1.0}


@pytest.fixture
def own_broker() -> Iterator[Broker]:
    running = Broker().start()
    yield running
    running.close()


def test_a_broker_that_delivers_nothing_from_the_start(
    daemon: Daemon, api: Api, proxy: MqttProxy, new_service: NewService, name: str
) -> None:
    dropped = proxy.drop()
    api.create(name, "one")
    service = new_service(daemon)
    (told,) = service.follow(name)
    assert service.client.wait_ready()
    for version, value in [(2, "two"), (3, "three")]:
        api.update(name, value)
        service.serves(name, value)
        told.wait(version)
    assert dropped.met
    assert service.stat("verified") == 0
    assert not service.vouched()


def test_a_broker_that_falls_silent(
    daemon: Daemon, api: Api, proxy: MqttProxy, new_service: NewService, name: str
) -> None:
    api.create(name, "one")
    service = new_service(daemon)
    (told,) = service.follow(name)
    service.settle()
    silence = proxy.drop()
    api.update(name, "two")
    service.serves(name, "two")
    told.wait(2)
    silence.stop()
    eventually(service.vouched, "the bus vouches again", within=BOUND_SECS)


def test_a_broker_that_takes_connections_and_never_says_a_byte(
    daemon: Daemon, api: Api, proxy: MqttProxy, new_service: NewService, name: str
) -> None:
    proxy.freeze()
    api.create(name, "one")
    service = new_service(daemon)
    (told,) = service.follow(name)
    api.update(name, "two")
    service.serves(name, "two")
    told.wait(2)
    proxy.cut()
    proxy.thaw()
    service.settle()


def test_a_broker_that_freezes_under_the_client(
    daemon: Daemon, api: Api, proxy: MqttProxy, new_service: NewService, name: str
) -> None:
    api.create(name, "one")
    service = new_service(daemon)
    (told,) = service.follow(name)
    service.settle()
    proxy.freeze()
    api.update(name, "two")
    service.serves(name, "two")
    told.wait(2)
    proxy.thaw()
    service.counts("repeated", 2)
    eventually(service.vouched, "the bus vouches again", within=BOUND_SECS)
    assert told.versions == [2]


def test_a_broker_that_answers_no_subscription_is_given_up_and_tried_again(
    daemon: Daemon, api: Api, proxy: MqttProxy, new_service: NewService, name: str
) -> None:
    proxy.change(SUBACK, lambda _: None)
    api.create(name, "one")
    service = new_service(daemon, **QUICK)
    (told,) = service.follow(name)
    eventually(lambda: proxy.accepted >= 2, "the client tries another connection", within=BOUND_SECS)
    api.update(name, "two")
    service.serves(name, "two")
    told.wait(2)
    proxy.change(SUBACK, lambda packet: packet)
    service.settle()


def test_a_broker_that_refuses_a_secret_s_topics_costs_the_hint_and_not_the_checkpoint(
    daemon: Daemon, api: Api, proxy: MqttProxy, new_service: NewService, name: str
) -> None:
    seen = []

    def refuse_all_but_the_first(packet: Packet) -> Packet:
        """Refuse every filter of the names: the first SUBACK is that of the checkpoint."""
        seen.append(packet)
        if len(seen) == 1:
            return packet
        granted = packet.body.count(1, 3)  # after the number and no properties: a code for each filter
        return Packet(packet.first, packet.body[:3] + bytes([NOT_AUTHORISED]) * granted)

    proxy.change(SUBACK, refuse_all_but_the_first)
    proxy.drop(on("*/secret/*"))
    api.create(name, "one")
    service = new_service(daemon, times=HEARD_ONLY)
    (told,) = service.follow(name)
    service.settle()
    api.update(name, "two")
    told.wait(2)
    service.serves(name, "two")
    assert service.stat("subscriptions_refused") >= 1
    assert proxy.accepted == 1


def test_a_broker_that_dies_and_comes_back(
    own_broker: Broker, new_daemon: Callable[..., Daemon], new_service: NewService, name: str
) -> None:
    daemon = new_daemon(own_broker)
    daemon.api.create(name, "one")
    service = new_service(daemon, mqtt_url=own_broker.url)
    (told,) = service.follow(name)
    service.settle()
    own_broker.kill()
    daemon.api.update(name, "two")
    service.serves(name, "two")
    told.wait(2)
    own_broker.start()
    service.settle()
    daemon.wait_bus()
    daemon.api.update(name, "three")
    told.wait(3)
    service.serves(name, "three")
    assert service.stat("bus_connects") >= 2


def test_a_broker_s_connections_that_break_again_and_again(
    daemon: Daemon, api: Api, proxy: MqttProxy, new_service: NewService, name: str
) -> None:
    api.create(name, "one")
    service = new_service(daemon)
    (told,) = service.follow(name)
    for version in range(2, 6):
        service.settle()
        proxy.cut()
        api.update(name, f"v{version}")
        service.serves(name, f"v{version}")
        told.wait(version)
    service.settle()

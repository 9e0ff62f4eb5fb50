"""A thousand names changed at once, on a Mosquitto with its default limits: it loses messages and says nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.faults.client.service import HEARD_ONLY, NewService, metric
from tests.support.broker import Broker
from tests.support.daemon import NODE, Daemon
from tests.support.mqtt_proxy import MqttProxy
from tests.support.waiting import eventually

COUNT = 1000
NAMES = [f"many{number}" for number in range(COUNT)]
MESSAGES = 2 * COUNT
"""An event and a state for each name."""
OWED = 'secretsd_owed_events{lane="changes"}'


@pytest.fixture
def small_broker() -> Iterator[Broker]:
    running = Broker(default_limits=True).start()
    yield running
    running.close()


def test_all_of_them_heal_within_one_checkpoint_interval(
    small_broker: Broker, new_daemon: Callable[..., Daemon], new_service: NewService
) -> None:
    daemon = new_daemon(small_broker)
    for name in NAMES:
        daemon.api.create(name)
    with MqttProxy(small_broker.port) as proxy:
        service = new_service(daemon, mqtt_url=proxy.url, times=HEARD_ONLY)
        told = service.follow(*NAMES)
        service.settle()
        service.rest()
        eventually(lambda: len(proxy.heard_on("*/state")) >= COUNT, "the retained states have come")
        before, fetches, asked = len(proxy.heard), service.stat("fetches"), service.stat("changes_asked")

        proxy.freeze("down")  # a subscriber too slow for a moment: the broker's queue for it runs over
        with daemon.tap(filters=[f"{daemon.prefix}/checkpoint/{NODE}"]) as tap:
            rotated = daemon.api.rotate(*NAMES)
            generation = rotated[0]["generation"]
            tap.wait_event(lambda event: event.data["generation"] >= generation, "the checkpoint of the change")
        eventually(lambda: metric(daemon, OWED) == 0, "the broker has taken everything")
        proxy.thaw()
        for each in told:
            each.wait(2)
        service.rest()
        eventually(service.vouched, "the bus vouches again")
        heard = [message for message in proxy.heard[before:] if "/secret/" in message.topic]
        values = {name: service.client.get_secret(name) for name in NAMES}
    assert len(heard) < MESSAGES, "the broker lost nothing: the test proves nothing"
    assert len(rotated) == COUNT
    assert values == {name: daemon.api.value(name) for name in NAMES}
    assert service.stat("fetches") - fetches == COUNT
    assert service.stat("changes_asked") - asked <= 2
    assert all(each.versions == [2] for each in told)

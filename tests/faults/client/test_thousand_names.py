"""A thousand names changed at once, on a Mosquitto with its default limits: it loses messages and says nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest

from tests.faults.client.service import HEARD_ONLY, NewService, metric
from tests.support.broker import Broker
from tests.support.daemon import NODE, Daemon
from tests.support.mqtt_proxy import MqttProxy
from tests.support.waiting import eventually

OWED = 'secretsd_owed_events{lane="changes"}'


@pytest.mark.parametrize(
    ("count", "queued"),
    [
        pytest.param(100, 50, id="a hundred names, a queue of fifty"),
        pytest.param(1000, None, id="a thousand names, the default limits", marks=pytest.mark.slow),
    ],
)
def test_all_of_them_heal_within_one_checkpoint_interval(
    new_daemon: Callable[..., Daemon], new_service: NewService, count: int, queued: int | None
) -> None:
    with contextlib.closing(Broker(default_limits=True, queued=queued).start()) as small_broker:
        heal(small_broker, new_daemon, new_service, [f"many{number}" for number in range(count)])


def heal(small_broker: Broker, new_daemon: Callable[..., Daemon], new_service: NewService, names: list[str]) -> None:
    daemon = new_daemon(small_broker)
    for name in names:
        daemon.api.create(name)
    with MqttProxy(small_broker.port) as proxy:
        service = new_service(daemon, mqtt_url=proxy.url, times=HEARD_ONLY)
        told = service.follow(*names)
        service.settle()
        service.rest()
        eventually(lambda: len(proxy.heard_on("*/state")) >= len(names), "the retained states have come")
        before, fetches, asked = len(proxy.heard), service.stat("fetches"), service.stat("changes_asked")

        proxy.freeze("down")  # a subscriber too slow for a moment: the broker's queue for it runs over
        with daemon.tap(filters=[f"{daemon.prefix}/checkpoint/{NODE}"]) as tap:
            rotated = daemon.api.rotate(*names)
            generation = rotated[0]["generation"]
            tap.wait_event(lambda event: event.data["generation"] >= generation, "the checkpoint of the change")
        eventually(lambda: metric(daemon, OWED) == 0, "the broker has taken everything")
        proxy.thaw()
        for each in told:
            each.wait(2)
        service.rest()
        eventually(service.vouched, "the bus vouches again")
        heard = [message for message in proxy.heard[before:] if "/secret/" in message.topic]
        values = {name: service.client.get_secret(name) for name in names}
    # An event and a state for each name.
    assert len(heard) < 2 * len(names), "the broker lost nothing: the test proves nothing"
    assert len(rotated) == len(names)
    assert values == {name: daemon.api.value(name) for name in names}
    assert service.stat("fetches") - fetches == len(names)
    assert service.stat("changes_asked") - asked <= 2
    assert all(each.versions == [2] for each in told)

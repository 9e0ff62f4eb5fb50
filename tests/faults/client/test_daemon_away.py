"""The daemon dead: what is served marked stale and how long, and what is not served at any price."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from secretsd_bus import parse_time
from secretsd_client import SecretsUnavailable, Times

from tests.faults.client.service import HEARD_ONLY, NewService, Service, Told
from tests.support.daemon import Daemon
from tests.support.mqtt_packets import Publish
from tests.support.mqtt_proxy import Meddling, MqttProxy
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

NewDaemon = Callable[..., Daemon]


@pytest.fixture
def daemon(new_daemon: NewDaemon) -> Daemon:
    return new_daemon()


class Superseded:
    """Secrets that have changed just before the daemon died: the service has heard, and couldn't ask."""

    def __init__(self, daemon: Daemon, proxy: MqttProxy, service: Service, *names: str) -> None:
        self._daemon = daemon
        self._service = service
        for name in names:
            daemon.api.create(name, f"old {name}")
        self.told = service.follow(*names)
        service.settle()
        self._held: Meddling = proxy.hold()

    def by(self, change: Callable[[], object], count: int = 1) -> list[Told]:
        """Make the change, end the daemon, and let the service hear of `count` changed names."""
        change()
        # Not just so many messages: retained states and a checkpoint may come late, of what was before.
        eventually(lambda: sum(map(is_change, list(self._held.met))) >= count, f"{count} change(s) reach the proxy")
        self._daemon.sigkill()
        self._held.release()
        self._service.counts("superseded", count)
        return self.told


def is_change(message: Publish) -> bool:
    """Tell whether this is the event of a secret's change; that of its creation may come late, like a state."""
    return "/secret/" in message.topic and not message.topic.endswith(("/state", "/created"))


def test_what_nothing_newer_is_known_of_is_served_stale_and_the_rest_is_unavailable(
    daemon: Daemon, new_service: NewService, name: str
) -> None:
    daemon.api.create(name, "one")
    daemon.api.create(f"{name}-unread", "never read")
    service = new_service(daemon)
    (told,) = service.follow(name)
    service.settle()
    assert service.client.get(name).stale is False
    daemon.sigkill()
    eventually(lambda: service.client.get(name).stale, "the value is marked stale")
    assert service.client.get_secret(name) == "one"
    assert service.stat("served_stale") >= 1
    with pytest.raises(SecretsUnavailable):
        service.client.get_secret(f"{name}-unread")

    daemon.start().wait_bus()
    eventually(lambda: not service.client.get(name).stale, "the daemon is found again")
    assert service.client.get_secret(name) == "one"
    daemon.api.update(name, "two")
    told.wait(2)
    assert told.versions == [2]


def test_after_max_stale_nothing_is_served(daemon: Daemon, new_service: NewService, name: str) -> None:
    daemon.api.create(name, "one")
    service = new_service(daemon, times=Times(ttl_silent=0.5, max_stale=4.0))
    service.client.get_secret(name)
    service.settle()
    daemon.sigkill()
    eventually(lambda: service.client.get(name).stale, "the value is marked stale")
    service.refuses(name, SecretsUnavailable)


def test_a_superseded_value_is_served_within_its_grace_and_not_after(
    daemon: Daemon, proxy: MqttProxy, new_service: NewService, name: str
) -> None:
    long, brief = f"long_{name}", f"brief_{name}"
    service = new_service(daemon, times=HEARD_ONLY)
    told = Superseded(daemon, proxy, service, long, brief).by(lambda: daemon.api.rotate(long, brief), 2)
    service.refuses(brief, SecretsUnavailable)
    secret = service.client.get(long)
    assert (secret.value, secret.version, secret.stale) == (f"old {long}", 1, True)
    assert service.stat("served_stale") >= 1
    assert [each.versions for each in told] == [[], []]

    daemon.start()
    for each in told:
        each.wait(2)
        assert service.client.get(each.name).stale is False
        assert service.client.get_secret(each.name) == daemon.api.value(each.name)


@pytest.mark.parametrize("how", ["urgent", "without-grace", "deleted"])
def test_a_value_superseded_for_good_is_never_served(
    daemon: Daemon, proxy: MqttProxy, new_service: NewService, name: str, how: str
) -> None:
    gone, kept = f"{'none' if how == 'without-grace' else 'long'}_{name}", f"long_{name}_kept"
    service = new_service(daemon, times=HEARD_ONLY)
    changes: dict[str, Callable[[], object]] = {
        "urgent": lambda: daemon.api.rotate(gone, urgent=True),
        "without-grace": lambda: daemon.api.rotate(gone),
        "deleted": lambda: daemon.api.delete(f"/secret/{gone}").ok(204),
    }
    Superseded(daemon, proxy, service, gone, kept).by(changes[how])
    for _ in range(50):
        with pytest.raises(SecretsUnavailable):
            service.client.get(gone)
    assert service.client.get_secret(kept) == f"old {kept}"
    assert service.stat("served_stale") == 0


def test_an_urgent_rotation_ends_the_grace_of_what_was_superseded_before(
    daemon: Daemon, proxy: MqttProxy, new_service: NewService, name: str
) -> None:
    service = new_service(daemon, times=HEARD_ONLY)
    name = f"long_{name}"

    def rotate_twice() -> None:
        daemon.api.rotate(name)
        proxy.wait_state(name, 2)
        daemon.api.rotate(name, urgent=True)
        proxy.wait_state(name, 3)

    Superseded(daemon, proxy, service, name).by(rotate_twice)
    service.refuses(name, SecretsUnavailable)


def test_no_superseded_value_is_served_past_its_grace_however_late_the_news_came(
    daemon: Daemon, proxy: MqttProxy, new_service: NewService, name: str
) -> None:
    name = f"short_{name}"
    service = new_service(daemon, times=HEARD_ONLY)
    superseded = Superseded(daemon, proxy, service, name)

    def late_in_a_second() -> bool:
        """The Date of an answer names whole seconds: make the most of what it leaves out."""
        began = time.time()
        service.client.clear_cache()
        service.client.get_secret(name)
        return 0.6 < began % 1 < time.time() % 1

    eventually(late_in_a_second, "an answer comes late in a second")
    grace_until = 0.0

    def rotate_and_keep_it_back() -> None:
        nonlocal grace_until
        (rotated,) = daemon.api.rotate(name)
        grace_until = parse_time(rotated["previous"]["grace_until"]) / 1000
        checkpoints = len(proxy.heard_on("*/checkpoint/*"))
        proxy.wait_heard("*/checkpoint/*", count=checkpoints + 2)

    superseded.by(rotate_and_keep_it_back)
    served = 0
    while True:
        asked_at = time.time()  # of this machine, which is the daemon's too
        try:
            service.client.get_secret(name)
        except SecretsUnavailable:
            break
        served += 1
        assert asked_at < grace_until
    assert served or time.time() > grace_until - 2.0

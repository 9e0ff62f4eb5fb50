"""A fetch that races a rotation, answers that come late, and a daemon that is slow."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.faults.client.service import HEARD_ONLY, NewService, Told
from tests.support.daemon import Daemon
from tests.support.http import Api
from tests.support.mqtt_proxy import MqttProxy
from tests.support.relay import Relay
from tests.support.waiting import PATIENCE_SECS, eventually


@pytest.fixture
def gate(daemon: Daemon) -> Iterator[Relay]:
    """HTTP to the daemon goes through this one."""
    with Relay(daemon.port) as running:
        yield running


def reads(daemon: Daemon, name: str) -> int:
    """Return how often the daemon has answered for `name` to our service."""
    return sum(event["data"]["name"] == name for event in daemon.events("secret.read"))


class Reader(threading.Thread):
    """A read on a thread of its own."""

    def __init__(self, get: object, name: str) -> None:
        super().__init__(daemon=True)
        assert callable(get)
        self._get = get
        self._name = name
        self.value: str | None = None
        self.start()

    def run(self) -> None:
        self.value = self._get(self._name)

    def result(self) -> str | None:
        self.join(PATIENCE_SECS)
        return self.value


@pytest.mark.parametrize("order", ["event-first", "answer-first"])
def test_an_answer_overtaken_by_a_rotation_does_not_count(
    daemon: Daemon, api: Api, proxy: MqttProxy, gate: Relay, new_service: NewService, name: str, order: str
) -> None:
    api.create(name, "one")
    service = new_service(daemon, url=f"http://127.0.0.1:{gate.port}", times=HEARD_ONLY)
    (told,) = service.follow(name)
    service.settle()
    service.rest()
    held = proxy.hold()
    service.client.clear_cache()
    before = reads(daemon, name)
    gate.freeze("down")
    readers = [Reader(service.client.get_secret, name) for _ in range(20)]
    eventually(lambda: reads(daemon, name) == before + 1, "the daemon has answered with the old value")
    api.update(name, "two")
    held.wait(3)
    if order == "event-first":
        verified = service.stat("verified")
        held.release()
        service.counts("verified", verified + 3)
        gate.thaw()
        assert {reader.result() for reader in readers} == {"two"}
    else:
        gate.thaw()
        assert {reader.result() for reader in readers} == {"one"}
        held.release()
    told.wait(2)
    service.serves(name, "two")
    service.rest()
    assert told.versions == [2]
    assert reads(daemon, name) == before + 2  # twenty readers, one request for each version


def test_rotations_as_fast_as_they_come_end_with_the_last_one(
    daemon: Daemon, api: Api, new_service: NewService, name: str
) -> None:
    api.create(name, "v1")
    service = new_service(daemon, times=HEARD_ONLY)
    (told,) = service.follow(name)
    service.settle()
    for version in range(2, 42):
        api.update(name, f"v{version}")
    told.wait(41)
    service.serves(name, "v41")
    service.rest()
    assert told.versions[-1] == 41


def test_a_reader_never_sees_a_version_go_back(daemon: Daemon, api: Api, new_service: NewService, name: str) -> None:
    api.create(name, "1")
    service = new_service(daemon, times=HEARD_ONLY)
    service.follow(name)
    service.settle()
    done = threading.Event()
    seen: list[int] = []

    def read() -> None:
        while not done.is_set():
            seen.append(int(service.client.get_secret(name)))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    for version in range(2, 32):
        api.update(name, str(version))
    service.serves(name, "31")
    done.set()
    reader.join(PATIENCE_SECS)
    assert seen == sorted(seen)
    assert len(set(seen)) > 1


def test_a_rotation_between_a_read_and_on_change_is_told(
    daemon: Daemon, api: Api, new_service: NewService, name: str
) -> None:
    api.create(name, "one")
    service = new_service(daemon, times=HEARD_ONLY)
    assert service.client.get_secret(name) == "one"
    service.settle()
    api.update(name, "two")
    service.counts("fetches", 2)  # in the background: nobody was given it
    told = Told(service.client, name)
    told.wait(2)
    api.update(name, "three")
    told.wait(3)

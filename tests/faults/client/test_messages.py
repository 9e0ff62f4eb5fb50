"""What a broker or a neighbour may do to single messages: the client serves the right value, and is told once."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from secretsd_bus import SigningKey, key_rotated

from tests.faults.client.service import HEARD_ONLY, NewService, Service, Told
from tests.support.daemon import NODE, Daemon
from tests.support.forging import changed_after_signing, resign, unsigned
from tests.support.http import Api
from tests.support.mqtt_proxy import MqttProxy, Publish, everything, on

AHEAD = 1_000_000
"""A generation that the daemon of the test never comes to."""


@pytest.fixture
def service(daemon: Daemon, new_service: NewService) -> Service:
    """A service that only the bus can tell of a change."""
    return new_service(daemon, times=HEARD_ONLY)


@pytest.fixture
def told(service: Service, api: Api, name: str) -> Told:
    """The service watches `name`, version 1, and everything has come to rest."""
    api.create(name, "one")
    (told,) = service.follow(name)
    service.settle()
    return told


def about(name: str) -> Callable[[Publish], bool]:
    return on(f"*/secret/{name}/*")


def checkpoints() -> Callable[[Publish], bool]:
    return on("*/checkpoint/*")


def test_an_event_comes_through_and_is_told_once(service: Service, told: Told, api: Api, name: str) -> None:
    api.update(name, "two")
    told.wait(2)
    service.serves(name, "two")
    assert service.stat("superseded") == 1
    service.counts("repeated", 1)  # the state says the same as the event
    assert service.stat("fetches") == 2
    assert told.versions == [2]
    service.counts("callbacks", 1)


def test_a_dropped_event_is_healed_by_the_checkpoint(
    service: Service, told: Told, api: Api, proxy: MqttProxy, name: str
) -> None:
    dropped = proxy.drop(about(name))
    asked = service.stat("changes_asked")
    api.update(name, "two")
    told.wait(2)
    service.serves(name, "two")
    dropped.wait(2)
    service.rest()
    assert service.stat("changes_asked") == asked + 1
    assert service.stat("superseded") == 1


def test_dropped_events_and_their_checkpoint_are_healed_by_the_next_one(
    service: Service, told: Told, api: Api, proxy: MqttProxy, name: str
) -> None:
    dropped = proxy.drop()
    api.update(name, "two")
    dropped.wait(3)  # event, state, and the checkpoint that came at once
    dropped.stop()
    told.wait(2)
    service.serves(name, "two")


def test_a_delayed_event_comes_after_the_checkpoint_has_healed_it_and_changes_nothing(
    service: Service, told: Told, api: Api, proxy: MqttProxy, name: str
) -> None:
    held = proxy.hold(about(name))
    api.update(name, "two")
    told.wait(2)
    held.wait(2)
    repeated, fetches = service.stat("repeated"), service.stat("fetches")
    held.release()
    service.counts("repeated", repeated + 2)
    service.serves(name, "two")
    assert service.stat("fetches") == fetches
    assert told.versions == [2]


def test_duplicated_messages_are_told_once(service: Service, told: Told, api: Api, proxy: MqttProxy, name: str) -> None:
    proxy.repeat(everything, times=5)
    for version, value in [(2, "two"), (3, "three")]:
        api.update(name, value)
        told.wait(version)
    service.serves(name, "three")
    service.counts("repeated", 2 * (5 + 5 - 1))
    assert service.stat("superseded") == 2
    assert told.versions == [2, 3]


def test_reordered_messages_lead_to_the_newest_version(
    service: Service, told: Told, api: Api, proxy: MqttProxy, name: str
) -> None:
    proxy.wait_state(name, 1)
    held, before = proxy.hold(), len(proxy.heard_on(f"*/secret/{name}/*"))
    for value in ("two", "three", "four"):
        api.update(name, value)
    proxy.wait_state(name, 4)
    proxy.wait_heard(f"*/secret/{name}/updated", count=3)
    of_it = len(proxy.heard_on(f"*/secret/{name}/*")) - before
    held.release(backwards=True)
    told.wait(4)
    service.serves(name, "four")
    service.counts("repeated", of_it - 1)
    assert service.stat("superseded") == 1


def test_replayed_messages_change_nothing(service: Service, told: Told, api: Api, proxy: MqttProxy, name: str) -> None:
    for version, value in [(2, "two"), (3, "three")]:
        api.update(name, value)
        told.wait(version)
    proxy.wait_state(name, 3)
    service.rest()
    old = proxy.heard_on(f"*/secret/{name}/*")
    repeated, fetches, asked = (service.stat(counter) for counter in ("repeated", "fetches", "changes_asked"))
    for _ in range(10):
        proxy.inject(*old)
    service.counts("repeated", repeated + 10 * len(old))
    assert (service.stat("fetches"), service.stat("changes_asked")) == (fetches, asked)
    assert told.versions == [2, 3]
    assert service.client.get_secret(name) == "three"


def test_a_version_that_is_fetched_again_is_not_told_again(service: Service, told: Told, api: Api, name: str) -> None:
    api.update(name, "two")
    told.wait(2)
    service.rest()
    for _ in range(3):
        service.client.clear_cache()
        assert service.client.get_secret(name) == "two"
    api.update(name, "three")
    told.wait(3)
    service.counts("callbacks", 2)
    assert told.versions == [2, 3]


FORGERIES: dict[str, tuple[str, Callable[[bytes, SigningKey], bytes]]] = {
    "by-another-key": ("unknown-key", lambda real, stranger: resign(real, stranger, generation=AHEAD)),
    "by-another-key-in-the-daemon-s-name": (
        "bad-signature",
        lambda real, stranger: resign(real, stranger, keyid=keyid_of(real), generation=AHEAD),
    ),
    "changed-after-signing": ("bad-signature", lambda real, _: changed_after_signing(real, generation=AHEAD)),
    "unsigned": ("not-canonical", lambda real, _: unsigned(real, generation=AHEAD)),
    "with-a-space": ("not-canonical", lambda real, _: real.replace(b":", b": ", 1)),
    "cut-off": ("not-json", lambda real, _: real[:-1]),
    "empty": ("not-json", lambda real, _: b""),
}


def keyid_of(payload: bytes) -> str:
    keyid: str = json.loads(payload)["keyid"]
    return keyid


@pytest.mark.parametrize("forgery", FORGERIES)
@pytest.mark.parametrize("kind", ["secret/{name}/state", "secret/{name}/updated", "checkpoint/{node}", "status/{node}"])
def test_a_forged_message_has_no_effect_but_a_counter(
    service: Service, told: Told, api: Api, daemon: Daemon, proxy: MqttProxy, name: str, forgery: str, kind: str
) -> None:
    api.update(name, "two")
    told.wait(2)
    topic = f"{daemon.prefix}/{kind.format(name=name, node=NODE)}"
    real = proxy.wait_heard(topic)[-1].payload
    slug, forge = FORGERIES[forgery]
    service.rest()
    fetches, asked = service.stat("fetches"), service.stat("changes_asked")
    proxy.inject(Publish(topic, forge(real, SigningKey.generate())))
    service.counts(f"refused_{slug.replace('-', '_')}", 1)
    assert service.stat("refused") == 1
    assert (service.stat("fetches"), service.stat("changes_asked")) == (fetches, asked)
    assert service.client.get_secret(name) == "two"
    assert told.versions == [2]


def test_a_stranger_s_key_is_not_followed(
    service: Service, told: Told, api: Api, daemon: Daemon, proxy: MqttProxy, name: str
) -> None:
    stranger = SigningKey.generate()
    api.update(name, "two")
    told.wait(2)
    real = proxy.wait_heard(f"*/secret/{name}/updated")[-1].payload
    rotation = resign(real, stranger, **key_rotated(stranger)).replace(b"secret.updated", b"audit.key_rotated")
    proxy.inject(Publish(f"{daemon.prefix}/audit/audit/key_rotated", rotation))
    service.counts("refused_unknown_key", 1)
    proxy.inject(Publish(f"{daemon.prefix}/secret/{name}/updated", resign(real, stranger, generation=AHEAD)))
    service.counts("refused_unknown_key", 2)
    assert service.stat("keys_followed") == 0
    assert service.client.get_secret(name) == "two"


def test_an_event_moved_to_another_topic_is_refused_and_healed(
    service: Service, told: Told, api: Api, daemon: Daemon, proxy: MqttProxy, name: str
) -> None:
    other = f"{name}-other"
    api.create(other, "other one")
    (told_other,) = service.follow(other)
    proxy.wait_heard(f"*/secret/{other}/state")
    moved = proxy.move(about(name), f"{daemon.prefix}/secret/{other}/updated")
    api.update(name, "two")
    told.wait(2)
    service.serves(name, "two")
    moved.wait(2)
    service.counts("refused_wrong_topic", 2)
    assert told_other.versions == []
    assert service.client.get_secret(other) == "other one"


def test_an_event_on_a_topic_of_another_kind_is_refused(
    service: Service, told: Told, api: Api, daemon: Daemon, proxy: MqttProxy, name: str
) -> None:
    held = proxy.drop()
    api.update(name, "two")
    held.wait(3)
    event, state = (proxy.wait_heard(f"*/secret/{name}/{kind}")[-1] for kind in ("updated", "state"))
    for topic, payload in [("state", event.payload), ("updated", state.payload), ("deleted", event.payload)]:
        proxy.inject(Publish(f"{daemon.prefix}/secret/{name}/{topic}", payload))
    service.counts("refused_wrong_topic", 3)
    assert service.stat("superseded") == 0
    proxy.inject(event)  # it was good on its own
    told.wait(2)

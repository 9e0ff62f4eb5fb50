"""The event-signing key rotated under the client: followed when it is told, survived when it isn't.

The daemon keeps its key here; the proxy signs everything it says with a new one, after an `audit.key_rotated` by the
daemon's own key has told of it.
"""

from __future__ import annotations

import json

import pytest
from secretsd_bus import PREFIX, SigningKey, key_rotated

from tests.faults.client.service import HEARD_ONLY, QUICK, NewService
from tests.support.daemon import Daemon
from tests.support.forging import resign
from tests.support.http import Api
from tests.support.mqtt_proxy import MqttProxy, Publish, everything
from tests.support.waiting import eventually


@pytest.fixture
def old(daemon: Daemon) -> SigningKey:
    """The daemon's signing key."""
    return SigningKey.from_pem(daemon.audit_path.with_name("audit.sign.key").read_bytes())


@pytest.fixture
def new() -> SigningKey:
    return SigningKey.generate()


def told_of(daemon: Daemon, old: SigningKey, new: SigningKey, *, by: SigningKey | None = None) -> Publish:
    """Return what announces `new`, signed by `old`; `by` signs inside instead of the new key itself."""
    line = daemon.lines()[-1]
    data = key_rotated(new) if by is None else {**key_rotated(new), "proof": key_rotated(by)["proof"]}
    event = {**line, "type": f"{PREFIX}audit.key_rotated", "data": data, "sequence": f"{10**9:020}"}
    event.pop("subject", None)
    payload = resign(json.dumps(event).encode(), old)
    return Publish(f"{daemon.prefix}/audit/audit/key_rotated", payload)


@pytest.mark.parametrize("pinned", [True, False])
def test_a_rotated_key_is_followed_and_events_by_it_count(
    daemon: Daemon,
    api: Api,
    proxy: MqttProxy,
    new_service: NewService,
    name: str,
    old: SigningKey,
    new: SigningKey,
    pinned: bool,
) -> None:
    api.create(name, "one")
    service = new_service(daemon, times=HEARD_ONLY, **({} if pinned else {"pubkey": None}))
    (told,) = service.follow(name)
    service.settle()
    rotation = told_of(daemon, old, new)
    proxy.inject(rotation)
    service.counts("keys_followed", 1)
    proxy.rewrite(everything, lambda payload: resign(payload, new))
    for version in (2, 3):
        api.update(name, f"v{version}")
        told.wait(version)
        service.serves(name, f"v{version}")
    service.rest()
    assert service.stat("refused") == 0
    repeated = service.stat("repeated")
    proxy.inject(Publish(rotation.topic, resign(rotation.payload, new)), rotation)  # said again, they lead nowhere
    service.counts("repeated", repeated + 2)
    assert service.stat("keys_followed") == 1


def test_a_key_that_does_not_agree_to_be_the_next_one_is_not_followed(
    daemon: Daemon, api: Api, proxy: MqttProxy, new_service: NewService, name: str, old: SigningKey, new: SigningKey
) -> None:
    api.create(name, "one")
    service = new_service(daemon, times=HEARD_ONLY)
    (told,) = service.follow(name)
    service.settle()
    proxy.inject(told_of(daemon, old, new, by=SigningKey.generate()))
    service.counts("keys_not_followed", 1)
    api.update(name, "two")
    told.wait(2)
    real = proxy.wait_state(name, 2)
    proxy.inject(Publish(real.topic, resign(real.payload, new, generation=10**6)))
    service.counts("refused_unknown_key", 1)
    assert service.stat("keys_followed") == 0
    service.serves(name, "two")


@pytest.mark.parametrize("pinned", [True, False])
def test_a_key_rotated_unheard_costs_the_hints_and_no_correctness(
    daemon: Daemon, api: Api, proxy: MqttProxy, new_service: NewService, name: str, new: SigningKey, pinned: bool
) -> None:
    api.create(name, "one")
    service = new_service(daemon, times=QUICK, **({} if pinned else {"pubkey": None}))
    (told,) = service.follow(name)
    service.settle()
    proxy.rewrite(everything, lambda payload: resign(payload, new))
    api.update(name, "two")
    service.counts("refused_unknown_key", 1)
    service.serves(name, "two")
    told.wait(2)
    eventually(lambda: not service.vouched(), "an unknown key vouches for nothing")
    api.update(name, "three")
    service.serves(name, "three")
    told.wait(3)

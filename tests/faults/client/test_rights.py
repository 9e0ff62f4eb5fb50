"""Rights withdrawn by a policy while the service runs: what it may no longer read is gone from its memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from secretsd_client import AccessDenied, AuthenticationFailed, SecretsUnavailable

from tests.faults.client.service import CLIENT, HEARD_ONLY, POLICY, QUICK, NewService, Service, Told
from tests.support.daemon import Daemon
from tests.support.mqtt_proxy import MqttProxy
from tests.support.waiting import eventually


@pytest.fixture
def daemon(new_daemon: Callable[..., Daemon], name: str) -> Daemon:
    running = new_daemon()
    for secret in (name, f"{name}-kept"):
        running.api.create(secret, f"old {secret}")
    return running


def allow(daemon: Daemon, *names: str) -> None:
    """Let the service read these names only; none: the policy doesn't know it."""
    clients: dict[str, Any] = {key: value for key, value in POLICY["clients"].items() if key != CLIENT}
    if names:
        clients[CLIENT] = {"allow": list(names), "can": ["read"]}
    daemon.follow_policy({**POLICY, "clients": clients})


def gone(service: Service, name: str) -> bool:
    """Whether nothing of the secret is left to be served."""
    runtime = service.client._runtime
    assert runtime is not None
    cache = runtime.client.state._cache
    return name not in cache.names()


def serving(service: Service, name: str) -> list[Told]:
    told = service.follow(name, f"{name}-kept")
    service.settle()
    service.rest()
    return told


def test_a_withdrawn_right_takes_the_value_out_of_the_client(
    daemon: Daemon, new_service: NewService, name: str
) -> None:
    service = new_service(daemon, times=HEARD_ONLY)
    told, kept = serving(service, name)
    allow(daemon, f"{name}-kept")
    service.refuses(name, AccessDenied)
    assert gone(service, name)
    assert service.client.get_secret(f"{name}-kept") == f"old {name}-kept"
    assert service.stat("started_over") == 1
    service.settle()
    service.rest()

    daemon.sigkill()
    with pytest.raises(SecretsUnavailable):
        service.client.get_secret(name)
    assert service.client.get_secret(f"{name}-kept") == f"old {name}-kept"
    assert (told.versions, kept.versions) == ([], [])


def test_a_withdrawn_right_is_noticed_without_a_read_and_without_a_bus(
    daemon: Daemon, new_service: NewService, proxy: MqttProxy, name: str
) -> None:
    service = new_service(daemon, times=QUICK)
    serving(service, name)
    proxy.drop()
    allow(daemon, f"{name}-kept")
    eventually(lambda: gone(service, name), "the value is gone")
    service.refuses(name, AccessDenied)


def test_a_right_that_is_given_back_is_followed_again(daemon: Daemon, new_service: NewService, name: str) -> None:
    service = new_service(daemon, times=HEARD_ONLY)
    told, kept = serving(service, name)
    allow(daemon, f"{name}-kept")
    service.refuses(name, AccessDenied)
    daemon.api.update(name, "new")
    allow(daemon, "*")
    told.wait(2)
    service.serves(name, "new")
    assert kept.versions == []


@pytest.mark.parametrize("bus", ["heard", "silent"])
def test_a_client_struck_from_the_policy_has_nothing_left(
    daemon: Daemon, new_service: NewService, proxy: MqttProxy, name: str, bus: str
) -> None:
    service = new_service(daemon, times=HEARD_ONLY if bus == "heard" else QUICK)
    serving(service, name)
    if bus == "silent":
        proxy.drop()
    allow(daemon)
    eventually(lambda: gone(service, name) and gone(service, f"{name}-kept"), "the cache is empty")
    service.refuses(name, AuthenticationFailed)
    daemon.sigkill()
    with pytest.raises(SecretsUnavailable):
        service.client.get_secret(name)

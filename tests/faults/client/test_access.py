"""The client as it is installed: over the Unix socket, over TLS to a broker whose ACL shows it its own topics only."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from secretsd_client import AccessDenied

from tests.faults.client.service import HEARD_ONLY, QUICK, Service, settings_for
from tests.support.broker import Broker
from tests.support.daemon import Daemon
from tests.support.tls import make_server_certificate
from tests.support.waiting import eventually

USERS = {user: secrets.token_urlsafe(12) for user in ("secretsd", "postgres", "ha-client")}
POLICY: dict[str, Any] = {
    "default_deny": True,
    "clients": {
        "admin": {"allow": ["*"]},
        "postgres": {"allow": ["postgres_password"]},
        "ha-client": {"allow": ["home_assistant_token", "postgres_password"]},
    },
}
NAMES = ("postgres_password", "home_assistant_token", "brave_api_key")


@dataclass(frozen=True)
class Installed:
    """A daemon and a broker as mosquitto/ and the documents have them."""

    daemon: Daemon
    broker: Broker
    authority: Path

    def service(self, user: str, **changes: Any) -> Service:
        """Return a service that is called the same on both sides."""
        given = {
            "url": f"unix://{self.daemon.socket_path}",
            "client_id": user,
            "mqtt_username": user,
            "mqtt_password_file": self.broker.password_file(user),
            "mqtt_ca_file": self.authority,
            "times": HEARD_ONLY,
        }
        return Service(self.daemon, settings_for(self.daemon, None, **{**given, **changes}))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    files = make_server_certificate(tmp_path_factory.mktemp("tls"))
    broker = Broker(access="acl", users=USERS, tls=files).start()
    bus = {
        "username": "secretsd",
        "password_file": str(broker.password_file("secretsd")),
        "ca_file": str(files["cafile"]),
    }
    try:
        with Daemon(bus=broker.url, policy=POLICY, config={"bus": bus}) as daemon:
            daemon.wait_bus()
            for name in NAMES:
                daemon.api.create(name, "one")
            yield Installed(daemon, broker, files["cafile"])
    finally:
        broker.close()


@pytest.fixture
def new_service(installed: Installed) -> Iterator[Callable[..., Service]]:
    made: list[Service] = []

    def make(user: str, **changes: Any) -> Service:
        made.append(installed.service(user, **changes))
        return made[-1]

    yield make
    for service in made:
        service.client.close()


def version(installed: Installed, name: str) -> int:
    found: int = installed.daemon.api.secret(name)["version"]
    return found


def test_a_service_hears_of_its_own_secret_at_once(installed: Installed, new_service: Callable[..., Service]) -> None:
    service = new_service("postgres")
    (told,) = service.follow("postgres_password")
    service.settle()
    service.rest()
    superseded = service.stat("superseded")
    next_version = version(installed, "postgres_password") + 1
    installed.daemon.api.update("postgres_password", f"v{next_version}")
    told.wait(next_version)
    service.serves("postgres_password", f"v{next_version}")
    service.counts("superseded", superseded + 1)
    assert service.stat("refused") == 0
    assert service.stat("subscriptions_refused") == 0


def test_what_the_policy_denies_the_service_gets_from_neither_side(
    installed: Installed, new_service: Callable[..., Service]
) -> None:
    service = new_service("postgres")
    service.follow("postgres_password")
    service.settle()
    for name in ("brave_api_key", "there_is_no_such_key"):
        with pytest.raises(AccessDenied):
            service.client.get_secret(name)
    service.rest()
    before = service.stat("superseded")
    installed.daemon.api.update("brave_api_key", "two")
    service.rest()
    assert service.stat("superseded") == before


def test_a_secret_that_the_acl_keeps_from_the_service_is_followed_by_the_checkpoint(
    installed: Installed, new_service: Callable[..., Service]
) -> None:
    """The policy allows it and the ACL wasn't told: Mosquitto grants the subscription and stays silent."""
    service = new_service("ha-client")
    (told,) = service.follow("postgres_password")
    service.settle()
    next_version = version(installed, "postgres_password") + 1
    installed.daemon.api.update("postgres_password", f"v{next_version}")
    told.wait(next_version)
    service.serves("postgres_password", f"v{next_version}")


@pytest.mark.parametrize("flaw", ["password", "authority"])
def test_a_broker_that_does_not_let_it_in_or_is_another_one_costs_the_hints_only(
    installed: Installed,
    new_service: Callable[..., Service],
    tmp_path: Path,
    flaw: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="secretsd_client")
    wrong: dict[str, Any]
    if flaw == "password":
        path = tmp_path / "password"
        path.touch(0o600)
        path.write_text("not it\n")
        wrong = {"mqtt_password_file": path}
    else:
        wrong = {"mqtt_ca_file": make_server_certificate(tmp_path)["cafile"]}
    service = new_service("postgres", times=QUICK, **wrong)
    (told,) = service.follow("postgres_password")
    next_version = version(installed, "postgres_password") + 1
    installed.daemon.api.update("postgres_password", f"v{next_version}")
    service.serves("postgres_password", f"v{next_version}")
    told.wait(next_version)
    assert service.stat("bus_connects") == 0
    eventually(lambda: not service.client.wait_ready(0.01), "the bus isn't listened to")
    eventually(lambda: len(away(caplog)) > 1, "it is tried again")
    assert [record.levelname for record in away(caplog)[:2]] == ["WARNING", "INFO"]
    assert ("TLS" if flaw == "authority" else "uthori") in away(caplog)[0].getMessage()


def away(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What the client said of the bus's absence."""
    return [record for record in caplog.records if "the bus is away" in record.getMessage()]

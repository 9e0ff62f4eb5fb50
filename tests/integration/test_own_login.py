"""The daemon's own password at the broker changes under it, and no event is lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
from secretsd_bus import BusSettings
from secretsd_bus.dynsec import set_password

from tests.support.daemon import Daemon
from tests.support.dynsec import ADMIN, ADMIN_PASSWORD, DynsecBroker
from tests.support.tap import Tap
from tests.support.waiting import eventually

FIRST = "the daemon's first password"
SECRET = "mqtt_secretsd_password"


@pytest.fixture
def broker() -> Iterator[DynsecBroker]:
    """A broker that knows the daemon, and a listener."""
    running = DynsecBroker({"secretsd": FIRST, "listener": "the listener's"})
    running.users = running.accounts
    running.start()
    yield running
    running.close()


@pytest.fixture
def daemon(broker: DynsecBroker, new_daemon: Callable[..., Daemon]) -> Daemon:
    """A daemon that began with a file and has its password in the vault since."""
    bus = {
        "username": "secretsd",
        "password_file": str(broker.password_file("secretsd")),
        "password_secret": SECRET,
    }
    daemon = new_daemon(bus=broker.url, config={"bus": bus}).start().wait_bus()
    daemon.api.create(SECRET, FIRST)
    daemon.api.create("x", type="generic")
    return daemon


def listening(daemon: Daemon, broker: DynsecBroker) -> Tap:
    return daemon.tap(username="listener", password_file=broker.password_file("listener"))


def changed_at(broker: DynsecBroker, password: str) -> None:
    """Change the daemon's password at the broker, which ends its connection."""
    admin = BusSettings(broker.url, username=ADMIN)
    asyncio.run(set_password(admin, ADMIN_PASSWORD, "secretsd", password))


def first_heard(daemon: Daemon, tap: Tap) -> int:
    """Let something happen, and return the sequence of the first event that came."""
    daemon.api.rotate("x")
    return eventually(lambda: [one.sequence for one in tap.events if one.sequence], "an event")[0] or 0


def heard_all(daemon: Daemon, tap: Tap, since: int) -> None:
    """Wait until every line of the log after `since` came on the audit topics, in order."""
    last = daemon.verified_log()[-1].sequence
    assert last is not None

    def numbers() -> list[int]:
        found = [one.event.sequence for one in tap.heard if one.event is not None and "/audit/" in one.topic]
        return list(dict.fromkeys(number for number in found if number is not None and number > since))

    eventually(lambda: numbers()[-1:] >= [last], "the last line is on the bus")
    heard = [number for number in numbers() if number <= last]
    assert heard[0] == since + 1
    assert all(after == before + 1 for before, after in pairwise(heard)), heard


def test_after_five_changes_of_its_password_every_event_was_heard_in_order(
    broker: DynsecBroker, daemon: Daemon
) -> None:
    """The broker throws the daemon out each time; what happens meanwhile is owed."""
    with listening(daemon, broker) as tap:
        since = first_heard(daemon, tap)
        for turn in range(5):
            password = f"password number {turn} of the daemon"
            changed_at(broker, password)
            daemon.api.rotate("x")
            daemon.api.update(SECRET, password)
            daemon.api.rotate("x")
            daemon.wait_bus()
        heard_all(daemon, tap, since)
    assert not any(f"password number {turn}" in daemon.output() + broker.log for turn in range(5))
    opened = [line["data"]["version"] for line in daemon.events("secret.read") if line["data"]["auth"] == "daemon"]
    assert opened, "what the daemon opens for itself is in the audit log"
    assert len(set(opened)) == len(opened), "once in its life"


def test_a_daemon_killed_between_the_change_there_and_here_comes_back_with_either(
    broker: DynsecBroker, daemon: Daemon
) -> None:
    """It tries what is current, then what is in grace, then the file."""
    daemon.api.update(SECRET, "not yet known to the broker")
    daemon.sigkill()
    daemon.start().wait_bus()
    changed_at(broker, "not yet known to the broker")
    daemon.sigkill()
    daemon.start().wait_bus()
    with listening(daemon, broker) as tap:
        daemon.api.rotate("x")
        tap.wait_topic(tap.topics.secret_event("x", "rotated"))


def test_a_new_password_is_used_at_once_where_the_old_connection_would_live_on(
    broker: DynsecBroker, daemon: Daemon
) -> None:
    """Else nobody would know whether it works until the broker's next restart."""
    session = daemon.api.changes()["session"]
    daemon.api.update(SECRET, FIRST)
    eventually(lambda: daemon.api.changes()["session"] > session, "another connection")
    daemon.wait_bus()


def test_a_password_that_nobody_takes_is_told_and_costs_no_event(broker: DynsecBroker, daemon: Daemon) -> None:
    """Until somebody puts the right one into the vault."""
    changed_at(broker, "known to the broker alone")
    daemon.wait_bus("denied")
    daemon.api.rotate("x")
    with listening(daemon, broker) as tap:
        daemon.api.update(SECRET, "known to the broker alone")
        daemon.wait_bus()
        tap.wait_topic(tap.topics.secret_event("x", "rotated"))


POLICY = {
    "clients": {"admin": {"allow": ["*"]}},
    "secrets": {
        SECRET: {
            "type": "password",
            "rotator": {
                "kind": "mosquitto",
                "client": "secretsd",
                "admin": ADMIN,
                "admin_password": "mqtt_admin_password",
            },
        },
    },
}


def test_its_password_rotates_at_the_broker_by_itself_and_every_event_is_heard(
    broker: DynsecBroker, daemon: Daemon
) -> None:
    """With kills of the daemon in the middle: whichever of the two passwords the broker has then, it is tried."""
    rule = POLICY["secrets"][SECRET]
    daemon.write_policy({**POLICY, "secrets": {SECRET: {**rule, "rotator": {**rule["rotator"], "url": broker.url}}}})
    daemon.restart().wait_bus()
    daemon.api.create("mqtt_admin_password", ADMIN_PASSWORD)
    with listening(daemon, broker) as tap:
        since = first_heard(daemon, tap)
        for version, kill_after in enumerate((None, 0.0, None, 0.05, 0.1, None), start=2):
            asking = threading.Thread(target=rotated, args=(daemon, f"r{version}"))
            asking.start()
            if kill_after is not None:
                threading.Event().wait(kill_after)
                daemon.sigkill()
                daemon.start()
            asking.join()
            eventually(lambda: arrived(daemon, version), f"version {version}")  # noqa: B023 — asked at once
            daemon.wait_bus()
            daemon.api.rotate("x")
        heard_all(daemon, tap, since)
    values = [daemon.api.value(SECRET), FIRST, ADMIN_PASSWORD]
    assert not any(value in daemon.output() + broker.log for value in values)


def rotated(daemon: Daemon, key: str) -> None:
    """Ask for the rotation until the daemon has taken it in: under one key it is one."""

    def asked() -> bool:
        return daemon.api.post("/rotate", {"names": [SECRET]}, {"Idempotency-Key": key}).status in {200, 202}

    eventually(asked, "the rotation is taken in")


def arrived(daemon: Daemon, version: int) -> bool:
    found = next(one for one in daemon.api.get("/secrets").ok()["secrets"] if one["name"] == SECRET)
    return found["version"] == version and "pending" not in found

"""The broker's own guard: who may write and read under the project's ACL, passwords, TLS; how a denial shows."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from secretsd_bus import BusRejected

from tests.support.broker import CONFIGURATION, Broker
from tests.support.daemon import NODE, Daemon
from tests.support.tap import Tap
from tests.support.tls import make_server_certificate
from tests.support.waiting import always, eventually

USERS = {user: secrets.token_urlsafe(12) for user in ("secretsd", "admin", "backend", "postgres")}
ACL = (CONFIGURATION / "acl").read_text()


@pytest.fixture(scope="module")
def guarded() -> Iterator[Broker]:
    broker = Broker(access="acl", users=USERS).start()
    yield broker
    broker.close()


def credentials(broker: Broker, user: str = "secretsd") -> dict[str, Any]:
    return {"username": user, "password_file": str(broker.password_file(user))}


@pytest.fixture(scope="module")
def daemon(guarded: Broker) -> Iterator[Daemon]:
    with Daemon(bus=guarded.url, config={"bus": credentials(guarded)}) as running:
        running.wait_bus()
        for name in ("postgres_password", "brave_api_key"):
            running.api.create(name, "v")
        yield running


def tap(daemon: Daemon, broker: Broker, user: str) -> Tap:
    return daemon.tap(username=user, password_file=broker.password_file(user))


def test_the_daemon_publishes_under_the_projects_acl(daemon: Daemon, guarded: Broker) -> None:
    with tap(daemon, guarded, "admin") as operator:
        operator.wait_topic(operator.topics.secret_state("brave_api_key"))
        daemon.api.secret("brave_api_key")
        operator.wait_topic(operator.topics.audit("secret", "read"))


def test_a_service_hears_of_its_own_secrets_only(daemon: Daemon, guarded: Broker) -> None:
    with tap(daemon, guarded, "postgres") as service:
        for topic in (
            service.topics.secret_state("postgres_password"), service.topics.checkpoint(NODE),
            service.topics.status(NODE), service.topics.keys(NODE),
        ):  # fmt: skip
            service.wait_topic(topic)
        daemon.api.update("brave_api_key", "w")
        daemon.api.update("postgres_password", "w")
        service.wait_topic(service.topics.secret_event("postgres_password", "updated"))
        topics = {heard.topic for heard in service.heard}
    assert not [topic for topic in topics if "brave" in topic or "/audit/" in topic]


@pytest.mark.parametrize("user", ["admin", "backend", "postgres"])
@pytest.mark.parametrize("topic", [f"checkpoint/{NODE}", "secret/postgres_password/rotated", "audit/access/denied"])
def test_nobody_else_may_write_under_the_prefix(daemon: Daemon, guarded: Broker, user: str, topic: str) -> None:
    forged = subprocess.run(
        ["mosquitto_pub", "-p", str(guarded.port), "-V", "mqttv5", "-q", "1", "-u", user, "-P", USERS[user],
         "-t", f"{daemon.prefix}/{topic}", "-m", "{}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Not authorized" in forged.stderr + forged.stdout


def test_without_a_password_nobody_connects(daemon: Daemon, guarded: Broker) -> None:
    with pytest.raises(BusRejected), daemon.tap():
        pass


def test_a_denial_by_the_acl_shows_and_what_is_owed_stays_owed(new_daemon: Callable[..., Daemon]) -> None:
    broker = Broker(access="acl", users=USERS)
    broker.acl.write_text(ACL.replace("topic readwrite jarvis/secretsd/#", "topic read jarvis/secretsd/#"))
    broker.start()
    try:
        daemon = new_daemon(bus=broker.url, config={"bus": credentials(broker)}).start().wait_bus("denied")
        assert daemon.api.get("/healthz").status == 200
        daemon.api.create("x", type="generic")
        daemon.api.rotate("x")
        with tap(daemon, broker, "admin") as operator:
            broker.write_acl(ACL)
            for verb in ("created", "rotated"):
                operator.wait_topic(operator.topics.secret_event("x", verb), within=60)
            for topic in (operator.topics.secret_state("x"), operator.topics.keys(NODE), operator.topics.status(NODE)):
                operator.wait_topic(topic, within=60)
        daemon.wait_bus()
    finally:
        broker.close()


def test_a_wrong_password_is_a_denial_and_no_reason_not_to_serve(
    guarded: Broker, prefix: str, tmp_path: Path, new_daemon: Callable[..., Daemon]
) -> None:
    wrong = tmp_path / "password"
    wrong.touch(0o600)
    wrong.write_text("not-the-password\n")
    daemon = new_daemon(
        bus=guarded.url, prefix=prefix, config={"bus": {"username": "secretsd", "password_file": str(wrong)}}
    ).start()
    eventually(lambda: daemon.api.health()["bus"] in ("denied", "disconnected"), "the bus is not connected")
    always(lambda: daemon.api.health()["bus"] != "connected", "a wrong password connects", during=0.5)
    assert daemon.api.create("x", "v")["version"] == 1
    assert "not-the-password" not in daemon.output()


def test_the_daemon_speaks_tls_to_a_broker_it_can_verify(
    prefix: str, tmp_path: Path, new_daemon: Callable[..., Daemon]
) -> None:
    files = make_server_certificate(tmp_path)
    broker = Broker(tls=files).start()
    try:
        daemon = new_daemon(bus=broker.url, prefix=prefix, config={"bus": {"ca_file": str(files["cafile"])}})
        daemon.start().wait_bus()
        daemon.api.create("x", "v")
        with daemon.tap(ca_file=files["cafile"]) as listening:
            listening.wait_topic(listening.topics.secret_state("x"))
    finally:
        broker.close()


def test_the_daemon_does_not_speak_to_a_broker_it_cannot_verify(
    prefix: str, tmp_path: Path, new_daemon: Callable[..., Daemon]
) -> None:
    for name in ("real", "other"):
        (tmp_path / name).mkdir()
    broker = Broker(tls=make_server_certificate(tmp_path / "real")).start()
    other = make_server_certificate(tmp_path / "other")
    try:
        daemon = new_daemon(bus=broker.url, prefix=prefix, config={"bus": {"ca_file": str(other["cafile"])}}).start()
        always(lambda: daemon.api.health()["bus"] == "disconnected", "an unverified broker is used", during=2)
    finally:
        broker.close()

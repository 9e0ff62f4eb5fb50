"""What the daemon tells Home Assistant under the project's ACL, and where the ACL denies it."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from secretsd.outbox.homeassistant.ids import device_id
from tests.support.broker import CONFIGURATION, Broker
from tests.support.daemon import NODE, Daemon
from tests.support.waiting import always, eventually

USERS = {user: secrets.token_urlsafe(12) for user in ("secretsd", "admin", "homeassistant")}
ASYNCAPI = json.loads((Path(__file__).parents[2] / "docs" / "asyncapi.json").read_text())
ACL = (CONFIGURATION / "acl").read_text()


@pytest.fixture
def broker() -> Iterator[Broker]:
    running = Broker(access="acl", users=USERS).start()
    yield running
    running.close()


def served(broker: Broker) -> Daemon:
    credentials = {"username": "secretsd", "password_file": str(broker.password_file("secretsd"))}
    return Daemon(bus=broker.url, config={"bus": credentials})


def test_home_assistants_user_hears_discovery_overview_and_events(broker: Broker) -> None:
    with served(broker) as daemon:
        daemon.wait_bus()
        daemon.api.create("a.b", "v")
        filters = ["homeassistant/#", f"{daemon.prefix}/#"]
        file = broker.password_file("homeassistant")
        with daemon.tap(username="homeassistant", password_file=file, filters=filters) as home:
            home.wait(lambda heard: "/status_a-_b/config" in heard.topic and heard.payload, "the secret's status")
            daemon.api.as_("backend").get("/secret/a.b")
            event = home.wait_topic(f"homeassistant/secretsd/{device_id(daemon.prefix, NODE)}/event")
            assert event.payload in daemon.audit_path.read_bytes().splitlines()
            assert not event.retain
            home.wait(
                lambda heard: heard.topic.endswith("/overview") and json.loads(heard.payload)["denials"] == 1,
                "the count",
            )
            daemon.api.delete("/secret/a.b").ok(204)
            home.wait(lambda heard: "/status_a-_b/config" in heard.topic and not heard.payload, "it is taken away")


def test_every_topic_that_the_daemon_uses_is_in_the_asyncapi_document(broker: Broker) -> None:
    broker.write_acl(ACL + "\nuser admin\ntopic read #\n")
    channels = {
        name: re.sub(r"\\{[a-z]+\\}", "[^/]+", re.escape(one["address"])) for name, one in ASYNCAPI["channels"].items()
    }
    file = broker.password_file("admin")
    with served(broker) as daemon, daemon.tap(username="admin", password_file=file, filters=["#"]) as live:
        daemon.wait_bus()
        daemon.api.create("x", type="generic")
        daemon.api.rotate("x")
        daemon.api.as_("backend").get("/secret/x")
        live.wait(lambda heard: "/status_x/config" in heard.topic and heard.payload, "the entity")
        daemon.api.delete("/secret/x").ok(204)
        live.wait(lambda heard: "/status_x/config" in heard.topic and not heard.payload, "the entity is taken away")
        live.wait(lambda heard: heard.topic.endswith("/overview"), "the overview")
        with daemon.tap(username="admin", password_file=file, filters=["#"]) as late:
            late.wait(lambda heard: heard.topic.endswith("/overview"), "what is retained")
        for heard in (*live.heard, *late.heard):
            [channel] = [name for name, address in channels.items() if re.fullmatch(address, heard.topic)]
            sent = ASYNCAPI["operations"][f"send-{channel}"]
            assert sent["bindings"]["mqtt"]["retain"] or not heard.retain, heard.topic


def test_a_broker_that_denies_home_assistants_topics_harms_nothing_else(broker: Broker) -> None:
    denied = "\n".join(line for line in ACL.splitlines() if not line.startswith("topic write homeassistant"))
    broker.write_acl(denied)
    with served(broker) as daemon:
        daemon.wait_bus()
        eventually(lambda: "the broker denies what Home Assistant is told" in daemon.output(), "the denial is told")
        with daemon.tap(username="admin", password_file=broker.password_file("admin")) as operator:
            daemon.api.create("x", "v")
            operator.wait_topic(operator.topics.secret_event("x", "created"))
        always(lambda: daemon.api.health()["bus"] == "connected", "the bus is called denied", during=1)


def test_a_birth_of_home_assistant_repeats_everything_that_is_retained(broker: Broker) -> None:
    broker.write_acl(ACL + "\nuser admin\ntopic readwrite homeassistant/#\n")
    with served(broker) as daemon:
        daemon.wait_bus()
        file = broker.password_file("admin")
        with daemon.tap(username="admin", password_file=file, filters=["homeassistant/+/+/connection/config"]) as tap:
            tap.wait(lambda heard: heard.payload, "discovery")
            before = len(tap.heard)
            birth(broker)
            eventually(lambda: len(tap.heard) > before, "discovery is repeated")


def birth(broker: Broker) -> None:
    subprocess.run(
        ["mosquitto_pub", "-p", str(broker.port), "-u", "homeassistant", "-P", USERS["homeassistant"],
         "-t", "homeassistant/status", "-m", "online"],
        check=True,
    )  # fmt: skip

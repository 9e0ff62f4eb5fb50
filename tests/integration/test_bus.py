"""What the bus carries: events, byte for byte the audit line; states, checkpoint, status, keys."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.broker import Broker
from tests.support.daemon import NODE, OPEN_POLICY, Daemon
from tests.support.http import Api
from tests.support.log import hash_of
from tests.support.tap import Heard, Tap
from tests.support.waiting import eventually

Unique = Callable[..., str]
POLICY: dict[str, Any] = {
    **OPEN_POLICY,
    "secrets": {"brief_*": {"type": "generic", "rotation_period": "3s", "grace_period": "1s"}},
}
VERBS = ("created", "updated", "rotated", "expiring", "expired", "retired", "deleted")


@pytest.fixture(scope="module")
def daemon(broker: Broker, module_prefix: str) -> Iterator[Daemon]:
    with Daemon(bus=broker.url, prefix=module_prefix, policy=POLICY) as running:
        yield running.wait_bus()


@pytest.fixture(scope="module")
def tap(daemon: Daemon) -> Iterator[Tap]:
    with daemon.tap() as listening:
        yield listening


@pytest.fixture
def api(daemon: Daemon) -> Api:
    return daemon.api


def same_on(topic: str, payload: bytes) -> Callable[[Heard], bool]:
    return lambda heard: heard.topic == topic and heard.payload == payload


def payloads(tap: Tap, topic: str) -> list[bytes]:
    return [heard.payload for heard in tap.on(topic)]


# Events


def test_every_change_is_an_event_on_its_topic_and_on_the_audits(
    daemon: Daemon, tap: Tap, api: Api, unique: Unique
) -> None:
    name = unique("x", "brief_")
    api.create(name)
    api.update(name, "mine")
    api.rotate(name)
    for verb in VERBS[:-1]:
        tap.wait_topic(tap.topics.secret_event(name, verb))
    api.delete(f"/secret/{name}").ok(204)
    tap.wait_topic(tap.topics.secret_event(name, "deleted"))
    for verb in VERBS:
        for payload in payloads(tap, tap.topics.secret_event(name, verb)):
            assert json.loads(payload)["subject"] == name
            audit = tap.topics.audit("secret", verb)
            tap.wait(same_on(audit, payload), f"the same bytes on {audit}")


def test_an_event_is_the_exact_bytes_of_its_line_in_the_log(daemon: Daemon, tap: Tap, api: Api, unique: Unique) -> None:
    name = unique("x")
    api.create(name, "v")
    heard = tap.wait_topic(tap.topics.secret_event(name, "created"))
    assert heard.payload in daemon.audit_path.read_bytes().splitlines()
    assert not heard.payload.endswith(b"\n")
    assert not heard.retain


def test_accesses_are_told_on_the_audit_topics_only(daemon: Daemon, tap: Tap, api: Api, unique: Unique) -> None:
    name = unique("x")
    api.create(name, "v")
    read = api.get(f"/secret/{name}").headers["X-Request-Id"]
    listed = api.get("/secrets").headers["X-Request-Id"]
    denied = api.as_("backend").get(f"/secret/{name}").headers["X-Request-Id"]
    for request, topic in ((read, "secret/read"), (listed, "secret/listed"), (denied, "access/denied")):
        tap.wait_request(request)
        topics = {
            heard.topic
            for heard in tap.heard
            if heard.event is not None and heard.event.data.get("request_id") == request
        }
        assert topics == {f"{daemon.prefix}/audit/{topic}"}


def test_an_unproven_access_is_told(tap: Tap, api: Api) -> None:
    api.as_("stranger").get("/secrets")
    event = tap.wait_event(lambda event: event.type == "access.failed", "the failed access")
    assert event.data["client"] is None


def test_audit_events_arrive_in_the_order_of_the_log(daemon: Daemon, tap: Tap, api: Api) -> None:
    for _ in range(30):
        api.get("/secrets")
    last = json.loads(daemon.audit_path.read_bytes().splitlines()[-1])["id"]
    tap.wait_event(lambda event: event.id == last, "the last event")
    reads = [
        heard.event.sequence
        for heard in tap.heard
        if heard.event is not None and heard.topic.startswith(f"{daemon.prefix}/audit/secret/listed")
    ]
    assert reads == sorted(reads)  # type: ignore[type-var]  # chained events have a sequence


def test_nothing_on_the_bus_fails_to_verify(tap: Tap, api: Api, unique: Unique) -> None:
    name = unique("x")
    api.create(name, "v")
    tap.wait_topic(tap.topics.secret_event(name, "created"))
    tap.wait_topic(tap.topics.secret_state(name))
    tap.wait_topic(tap.topics.checkpoint(NODE))
    assert tap.refusals == []


# Retained topics


def late_tap(daemon: Daemon) -> Tap:
    return daemon.tap(client_id="late")


def test_a_late_subscriber_finds_the_state_of_every_secret(daemon: Daemon, api: Api, unique: Unique) -> None:
    name = unique("x")
    api.create(name, "v")
    with daemon.tap() as tap:
        updated = api.update(name, "w")
        tap.wait_event(
            lambda event: event.type == "secret.state" and event.subject == name and event.data["version"] == 2,
            "the state is there",
        )
    with late_tap(daemon) as late:
        heard = late.wait(
            lambda heard: (
                heard.topic == late.topics.secret_state(name)
                and heard.event is not None
                and heard.event.data["version"] == 2
            ),
            "the state",
        )
        assert heard.retain
        assert heard.event is not None
        assert heard.event.type == "secret.state"
        assert heard.event.sequence is None
        for key in ("name", "version", "kid", "type", "status", "expires_at", "previous", "generation"):
            assert heard.event.data[key] == updated[key]
        assert heard.event.id.count("-") >= 2


def test_a_deleted_secret_keeps_a_state_that_says_so(daemon: Daemon, api: Api, unique: Unique) -> None:
    name = unique("x")
    api.create(name, "v")
    api.delete(f"/secret/{name}").ok(204)

    def deleted() -> bool:
        with late_tap(daemon) as late:
            heard = late.wait_topic(late.topics.secret_state(name))
            return heard.event is not None and heard.event.data["status"] == "deleted"

    eventually(deleted, "the retained state says deleted")


def test_audit_events_are_never_retained(daemon: Daemon, api: Api) -> None:
    api.get("/secrets")
    with late_tap(daemon) as late:
        late.wait_topic(late.topics.checkpoint(NODE))
        retained = [heard.topic for heard in late.heard if heard.retain]
    assert retained
    assert not [topic for topic in retained if topic.startswith(f"{daemon.prefix}/audit/")]


def test_the_checkpoint_names_the_end_of_the_log_and_the_generation(
    daemon: Daemon, tap: Tap, api: Api, unique: Unique
) -> None:
    created = api.create(unique("x"), "v")
    event = tap.wait_event(
        lambda event: event.type == "audit.checkpoint" and event.data["generation"] >= created["generation"],
        "a checkpoint of that generation",
    )
    data = event.data
    assert set(data) >= {"sequence", "head", "epoch", "generation", "session", "uptime_ms", "interval_secs"}
    assert data["interval_secs"] == 1
    assert data["epoch"] == api.get("/secrets").position[0]
    line = next(line for line in daemon.audit_path.read_bytes().splitlines() if hash_of(line) == data["head"])
    assert int(json.loads(line)["sequence"]) == int(data["sequence"])


def test_the_checkpoint_comes_at_once_after_a_change(
    broker: Broker, prefix: str, new_daemon: Callable[..., Daemon]
) -> None:
    daemon = new_daemon(bus=broker.url, prefix=prefix, config={"bus": {"checkpoint_secs": 600}}).start().wait_bus()
    with daemon.tap() as tap:
        created = daemon.api.create("x", "v")
        tap.wait_event(
            lambda event: event.type == "audit.checkpoint" and event.data["generation"] >= created["generation"],
            "the checkpoint", within=5,
        )  # fmt: skip


def test_the_checkpoint_comes_again_and_again(tap: Tap) -> None:
    def uptimes() -> list[int]:
        return [event.data["uptime_ms"] for event in tap.events if event.type == "audit.checkpoint"]

    before = len(uptimes())
    eventually(lambda: len(uptimes()) >= before + 3, "three more checkpoints", within=10)
    assert uptimes() == sorted(uptimes())


def test_changes_and_checkpoints_agree_on_session_and_uptime(tap: Tap, api: Api) -> None:
    changes = api.changes()
    event = tap.wait_event(
        lambda event: event.type == "audit.checkpoint" and event.data["uptime_ms"] >= changes["uptime_ms"],
        "a checkpoint younger than the answer",
    )
    assert event.data["session"] == changes["session"]
    assert event.data["uptime_ms"] - changes["uptime_ms"] < 10_000


def test_keys_on_the_bus_are_those_of_http(daemon: Daemon, api: Api) -> None:
    with late_tap(daemon) as late:
        heard = late.wait_topic(late.topics.keys(NODE))
        assert heard.retain
        assert json.loads(heard.payload) == api.get("/keys").ok()


def test_the_status_is_online_and_the_will_says_offline_after_a_kill(
    broker: Broker, prefix: str, new_daemon: Callable[..., Daemon]
) -> None:
    daemon = new_daemon(bus=broker.url, prefix=prefix).start().wait_bus()
    with daemon.tap() as tap:
        online = tap.wait_event(lambda event: event.type == "daemon.status", "the status")
        assert online.data["state"] == "online"
        daemon.sigkill()
        offline = tap.wait_event(
            lambda event: event.type == "daemon.status" and event.data["state"] == "offline", "the will"
        )
        assert offline.data["session"] == online.data["session"]
        daemon.start()
        tap.wait_event(
            lambda event: (
                event.type == "daemon.status"
                and event.data["state"] == "online"
                and event.data["session"] > online.data["session"]
            ),
            "online again in a newer session",
        )


def test_an_earlier_connections_will_that_comes_late_does_not_stand(
    broker: Broker, prefix: str, new_daemon: Callable[..., Daemon]
) -> None:
    """As of a connection whose end the broker didn't see: it publishes that will when the daemon is back long since."""
    daemon = new_daemon(bus=broker.url, prefix=prefix).start().wait_bus()
    status = f"{prefix}/status/{NODE}"
    with daemon.tap() as tap:
        daemon.sigkill()
        will = tap.wait_event(lambda event: event.data.get("state") == "offline", "the will").raw
        daemon.start().wait_bus()
        for late in (will, b"garbage", b""):
            mark = len(tap.on(status))
            content = ["-s"] if late else ["-n"]
            command = ["mosquitto_pub", "-p", str(broker.port), "-r", "-q", "1", "-t", status, *content]
            subprocess.run(command, input=late, check=True)
            eventually(
                lambda mark=mark: any(
                    heard.event is not None and heard.event.data["state"] == "online" for heard in tap.on(status)[mark:]
                ),
                "it says again that it is online",
            )
    with late_tap(daemon) as listening:
        stands = listening.wait_topic(status)
        assert stands.retain
        assert stands.event is not None
        assert stands.event.data["state"] == "online"


def test_an_orderly_end_says_stopped_and_offline(
    broker: Broker, prefix: str, new_daemon: Callable[..., Daemon]
) -> None:
    daemon = new_daemon(bus=broker.url, prefix=prefix).start().wait_bus()
    with daemon.tap() as tap:
        assert daemon.terminate() == 0
        tap.wait_event(lambda event: event.type == "daemon.stopped", "daemon.stopped")
        tap.wait_event(lambda event: event.type == "daemon.status" and event.data["state"] == "offline", "offline")


# How much of the audit is told


@pytest.mark.parametrize(("audit", "told"), [("changes", {"access.denied"}), ("none", set())])
def test_audit_says_how_much_of_the_log_is_told(
    broker: Broker, prefix: str, new_daemon: Callable[..., Daemon], audit: str, told: set[str]
) -> None:
    daemon = new_daemon(bus=broker.url, prefix=prefix, config={"bus": {"audit": audit}}).start().wait_bus()
    with daemon.tap() as tap:
        daemon.api.create("first", "v")
        daemon.api.secret("first")
        daemon.api.get("/secrets")
        daemon.api.as_("backend").get("/secret/first").refused(403, "forbidden")
        created = daemon.api.create("last", "v")
        tap.wait_topic(tap.topics.secret_event("last", "created"))
        if audit == "changes":
            tap.wait(
                lambda heard: (
                    heard.topic == tap.topics.audit("secret", "created")
                    and heard.event is not None
                    and heard.event.data["generation"] == created["generation"]
                ),
                "the last change among the audit's",
            )
        on_audit = {
            heard.event.type
            for heard in tap.heard
            if heard.event is not None and heard.topic.startswith(f"{prefix}/audit/")
        }
    assert not on_audit & {"secret.read", "secret.listed"}
    assert on_audit & {"access.denied"} == told
    assert {"secret.read", "secret.listed"} <= {event.type for event in daemon.verified_log()}


# A message in mosquitto_sub


def test_mosquitto_sub_prints_the_events(daemon: Daemon, broker: Broker, api: Api, unique: Unique) -> None:
    name = unique("x")
    command = [
        "mosquitto_sub", "-p", str(broker.port), "-V", "mqttv5", "-q", "1", "-C", "2", "-W", "20", "-v",
        "-t", f"{daemon.prefix}/secret/{name}/created", "-t", f"{daemon.prefix}/status/{NODE}",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE) as subscriber:
        assert subscriber.stdout is not None
        topic, _, _ = subscriber.stdout.readline().partition(b" ")  # the retained status: the subscription stands
        assert topic.decode() == f"{daemon.prefix}/status/{NODE}"
        api.create(name, "v")
        topic, _, payload = subscriber.stdout.readline().partition(b" ")
    assert topic.decode() == f"{daemon.prefix}/secret/{name}/created"
    assert payload.rstrip(b"\n") in daemon.audit_path.read_bytes().splitlines()


def test_messages_name_their_content_type(daemon: Daemon, broker: Broker) -> None:
    asked = subprocess.run(
        ["mosquitto_sub", "-p", str(broker.port), "-V", "mqttv5", "-C", "1", "-W", "20", "-F", "%C",
         "-t", f"{daemon.prefix}/checkpoint/{NODE}"],
        capture_output=True, check=True,
    )  # fmt: skip
    assert asked.stdout.strip() == b"application/cloudevents+json"

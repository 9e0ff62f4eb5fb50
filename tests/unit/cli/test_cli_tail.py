"""tail: what a real broker brings, verified, once each, and forgeries told apart."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from secretsd_bus import Chain, Event, SigningKey, Topics, Unchained, key_rotated

from secretsd.cli.event_lines import event_line, forged_line
from secretsd.cli.sieve import Forged, Sieve
from tests.support.broker import Broker
from tests.support.waiting import PATIENCE_SECS
from tests.unit.cli.conftest import Spawn
from tests.unit.cli.fake_daemon import FakeDaemon

TIME = "2026-11-23T17:00:00.123Z"
TOPICS = Topics("jarvis/secretsd")


@pytest.fixture
def broker() -> Iterator[Broker]:
    made = Broker().start()
    yield made
    made.close()


@pytest.fixture
def chain(daemon: FakeDaemon) -> Chain:
    return Chain(log_id="log", node="host", key=daemon.key)


def secret_event(chain: Chain, verb: str, name: str, **data: str | int | bool) -> Event:
    return chain.append(f"secret.{verb}", name, {"name": name, "version": 3, "client": "admin", **data}, TIME)


def publish(broker: Broker, topic: str, payload: bytes, *, retain: bool = False) -> None:
    command = ["mosquitto_pub", "-p", str(broker.port), "-q", "1", "-t", topic, "-s", *(["-r"] if retain else [])]
    subprocess.run(command, input=payload, check=True, timeout=PATIENCE_SECS)


def tail(spawn: Spawn, broker: Broker, *args: str) -> subprocess.Popen[bytes]:
    """Start `tail` on the broker and return when it listens."""
    process = spawn("tail", *args, env={"JARVIS_MQTT_URL": broker.url, "TZ": "UTC"})
    assert process.stderr is not None
    line = process.stderr.readline()
    assert line.startswith(b"listening on "), line + process.stderr.read()
    return process


def ended(process: subprocess.Popen[bytes], status: int = 0) -> tuple[bytes, bytes]:
    out, err = process.communicate(timeout=PATIENCE_SECS)
    assert process.returncode == status, err
    return out, err


def test_json_gives_the_exact_bytes_once_each(broker: Broker, spawn: Spawn, chain: Chain) -> None:
    process = tail(spawn, broker, "--json", "--count", "2")
    events = [secret_event(chain, "rotated", "one"), chain.append("daemon.started", None, {"session": 1}, TIME)]
    for event in events:
        for topic in sorted(TOPICS.of(event)):
            publish(broker, topic, event.raw)
            publish(broker, topic, event.raw)
    out, _ = ended(process)
    assert out == b"".join(event.raw + b"\n" for event in events)


def test_a_name_that_comes_near_another_is_pointed_out(broker: Broker, spawn: Spawn, daemon: FakeDaemon) -> None:
    daemon.plant("postgres_password", "x")
    daemon.bus = {"url": broker.url, "topic_prefix": "jarvis/secretsd", "node": "host"}
    process = spawn("tail", "postgres_pasword")
    assert process.stderr is not None
    assert b"did you mean postgres_password?" in process.stderr.readline()
    assert process.stderr.readline().startswith(b"listening on ")


def test_a_forgery_is_shown_as_one_and_not_counted(broker: Broker, spawn: Spawn, chain: Chain) -> None:
    process = tail(spawn, broker, "--count", "1")
    stranger = Chain(log_id="log", node="host", key=SigningKey.generate())
    topic = TOPICS.secret_event("one", "rotated")
    publish(broker, topic, secret_event(stranger, "rotated", "one", reason="pl4nted").raw)
    publish(broker, topic, secret_event(chain, "rotated", "other").raw)
    publish(broker, topic, b"pl4nted")
    publish(broker, topic, secret_event(chain, "rotated", "one", reason="every month").raw)
    out, _ = ended(process)
    lines = out.decode().splitlines()
    assert [line.split(":")[0] for line in lines[:3]] == [
        "refused (unknown-key)",
        "refused (wrong-topic)",
        "refused (not-json)",
    ]
    assert " ".join(lines[3].split()) == "2026-11-23 17:00:00 secret.rotated one v3 by admin “every month”"
    assert "pl4nted" not in out.decode()


def test_in_json_forgeries_go_to_standard_error(broker: Broker, spawn: Spawn, chain: Chain) -> None:
    process = tail(spawn, broker, "--json", "--count", "1")
    publish(broker, TOPICS.audit("access", "denied"), b"{}")
    event = chain.append("access.denied", None, {"client": None, "count": 2}, TIME)
    publish(broker, TOPICS.audit("access", "denied"), event.raw)
    out, err = ended(process)
    assert json.loads(out)["id"] == event.id
    assert b"refused (not-canonical)" in err


def test_patterns_choose_secrets(broker: Broker, spawn: Spawn, chain: Chain) -> None:
    process = tail(spawn, broker, "--json", "--count", "1", "post*")
    for name in ("brave_api_key", "postgres_password"):
        publish(broker, TOPICS.secret_event(name, "updated"), secret_event(chain, "updated", name).raw)
    out, _ = ended(process)
    assert json.loads(out)["subject"] == "postgres_password"


def test_all_shows_what_is_retained(broker: Broker, spawn: Spawn, daemon: FakeDaemon) -> None:
    plain = Unchained(log_id="log", node="host", key=daemon.key, session=1)
    checkpoint = plain.seal("audit.checkpoint", None, {"generation": 9, "session": 1}, TIME)
    publish(broker, TOPICS.checkpoint("host"), checkpoint.raw, retain=True)
    out, _ = ended(tail(spawn, broker, "--all", "--count", "1"))
    assert b"generation 9" in out


def test_neither_a_key_nor_a_bus_is_asked_for_where_both_are_given(
    broker: Broker, spawn: Spawn, daemon: FakeDaemon, chain: Chain, tmp_path: Path
) -> None:
    pem = tmp_path / "key.pem"
    pem.write_bytes(daemon.key.public.to_pem())
    process = tail(spawn, broker, "--json", "--count", "1", "--pubkey", str(pem))
    publish(broker, TOPICS.audit("secret", "created"), secret_event(chain, "created", "one").raw)
    ended(process)
    assert daemon.seen == []


def test_the_daemon_says_where_its_bus_is(broker: Broker, spawn: Spawn, daemon: FakeDaemon, chain: Chain) -> None:
    daemon.bus = {"url": broker.url, "topic_prefix": "other/prefix", "node": "host"}
    process = spawn("tail", "--json", "--count", "1")
    assert process.stderr is not None
    assert b"other/prefix" in process.stderr.readline()
    event = secret_event(chain, "created", "one")
    publish(broker, Topics("other/prefix").audit("secret", "created"), event.raw)
    assert ended(process)[0] == event.raw + b"\n"


def test_a_lost_connection_is_made_anew(broker: Broker, spawn: Spawn, chain: Chain) -> None:
    process = tail(spawn, broker, "--json", "--count", "1")
    assert process.stderr is not None
    broker.stop()
    assert b"the broker is away" in process.stderr.readline()
    broker.start()
    while not process.stderr.readline().startswith(b"listening on "):
        pass
    event = secret_event(chain, "deleted", "one")
    publish(broker, TOPICS.secret_event("one", "deleted"), event.raw)
    assert ended(process)[0] == event.raw + b"\n"


def test_a_broker_that_is_not_there_is_3(broker: Broker, spawn: Spawn) -> None:
    broker.stop()
    _, err = ended(spawn("tail", env={"JARVIS_MQTT_URL": broker.url}), 3)
    assert err.startswith(b"error: ")


def test_a_broker_that_refuses_is_1(spawn: Spawn) -> None:
    broker = Broker(access="acl", users={"secretsd": "known"}).start()
    try:
        _, err = ended(spawn("tail", env={"JARVIS_MQTT_URL": broker.url}), 1)
    finally:
        broker.close()
    assert b"--bus-username" in err


def test_a_daemon_without_a_bus_says_so(spawn: Spawn) -> None:
    _, err = ended(spawn("tail"), 1)
    assert b"Do something about not-found." in err


# Without a broker


def test_the_sieve_follows_a_rotated_key(chain: Chain, daemon: FakeDaemon) -> None:
    sieve = Sieve(TOPICS, [daemon.key.public])
    new = SigningKey.generate()
    after = Chain(log_id="log", node="host", key=new, sequence=1)
    unheard = secret_event(after, "rotated", "one")
    topic = TOPICS.secret_event("one", "rotated")
    assert sieve.take(topic, unheard.raw) == [Forged(topic, "unknown-key", len(unheard.raw))]
    rotated = chain.append("audit.key_rotated", None, key_rotated(new), TIME)
    assert sieve.take(TOPICS.audit("audit", "key_rotated"), rotated.raw) == [rotated]
    assert sieve.take(topic, unheard.raw) == [unheard]


def test_an_empty_payload_says_nothing(chain: Chain, daemon: FakeDaemon) -> None:
    assert Sieve(TOPICS, [daemon.key.public]).take(TOPICS.secret_event("a", "created"), b"") == []


def test_a_line_holds_nothing_that_a_terminal_acts_on(chain: Chain) -> None:
    event = chain.append("access.denied", None, {"reason": "[red]\u202e", "count": 53, "client": "x"}, TIME)
    assert "53 times" in event_line(event).plain
    assert "[red]\\u202e" in event_line(event).plain
    assert "\x1b" not in forged_line(Forged("a/\x1b[31m", "not-json", 3)).plain

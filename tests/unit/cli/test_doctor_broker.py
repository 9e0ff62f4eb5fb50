"""doctor at a real Mosquitto: with the project's own configuration it is clean, an open one isn't."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from secretsd_bus import BusSettings, KeyRing, Message, SigningKey, Topics, Unchained, rfc3339, verify_line

from secretsd.cli.checks.announced import judge_checkpoint, judge_others
from secretsd.cli.checks.broker import judge_tls
from secretsd.cli.checks.canary import Outcome, judge
from secretsd.cli.checks.context import Foreign
from secretsd.cli.checks.limits import BURST, judge_latency, judge_queue
from secretsd.cli.checks.listening import connected
from tests.support.broker import Broker
from tests.support.waiting import free_port
from tests.unit.cli.fake_daemon import FakeDaemon
from tests.unit.cli.installation import NODE, Installation

PREFIX = "jarvis/secretsd"
USERS = {user: secrets.token_urlsafe(12) for user in ("secretsd", "admin", "stranger")}
NOW_MS = 1_798_761_600_000


@pytest.fixture(scope="module")
def guarded() -> Iterator[Broker]:
    broker = Broker(access="acl", users=USERS).start()
    yield broker
    broker.close()


@pytest.fixture(scope="module")
def open_broker() -> Iterator[Broker]:
    broker = Broker(default_limits=True).start()
    yield broker
    broker.close()


@pytest.fixture
def place(tmp_path: Path) -> Installation:
    return Installation(tmp_path).start_first()


def join(place: Installation, broker: Broker, **bus: Any) -> None:
    """Configure the broker, with the daemon's credentials where it asks for some."""
    if broker.access == "acl":
        bus = {"username": "secretsd", "password_file": str(broker.password_file("secretsd")), **bus}
    place.configure({"bus": {"enabled": True, "url": broker.url, "topic_prefix": PREFIX, **bus}})


def stranger(broker: Broker, name: str = "stranger") -> Foreign:
    return Foreign(name, broker.password_file(name))


def say(broker: Broker, topic: str, payload: bytes) -> None:
    """Publish something retained."""

    async def publish() -> None:
        async with connected(BusSettings(url=broker.url)) as link:
            await link.link.publish(topic, payload, retain=True)

    asyncio.run(publish())


@pytest.mark.parametrize("check", ["broker", "broker-login", "broker-tls", "canary-anonymous", "queue", "latency"])
def test_the_projects_own_configuration_is_clean(place: Installation, guarded: Broker, check: str) -> None:
    join(place, guarded)
    finding = place.look(check)
    assert finding.status == "ok", finding


def test_a_user_without_rights_gets_nothing_but_what_is_everybodys(place: Installation, guarded: Broker) -> None:
    join(place, guarded)
    assert place.look("canary-foreign").status == "skipped"
    assert place.look("canary-foreign", foreign=stranger(guarded)).status == "ok"


def test_a_user_who_may_read_everything_fails_the_canary(place: Installation, guarded: Broker) -> None:
    join(place, guarded)
    finding = place.look("canary-foreign", foreign=stranger(guarded, "admin"))
    assert finding.status == "failure"
    assert "can read" in finding.found
    assert "write" not in finding.found


def test_a_stranger_with_a_wrong_password_proves_nothing(place: Installation, guarded: Broker, tmp_path: Path) -> None:
    join(place, guarded)
    wrong = tmp_path / "wrong"
    wrong.write_text("planted-value\n")
    finding = place.look("canary-foreign", foreign=Foreign("stranger", wrong))
    assert (finding.status, "planted-value" in str(finding)) == ("skipped", False)


def test_an_open_broker_fails_the_canary(place: Installation, open_broker: Broker) -> None:
    join(place, open_broker)
    finding = place.look("canary-anonymous")
    assert finding.status == "failure"
    assert "can write under the prefix and read" in finding.found
    assert "allow_anonymous false" in finding.fixes[0]


def test_a_broker_that_knows_nobody_is_a_warning(place: Installation, open_broker: Broker) -> None:
    join(place, open_broker)
    assert place.look("broker-login").status == "warning"


def test_mosquittos_default_queue_is_measured_and_warned_about(place: Installation, open_broker: Broker) -> None:
    join(place, open_broker)
    finding = place.look("queue")
    assert finding.status == "warning"
    assert "180 were lost" in finding.found
    assert any("max_queued_messages" in fix for fix in finding.fixes)


def test_anonymous_clients_under_an_acl_that_lets_them_write_only_fail_by_that(
    place: Installation,
) -> None:
    broker = Broker(access="acl", users=USERS)
    configuration = broker.directory / "mosquitto.conf"
    configuration.write_text(configuration.read_text().replace("allow_anonymous false", "allow_anonymous true"))
    broker.acl.write_text(f"topic write {PREFIX}/secret/#\n\nuser secretsd\ntopic readwrite {PREFIX}/#\n")
    broker.start()
    try:
        join(place, broker)
        finding = place.look("canary-anonymous")
        assert finding.found == "a client without credentials can write under the prefix"
        broker.acl.write_text(f"user secretsd\ntopic write {PREFIX}/#\n")
        broker.stop()
        broker.start()
        assert place.look("canary-anonymous").status == "warning"
        for check in ("queue", "latency", "checkpoint", "second-daemon"):
            assert place.look(check).status == "skipped", check
    finally:
        broker.close()


def test_a_broker_that_is_away_fails_and_skips_what_needs_it(place: Installation) -> None:
    place.configure({"bus": {"enabled": True, "url": f"mqtt://127.0.0.1:{free_port()}"}})
    assert place.look("broker").status == "failure"
    for check in ("broker-login", "canary-anonymous", "canary-foreign", "queue", "latency", "checkpoint"):
        assert place.look(check).status == "skipped", check


def test_wrong_credentials_fail_where_they_are_wrong(place: Installation, guarded: Broker, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    join(place, guarded, password_file=str(wrong))
    assert place.look("broker-login").status == "failure"
    wrong.write_text("planted-value\n")
    finding = place.look("broker-login")
    assert (finding.status, "planted-value" in str(finding)) == ("failure", False)
    assert place.look("broker").status == "ok"
    assert place.look("canary-anonymous").status == "skipped"


def test_without_a_bus_there_is_nothing_to_look_at(place: Installation) -> None:
    for check in ("broker", "broker-login", "broker-tls", "canary-anonymous", "queue", "checkpoint", "second-daemon"):
        assert place.look(check).status == "skipped", check


def test_a_password_over_a_network_in_the_clear_is_a_warning() -> None:
    assert judge_tls(BusSettings(url="mqtt://127.0.0.1")).status == "ok"
    assert judge_tls(BusSettings(url="mqtt://localhost")).status == "ok"
    assert judge_tls(BusSettings(url="mqtts://broker.lan")).status == "ok"
    assert judge_tls(BusSettings(url="mqtt://broker.lan")).status == "warning"


def test_what_everybody_may_read_counts_against_nobody_but_the_nameless() -> None:
    outcome = Outcome(read=("checkpoint/n", "status/n", "keys/n"))
    assert judge(outcome, "the user x", "x").status == "ok"
    assert judge(outcome, "a client without credentials", "anonymous").status == "failure"


def test_queue_and_time_are_judged_by_what_was_measured() -> None:
    assert judge_queue(BURST).status == "ok"
    assert judge_queue(BURST - 1).status == "warning"
    assert judge_latency([0.3, 0.4, 90.0]).status == "ok"
    assert judge_latency([300.0, 400.0, 2.0]).status == "warning"


# What the broker holds


KEY = SigningKey.generate()
RING = KeyRing([KEY.public])
TOPICS = Topics(PREFIX)


def sealed(kind: str, data: dict[str, Any], *, node: str = NODE, key: SigningKey = KEY, at_ms: int = NOW_MS) -> bytes:
    return Unchained(log_id="log", node=node, key=key, session=3).seal(kind, None, data, rfc3339(at_ms)).raw


def checkpoint_data(interval: int = 10) -> dict[str, Any]:
    return {
        "sequence": 5, "head": "h", "epoch": "e", "generation": 2, "session": 3, "uptime_ms": 9,
        "interval_secs": interval,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("age_secs", "interval", "status"),
    [(1, 10, "ok"), (31, 10, "ok"), (40, 10, "failure"), (-60, 10, "warning"), (1, 20, "warning")],
)
def test_a_checkpoint_is_judged_by_its_age_and_interval(age_secs: int, interval: int, status: str) -> None:
    event = verify_line(sealed("audit.checkpoint", checkpoint_data(interval), at_ms=NOW_MS - age_secs * 1000), RING)
    assert judge_checkpoint(event, NOW_MS, 10, running=True).status == status


def test_a_missing_and_a_forged_checkpoint_fail_while_a_daemon_is_connected(
    place: Installation, open_broker: Broker
) -> None:
    prefix = "test/forged"
    join(place, open_broker, topic_prefix=prefix)
    assert place.look("checkpoint").status == "skipped"
    with FakeDaemon() as daemon:
        assert place.look("checkpoint", url=daemon.url).status == "failure"
        say(open_broker, Topics(prefix).checkpoint(NODE), b"{}")
        finding = place.look("checkpoint", url=daemon.url)
    assert (finding.status, "not-canonical" in finding.found) == ("failure", True)
    assert place.look("second-daemon").status == "failure"


def test_the_daemons_own_checkpoint_is_verified(place: Installation, open_broker: Broker) -> None:
    prefix = "test/own"
    join(place, open_broker, topic_prefix=prefix)
    key = SigningKey.from_pem(place.state.sign_key.read_bytes())
    say(open_broker, Topics(prefix).checkpoint(NODE), sealed("audit.checkpoint", checkpoint_data(), key=key))
    with FakeDaemon() as daemon:
        finding = place.look("checkpoint", url=daemon.url, now_ms=lambda: NOW_MS + 2000)
    assert (finding.status, "generation 2" in finding.found) == ("ok", True)
    assert place.look("second-daemon").status == "ok"


@pytest.mark.parametrize(
    ("topic", "payload", "status"),
    [
        (TOPICS.status(NODE), sealed("daemon.status", {"state": "online", "session": 3}), "ok"),
        (
            TOPICS.status("old"),
            sealed("daemon.status", {"state": "offline", "session": 3}, node="old"),
            "warning",
        ),
        (
            TOPICS.status("copy"),
            sealed("daemon.status", {"state": "online", "session": 3}, node="copy"),
            "failure",
        ),
        (
            TOPICS.status("other"),
            sealed("daemon.status", {"state": "online", "session": 3}, node="other", key=SigningKey.generate()),
            "failure",
        ),
        (
            TOPICS.status("other"),
            sealed("daemon.status", {"state": "offline", "session": 3}, node="other", key=SigningKey.generate()),
            "warning",
        ),
        (
            TOPICS.status(NODE),
            sealed("daemon.status", {"state": "offline", "session": 3}, key=SigningKey.generate()),
            "failure",
        ),
        (TOPICS.status("other"), b"[" * 100_000, "warning"),
        (TOPICS.checkpoint("gone"), b"", "ok"),
    ],
)
def test_who_else_speaks_as_a_daemon_is_judged(topic: str, payload: bytes, status: str) -> None:
    message = Message(topic, payload, retain=True, duplicate=False)
    assert judge_others([message], TOPICS, NODE, RING).status == status


def test_a_password_in_the_vault_is_not_judged_by_the_file_that_was_there_before_it(
    place: Installation, guarded: Broker, tmp_path: Path
) -> None:
    """The file may be long out of date; whether the daemon is connected its /healthz says."""
    stale = tmp_path / "stale.password"
    stale.write_text("rotated long ago")
    join(place, guarded, password_file=str(stale), password_secret="mqtt_password")
    found = {check: place.look(check).status for check in ("broker", "broker-login", "broker-tls", "queue", "latency")}
    assert found["broker"] == found["broker-tls"] == "ok"
    assert set(found.values()) == {"ok", "skipped"}, found

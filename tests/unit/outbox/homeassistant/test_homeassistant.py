"""What Home Assistant is told for a given state, and how often."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secretsd.config import load
from secretsd.outbox.feed import event_topic
from secretsd.outbox.homeassistant.announcements import (
    BIRTH_EARNED_SECONDS,
    BIRTHS_AT_ONCE,
    DENIED_PAUSE_SECONDS,
    IN_FLIGHT_MOST,
    Announcement,
    Announcements,
)
from secretsd.outbox.homeassistant.entities import EVENT_KINDS, Discovery
from secretsd.outbox.homeassistant.ids import device_id, slug, topic_id
from secretsd.outbox.homeassistant.tally import HOUR_MS, Tally
from secretsd.outbox.lane import Line

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)


class Known:
    def __init__(self, names: Iterable[str]) -> None:
        self.all = list(names)
        self.visible = set(self.all)
        self.text = b"{}"

    def names(self) -> Iterable[str]:
        return self.all

    def shown(self) -> frozenset[str]:
        return frozenset(self.visible)

    def overview(self) -> bytes:
        return self.text


@pytest.fixture
def discovery(tmp_path: Path) -> Discovery:
    return described(tmp_path, "")


def described(folder: Path, settings: str) -> Discovery:
    file = folder / "config.toml"
    file.write_text(f"[homeassistant]\n{settings}")
    config = load(file, {}, hostname="pi-5.home")
    return Discovery(config.bus, config.homeassistant, "0.1.0")


def said(queue: Announcements, start: float = 0.0, seconds: int = 60) -> list[Announcement]:
    """Return what goes out over a time in which the broker takes all."""
    taken: list[Announcement] = []
    for tenth in range(seconds * 10):
        while (announcement := queue.take(start + tenth / 10)) is not None:
            taken.append(announcement)
            queue.settled()
    return taken


# Names


@given(NAMES, NAMES)
def test_two_names_never_share_a_topic(one: str, other: str) -> None:
    assert (topic_id(one) == topic_id(other)) is (one == other)


def test_names_that_look_alike_get_different_entity_ids_whichever_comes_first() -> None:
    names = ("a.b", "a_b", "a-b", "A_b", "a__b", "a" * 128, "a" * 127)
    assert all(slug(one) != slug(other) for one, other in combinations(names, 2))
    assert slug("postgres_password") == "postgres_password"


def test_two_vaults_at_one_broker_are_two_devices() -> None:
    assert len({device_id("a", "pi"), device_id("b", "pi"), device_id("a", "pi-2"), device_id("a", "pi.2")}) == 4


# Discovery


def test_a_secrets_entities_are_these_bytes(discovery: Discovery) -> None:
    messages = dict(discovery.of_secret("a.b"))
    topic = "homeassistant/sensor/secretsd_pi--5-_home_efcc1684/expiry_a-_b/config"
    assert sorted(messages) == [topic, topic.replace("/expiry_", "/status_")]
    assert json.loads(messages[topic]) == {
        "name": "a.b expiry",
        "dev_cla": "timestamp",
        "stat_t": "jarvis/secretsd/secret/a.b/state",
        "val_tpl": "{{ None if value_json.data.expires_at[:4] == '9999' else value_json.data.expires_at }}",
        "uniq_id": "secretsd_pi--5-_home_efcc1684_expiry_a-_b",
        "obj_id": f"secretsd_{slug('pi-5.home')}_{slug('a.b')}_expiry",
        "def_ent_id": f"sensor.secretsd_{slug('pi-5.home')}_{slug('a.b')}_expiry",
        "dev": {
            "ids": ["secretsd_pi--5-_home_efcc1684"],
            "name": "secretsd pi-5.home",
            "mf": "jarvis-secretsd",
            "mdl": "secrets daemon",
            "sw": "0.1.0",
        },
        "o": {"name": "jarvis-secretsd", "sw": "0.1.0"},
    }


def test_nothing_that_is_announced_takes_a_command(discovery: Discovery) -> None:
    messages = [*discovery.fixed(), *discovery.of_secret("x")]
    assert not [key for _, payload in messages for key in json.loads(payload) if "cmd" in key or "command" in key]
    assert {topic.split("/")[1] for topic, _ in messages} == {"binary_sensor", "sensor", "event"}


def test_the_event_entity_has_no_availability_and_knows_every_kind(discovery: Discovery) -> None:
    events = next(json.loads(payload) for topic, payload in discovery.fixed() if "/events/" in topic)
    assert "avty_t" not in events
    assert set(events["evt_typ"]) == set(EVENT_KINDS.values())


def test_with_an_audit_that_is_not_published_only_changes_are_events() -> None:
    topics = event_topic("t", EVENT_KINDS, "none")
    assert topics(Line(1, "access.denied", None, b"")) is None
    assert topics(Line(2, "secret.rotated", "x", b"")) == "t"
    assert event_topic("t", EVENT_KINDS, "changes")(Line(1, "access.denied", None, b"")) == "t"
    assert event_topic("t", EVENT_KINDS, "all")(Line(1, "secret.read", "x", b"")) is None


# What goes out, and when


def test_the_devices_own_entities_come_first_and_a_deleted_name_is_taken_away(discovery: Discovery) -> None:
    known = Known(["gone", "kept"])
    known.visible = {"kept"}
    queue = Announcements(discovery, known, lambda: 1.0)
    queue.repeat()
    messages = said(queue)
    assert [message.topic for message in messages[:8]] == discovery.fixed_topics()
    payloads = {message.topic: message.payload for message in messages}
    assert [payloads[topic] for topic in discovery.secret_topics("gone")] == [b"", b""]
    assert all(payloads[topic] for topic in discovery.secret_topics("kept"))


def test_secrets_that_come_and_go_are_followed_and_nothing_else_is_repeated(discovery: Discovery) -> None:
    known = Known(["a", "b"])
    queue = Announcements(discovery, known, lambda: 1.0)
    queue.repeat()
    said(queue)
    known.visible = {"b", "c"}
    queue.changed()
    topics = {message.topic: bool(message.payload) for message in said(queue, 100)}
    assert topics == dict.fromkeys(discovery.secret_topics("a"), False) | dict.fromkeys(
        discovery.secret_topics("c"), True
    )


def test_an_overview_that_is_the_same_is_not_said_again(discovery: Discovery) -> None:
    known = Known([])
    queue = Announcements(discovery, known, lambda: 1.0)
    queue.repeat()
    said(queue)
    queue.changed()
    assert said(queue, 100) == []
    known.text = b'{"secrets":1}'
    queue.changed()
    assert said(queue, 200) == [Announcement(discovery.overview_topic, known.text)]


def test_only_so_much_is_in_flight(discovery: Discovery) -> None:
    queue = Announcements(discovery, Known(map(str, range(100))), lambda: 1.0)
    queue.repeat()
    taken = [queue.take(0.0) for _ in range(2 * IN_FLIGHT_MOST)]
    assert sum(one is not None for one in taken) == IN_FLIGHT_MOST


def test_births_without_end_cause_a_few_repetitions_and_then_one_a_minute(discovery: Discovery) -> None:
    queue = Announcements(discovery, Known([]), lambda: 0.5)
    repetitions = 0
    for second in range(int(10 * BIRTH_EARNED_SECONDS)):
        queue.born(float(second))
        messages = said(queue, float(second), 1)
        repetitions += sum(message.topic == discovery.fixed_topics()[0] for message in messages)
    assert BIRTHS_AT_ONCE < repetitions <= BIRTHS_AT_ONCE + 10


def test_what_is_denied_is_tried_again_after_a_pause_and_holds_back_nothing_else(discovery: Discovery) -> None:
    queue = Announcements(discovery, Known([]), lambda: 1.0)
    queue.repeat()
    first = queue.take(0.0)
    assert first is not None
    queue.settled()
    queue.denied(first, 0.0)
    assert queue.take(DENIED_PAUSE_SECONDS - 1) is None
    later = said(queue, DENIED_PAUSE_SECONDS)
    assert later[-1] == first
    assert {message.topic for message in later} >= set(discovery.fixed_topics())


def test_discovery_that_is_off_withdraws_everything(tmp_path: Path) -> None:
    discovery = described(tmp_path, "discovery = false")
    queue = Announcements(discovery, Known(["a"]), lambda: 1.0)
    queue.repeat()
    messages = said(queue)
    wanted = {*discovery.fixed_topics(), discovery.overview_topic, *discovery.secret_topics("a")}
    assert {message.topic for message in messages} == wanted
    assert {message.payload for message in messages} == {b""}
    assert queue.birth_topic is None


# Counts


def test_lines_are_counted_once_and_a_folded_one_by_its_count() -> None:
    denied = Line(6, "access.denied", None, b'{"data":{"count":7}}')
    lines = [Line(5, "secret.rotated", "x", b"{}"), denied, Line(7, "secret.read", "x", b"{}")]
    tally = Tally().beginning_at(4).followed(lines, 0)
    assert (tally.seen, tally.rotations, tally.denials) == (7, 1, 7)
    assert tally.followed(lines, 0) == tally


def test_lines_beyond_a_gap_wait_until_those_before_were_read() -> None:
    late = Line(9, "secret.rotated", "x", b"{}")
    tally = Tally().beginning_at(4).followed([late], 0)
    assert (tally.seen, tally.rotations) == (4, 0)


def test_a_day_later_nothing_is_recent_and_the_totals_stand() -> None:
    tally = Tally().beginning_at(0).followed([Line(1, "secret.rotated", "x", b"{}")], 0)
    assert tally.recent(23 * HOUR_MS).rotations == 1
    assert (tally.recent(24 * HOUR_MS).rotations, tally.rotations) == (0, 1)


def test_a_tally_that_is_ahead_of_the_log_follows_the_log() -> None:
    assert Tally(seen=50, rotations=3).beginning_at(10) == Tally(seen=10, rotations=3)

from __future__ import annotations

from pathlib import Path

import pytest
from secretsd_bus import Topics, rfc3339

from secretsd.audit.reader import LogReader
from secretsd.config import BusAudit
from secretsd.outbox.feed import CHUNK_LINES, audit_topic, changes_topic, first_after, read_lines
from secretsd.outbox.lane import Line
from tests.unit.audit.support import chain, lines, write
from tests.unit.support.clock import START_MS

TOPICS = Topics("p")


def line(kind: str, subject: str | None = None) -> Line:
    return Line(1, kind, subject, b"")


@pytest.mark.parametrize("verb", ["created", "updated", "rotated", "expiring", "expired", "retired", "deleted"])
def test_a_change_has_its_own_topic_and_stands_among_the_audit(verb: str) -> None:
    assert changes_topic(TOPICS)(line(f"secret.{verb}", "name")) == f"p/secret/name/{verb}"
    for wanted in ("all", "changes"):
        assert audit_topic(TOPICS, wanted)(line(f"secret.{verb}", "name")) == f"p/audit/secret/{verb}"


@pytest.mark.parametrize("wanted", ["all", "changes", "none"])
def test_who_verifies_hears_of_a_new_key_whatever_else_is_published(wanted: BusAudit) -> None:
    assert audit_topic(TOPICS, wanted)(line("audit.key_rotated")) == "p/audit/audit/key_rotated"


@pytest.mark.parametrize("kind", ["secret.read", "secret.listed", "access.denied", "daemon.started", "audit.gap"])
def test_what_is_no_change_has_no_topic_of_a_secret(kind: str) -> None:
    assert changes_topic(TOPICS)(line(kind, "name")) is None


@pytest.mark.parametrize(
    ("wanted", "read", "denied"),
    [
        ("all", "p/audit/secret/read", "p/audit/access/denied"),
        ("changes", None, "p/audit/access/denied"),
        ("none", None, None),
    ],
)
def test_the_configuration_says_what_of_the_audit_goes_to_the_bus(
    wanted: BusAudit, read: str | None, denied: str | None
) -> None:
    topic_of = audit_topic(TOPICS, wanted)
    assert (topic_of(line("secret.read", "name")), topic_of(line("access.denied"))) == (read, denied)


def test_lines_come_back_in_chunks_and_none_that_is_not_durable(tmp_path: Path) -> None:
    log = lines(CHUNK_LINES + 10)
    reader = LogReader(write(tmp_path / "audit.jsonl", log))
    found = read_lines(reader, 0, len(log))
    assert [one.sequence for one in found] == list(range(1, CHUNK_LINES + 1))
    assert (found[0].type, found[0].subject, found[0].raw) == ("secret.read", "name", log[0].raw)
    assert [one.sequence for one in read_lines(reader, CHUNK_LINES, CHUNK_LINES + 3)] == [513, 514, 515]
    assert read_lines(reader, len(log), len(log)) == []


def test_a_line_without_subject_has_none(tmp_path: Path) -> None:
    event = chain().append("daemon.started", None, {}, rfc3339(START_MS))
    (found,) = read_lines(LogReader(write(tmp_path / "audit.jsonl", [event])), 0, 1)
    assert found.subject is None


def test_the_first_line_that_is_young_enough_is_found(tmp_path: Path) -> None:
    reader = LogReader(write(tmp_path / "audit.jsonl", lines(10)))
    assert first_after(reader, 2, "") == 3
    assert first_after(reader, 2, rfc3339(START_MS + 7000)) == 7
    assert first_after(reader, 2, rfc3339(START_MS + 99_000)) is None

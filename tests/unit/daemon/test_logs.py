from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest

from secretsd.config import Level, Logging
from secretsd.crypto.sensitive import Sensitive
from secretsd.daemon import logs

OURS = logging.getLogger("secretsd.some.part")
TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z"


@pytest.fixture(autouse=True)
def _logging_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    root, ours = logging.getLogger(), logging.getLogger("secretsd")
    before = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(Logging(level="info", json=True))
    OURS.info('said "%s"\nin two lines: é %s', "it", Sensitive(b"planted"))
    OURS.warning("careful")
    first, second = lines(capsys)
    assert re.fullmatch(TIME, first.pop("time"))
    assert first == {
        "level": "info",
        "logger": "secretsd.some.part",
        "message": 'said "it"\nin two lines: é Sensitive(redacted)',
    }
    assert (second["level"], second["message"]) == ("warning", "careful")


def test_json_keeps_a_traceback_in_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(Logging(level="info", json=True))
    OURS.error("failed", exc_info=ValueError("why"))
    (line,) = lines(capsys)
    assert "ValueError: why" in line["exception"]


def test_text_has_a_time_where_the_journal_keeps_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logs.set_up(Logging(level="info", json=False))
    OURS.info("hello")
    assert re.fullmatch(TIME + r" INFO secretsd\.some\.part: hello\n", capsys.readouterr().err)
    monkeypatch.setenv("JOURNAL_STREAM", "8:12345")
    logs.set_up(Logging(level="info", json=False))
    OURS.info("hello")
    assert capsys.readouterr().err == "INFO secretsd.some.part: hello\n"


@pytest.mark.parametrize(
    ("level", "heard"),
    [
        ("trace", "debug info warning error"),
        ("debug", "debug info warning error"),
        ("info", "info warning error"),
        ("warn", "warning error"),
        ("error", "error"),
        ("off", ""),
    ],
)
def test_the_level_says_what_is_heard(capsys: pytest.CaptureFixture[str], level: Level, heard: str) -> None:
    logs.set_up(Logging(level=level, json=True))
    for name in ("debug", "info", "warning", "error"):
        getattr(OURS, name)("x")
    assert [line["level"] for line in lines(capsys)] == heard.split()


def test_others_are_heard_from_their_warnings_on(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(Logging(level="trace", json=True))
    others = logging.getLogger("aiohttp.access")
    others.info("chatter")
    others.warning("trouble")
    assert [line["message"] for line in lines(capsys)] == ["trouble"]

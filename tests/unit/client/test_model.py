"""What is read of a verified message: bounded, whoever signed it."""

from typing import Any

import pytest
from secretsd_bus import Event
from secretsd_client import _model

CHANGE = {"name": "db", "epoch": "e", "generation": 5, "kid": "k", "status": "active", "previous": None}
CHECKPOINT = {"epoch": "e", "generation": 5, "session": 1, "uptime_ms": 1000, "interval_secs": 10}


def event(kind: str, data: dict[str, Any]) -> Event:
    return Event(kind, None, "2026-01-01T00:00:00.000Z", "id", "/jarvis/secretsd/pi", "k", data, None, None, b"")


@pytest.mark.parametrize(("told", "spread"), [(0, 0.0), (500, 0.5), (10**9, 60.0), (-1, 0.2), ("x", 0.2), (True, 0.2)])
def test_the_spread_that_an_event_asks_for_is_bounded(told, spread):
    news = _model.announcement(event("secret.rotated", {**CHANGE, "spread_ms": told}))
    assert news is not None
    assert news.spread_secs == spread


@pytest.mark.parametrize(("told", "interval"), [(0, 1.0), (10, 10.0), (10**9, 3600.0)])
def test_the_interval_that_a_checkpoint_tells_is_bounded(told, interval):
    seen = _model.checkpoint(event("audit.checkpoint", {**CHECKPOINT, "interval_secs": told}))
    assert seen is not None
    assert seen.interval_secs == interval


@pytest.mark.parametrize("member", CHECKPOINT)
@pytest.mark.parametrize("value", [None, -1, True, []])
def test_a_checkpoint_of_another_form_tells_nothing(member, value):
    assert _model.checkpoint(event("audit.checkpoint", {**CHECKPOINT, member: value})) is None


@pytest.mark.parametrize(("member", "value"), [("generation", -1), ("generation", True), ("name", 7), ("kid", None)])
def test_a_change_of_another_form_tells_nothing(member, value):
    assert _model.announcement(event("secret.rotated", {**CHANGE, member: value})) is None

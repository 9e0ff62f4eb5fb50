"""secretsctl consumers: the states by the words that the documentation and the HTTP API have for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from secretsd.model import ConsumerState
from tests.unit.cli.conftest import Ctl
from tests.unit.cli.fake_daemon import FakeDaemon

DOCS = Path(__file__).parents[3] / "docs"


def consumer(state: str, **members: Any) -> dict[str, Any]:
    empty = ("instance", "version", "kid", "read_at", "acknowledged_version", "acknowledged_at", "seen_at")
    given = {"client": "backend", "state": state, "live": True, "counts": True, "lags": False}
    return {**dict.fromkeys(empty), **given, **members}


@pytest.mark.parametrize("state", get_args(ConsumerState))
def test_a_state_is_shown_by_the_word_that_is_documented(ctl: Ctl, daemon: FakeDaemon, state: str) -> None:
    daemon.plant("db", "x")
    daemon.consumers = [consumer(state, version=1)]
    row = ctl("consumers", "db").stdout.splitlines()[-1]
    assert row.split() == ["backend", "1", state, "never"]
    assert f"| `{state}` |" in (DOCS / "consumers.md").read_text()


def test_who_lags_who_is_gone_and_who_does_not_count_is_said(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.plant("db", "x")
    seen = {"version": 1, "seen_at": "2020-01-01T00:00:00.000Z"}
    daemon.consumers = [
        consumer("previous", **seen, lags=True),
        consumer("previous", **seen, live=False),
        consumer("current", **seen, counts=False),
    ]
    lags, gone, no_consumer = ctl("consumers", "db").stdout.splitlines()[-3:]
    assert " previous, lags " in lags
    assert gone.rstrip().endswith("ago (taken to be gone)")
    assert no_consumer.rstrip().endswith("ago (no consumer)")

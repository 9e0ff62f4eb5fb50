"""Clocks that jump: nothing scheduled happens while the time is in doubt, and everything else goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.broker import Broker
from tests.support.daemon import OPEN_POLICY, Daemon
from tests.support.gate import Gate
from tests.support.shims import AVAILABLE, ForgedClock
from tests.support.waiting import always, eventually

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not AVAILABLE, reason="no gcc to compile the forged clock with"),
]

DAY = 86_400
POLICY: dict[str, Any] = {
    **OPEN_POLICY,
    "secrets": {
        "auto_*": {"type": "generic", "rotation": "auto", "rotation_period": "1h", "grace_period": "30m"},
        "soon_*": {"type": "generic", "rotation": "auto", "rotation_period": "3s", "grace_period": "1s"},
    },
}
Placed = tuple[Daemon, ForgedClock]


@pytest.fixture
def placed(new_daemon: Callable[..., Daemon], tmp_path: Path) -> Placed:
    clock = ForgedClock(tmp_path)
    daemon = new_daemon(env=clock.env, policy=POLICY).start()
    daemon.api.create("auto_x")
    assert daemon.api.health()["clock"] == "ok"
    return daemon, clock


def in_doubt(daemon: Daemon) -> None:
    eventually(lambda: daemon.api.health()["clock"] == "in-doubt", "the jump is noticed")


def trusted(daemon: Daemon) -> None:
    eventually(lambda: daemon.api.health()["clock"] == "ok", "the clock is trusted again")


@pytest.mark.parametrize(
    "jump",
    [
        pytest.param(2 * 3600, id="2h"),
        pytest.param(40 * DAY, id="40d", marks=pytest.mark.slow),
        pytest.param(365 * DAY, id="1y", marks=pytest.mark.slow),
    ],
)
def test_a_jump_ahead_rotates_nothing_and_ends_when_the_clock_is_set_right(placed: Placed, jump: int) -> None:
    daemon, clock = placed
    value = daemon.api.value("auto_x")
    for _ in range(3):
        clock.set(jump)
        in_doubt(daemon)
        always(lambda: daemon.api.secret("auto_x")["version"] == 1, "a jump rotates", during=1.5)
        assert daemon.api.get("/healthz").status == 200
        assert "jumped" in daemon.api.health()["reason"]
        clock.set(0)
        trusted(daemon)
    assert daemon.api.value("auto_x") == value
    assert daemon.events("secret.rotated") == []


def test_a_jump_ahead_ends_no_grace(placed: Placed) -> None:
    daemon, clock = placed
    daemon.api.rotate("auto_x")
    clock.set(2 * 3600)
    in_doubt(daemon)
    always(lambda: daemon.events("secret.retired") == [], "a grace is ended by a jump", during=1.5)
    assert daemon.api.secret("auto_x", "?version=previous")["version"] == 1
    clock.set(0)
    trusted(daemon)
    assert daemon.api.secret("auto_x", "?version=previous")["version"] == 1


def test_a_jump_ahead_makes_no_event_too_old_for_the_bus(
    new_daemon: Callable[..., Daemon], own: Broker, prefix: str, tmp_path: Path
) -> None:
    clock = ForgedClock(tmp_path)
    with Gate(own.port) as gate:
        daemon = new_daemon(bus=gate.url, prefix=prefix, env=clock.env, config={"bus": {"replay_max": "1d"}}).start()
        daemon.wait_bus()
        daemon.api.create("x", type="generic")
        gate.shut()
        daemon.wait_bus("disconnected")
        daemon.api.rotate("x")
        clock.set(40 * DAY)
        in_doubt(daemon)
        with daemon.tap(own.url) as tap:
            gate.open()
            tap.wait_topic(tap.topics.secret_event("x", "rotated"))
    assert daemon.events("audit.gap") == []


def test_a_jump_back_holds_the_schedule_too(placed: Placed) -> None:
    daemon, clock = placed
    daemon.api.create("soon_x")
    clock.set(-DAY)
    in_doubt(daemon)
    version = daemon.api.secret("soon_x")["version"]
    always(lambda: daemon.api.secret("soon_x")["version"] == version, "the schedule goes on in doubt", during=4)
    clock.set(0)
    trusted(daemon)
    eventually(lambda: daemon.api.secret("soon_x")["version"] > version, "the schedule goes on")


def test_requests_go_on_while_the_clock_is_in_doubt(placed: Placed) -> None:
    daemon, clock = placed
    clock.set(40 * DAY)
    in_doubt(daemon)
    assert daemon.api.create("y", "one")["version"] == 1
    assert daemon.api.update("y", "two")["version"] == 2
    assert daemon.api.rotate("auto_x")[0]["version"] == 2
    clock.set(0)
    trusted(daemon)
    assert daemon.api.value("y") == "two"
    daemon.verified_log()


def test_after_a_restart_a_clock_far_past_the_last_line_is_in_doubt(placed: Placed) -> None:
    daemon, clock = placed
    daemon.terminate()
    clock.set(40 * DAY)
    daemon.start()
    assert daemon.api.health()["clock"] == "in-doubt"
    assert "past the last audit line and not synchronised" in daemon.api.health()["reason"]
    always(lambda: daemon.api.secret("auto_x")["version"] == 1, "it rotates in doubt", during=2)
    clock.set(40 * DAY, synchronised=True)
    trusted(daemon)
    eventually(lambda: daemon.api.secret("auto_x")["version"] == 2, "what is overdue happens")


def test_after_a_restart_a_clock_before_the_last_line_is_in_doubt(placed: Placed) -> None:
    daemon, clock = placed
    daemon.terminate()
    clock.set(-DAY)
    daemon.start()
    assert daemon.api.health()["clock"] == "in-doubt"
    assert "before the last audit line" in daemon.api.health()["reason"]


def test_a_long_rest_is_no_doubt_where_the_kernel_calls_its_clock_synchronised(placed: Placed) -> None:
    daemon, clock = placed
    daemon.terminate()
    clock.set(40 * DAY, synchronised=True)
    daemon.start()
    assert daemon.api.health()["clock"] == "ok"
    eventually(lambda: daemon.api.secret("auto_x")["version"] == 2, "what is overdue happens")


def test_a_clock_that_ntp_slews_is_followed(placed: Placed) -> None:
    daemon, clock = placed
    for offset in range(0, 100, 20):
        clock.set(offset)
        always(lambda: daemon.api.health()["clock"] == "ok", "slewing is taken for a jump", during=1.2)

from __future__ import annotations

import pytest

from secretsd.outbox.pace import REST_SECONDS, SLICE, Pace


class Requests:
    def __init__(self) -> None:
        self.waiting = False

    def wait(self) -> bool:
        return self.waiting


def gone(pace: Pace, now: float) -> int:
    """Publish as long as the pace lets one."""
    count = 0
    while count < 10 * SLICE and pace.rest(now) == 0:
        pace.went(now)
        count += 1
    return count


def test_the_backlog_goes_on_while_nobody_waits() -> None:
    assert gone(Pace(Requests().wait), 1.0) == 10 * SLICE


def test_while_somebody_waits_it_steps_aside_after_a_slice() -> None:
    requests = Requests()
    pace = Pace(requests.wait)
    requests.waiting = True
    assert gone(pace, 1.0) == SLICE
    assert pace.rest(1.0) == pytest.approx(REST_SECONDS)


def test_it_goes_on_as_soon_as_nobody_waits_any_more() -> None:
    requests = Requests()
    pace = Pace(requests.wait)
    requests.waiting = True
    gone(pace, 1.0)
    requests.waiting = False
    assert pace.rest(1.0) == 0


def test_requests_without_end_do_not_stop_it_for_good() -> None:
    requests = Requests()
    pace = Pace(requests.wait)
    requests.waiting = True
    assert [gone(pace, now * 2 * REST_SECONDS) for now in range(1, 20)] == [SLICE] * 19

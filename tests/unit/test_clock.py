from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secretsd.clock import DAY_MS, JUMP_MS, SETTLING_MS, SystemClock, kernel_synchronised
from tests.unit.support.clock import HOUR_MS, FakeClock, Sync, guard

SECOND = 1000


@given(st.lists(st.integers(0, 10 * DAY_MS), max_size=30))
def test_time_that_passes_raises_no_doubt_however_long_nobody_looked(steps: list[int]) -> None:
    clock = FakeClock()
    watch = guard(clock)
    for step in steps:
        clock.advance(step)
        assert watch.check()
    assert watch.doubt is None


@pytest.mark.parametrize("slew", [1, 500, -500, JUMP_MS, -JUMP_MS])
def test_slewing_and_drift_are_followed_however_far_they_go(slew: int) -> None:
    clock = FakeClock()
    watch = guard(clock)
    for _ in range(1000):
        clock.advance(SECOND)
        clock.jump(slew)
        assert watch.check()


@pytest.mark.parametrize("jump", [JUMP_MS + 1, -JUMP_MS - 1, 365 * DAY_MS, -365 * DAY_MS])
def test_a_jump_puts_the_clock_in_doubt_until_it_comes_back(jump: int) -> None:
    clock = FakeClock()
    watch = guard(clock)
    clock.jump(jump)
    assert not watch.check()
    assert f"jumped by {jump // 1000} s" in (watch.doubt or "")
    clock.advance(30 * DAY_MS)
    assert not watch.check()
    clock.jump(-jump)
    assert watch.check()
    assert watch.doubt is None


def test_a_further_jump_is_told_and_lets_the_kernels_word_wait_anew() -> None:
    clock, sync = FakeClock(), Sync()
    watch = guard(clock, sync)
    clock.jump(2 * HOUR_MS)
    assert not watch.check()
    clock.advance(SETTLING_MS)
    clock.jump(40 * DAY_MS - 2 * HOUR_MS)
    assert not watch.check()
    assert f"jumped by {40 * DAY_MS // 1000} s" in (watch.doubt or "")
    sync.synchronised = True
    assert not watch.check()
    clock.advance(SETTLING_MS)
    assert watch.check()


def test_what_is_told_of_a_jump_is_the_same_while_the_clock_is_slewed() -> None:
    clock = FakeClock()
    watch = guard(clock)
    clock.jump(2 * HOUR_MS)
    assert not watch.check()
    told = watch.doubt
    for slew in (500, -500, JUMP_MS, -JUMP_MS, -JUMP_MS):
        clock.jump(slew)
        assert not watch.check()
        assert watch.doubt == told


def test_a_jump_of_a_leap_second_or_a_minute_is_none() -> None:
    for jump in (1000, -1000, JUMP_MS, -JUMP_MS):
        clock = FakeClock()
        watch = guard(clock)
        clock.jump(jump)
        assert watch.check()


def test_the_kernels_word_counts_after_a_while_only() -> None:
    clock, sync = FakeClock(), Sync(synchronised=True)
    watch = guard(clock, sync)
    clock.jump(DAY_MS)
    assert not watch.check()
    clock.advance(SETTLING_MS - 1)
    assert not watch.check()
    clock.advance(1)
    assert watch.check()
    # What was believed is the new measure: going back is a jump too.
    clock.jump(-DAY_MS)
    assert not watch.check()


def test_a_synchronisation_that_comes_later_ends_the_doubt() -> None:
    clock, sync = FakeClock(), Sync()
    watch = guard(clock, sync)
    clock.jump(DAY_MS)
    assert not watch.check()
    clock.advance(SETTLING_MS)
    assert not watch.check()
    sync.synchronised = True
    assert watch.check()


@pytest.mark.parametrize(
    ("since_the_last_line", "synchronised", "trusted"),
    [
        (0, False, True),
        (DAY_MS, False, True),
        (DAY_MS + 1, False, False),
        (DAY_MS + 1, True, True),
        (400 * DAY_MS, True, True),
        (-JUMP_MS, False, True),
        (-JUMP_MS - 1, False, False),
        (-JUMP_MS - 1, True, True),
    ],
)
def test_at_start_the_clock_is_weighed_against_the_last_audit_line(
    since_the_last_line: int, synchronised: bool, trusted: bool
) -> None:
    clock, sync = FakeClock(), Sync(synchronised=synchronised)
    watch = guard(clock, sync)
    watch.compare(clock.now_ms() - since_the_last_line)
    assert (watch.doubt is None) == trusted
    assert watch.check() == trusted


def test_a_doubt_from_the_start_ends_as_soon_as_the_kernel_calls_its_clock_synchronised() -> None:
    clock, sync = FakeClock(), Sync()
    watch = guard(clock, sync)
    watch.compare(clock.now_ms() - 3 * DAY_MS)
    clock.advance(DAY_MS)
    assert not watch.check()
    sync.synchronised = True
    assert watch.check()


def test_a_doubt_from_the_start_is_not_ended_by_a_jump_forth_and_back() -> None:
    clock = FakeClock()
    watch = guard(clock)
    watch.compare(clock.now_ms() - 3 * DAY_MS)
    for jump in (DAY_MS, -DAY_MS):
        clock.jump(jump)
        assert not watch.check()


def test_the_machines_clocks_run_on() -> None:
    clock = SystemClock()
    now, elapsed = clock.now_ms(), clock.elapsed_ms()
    assert clock.elapsed_ms() >= elapsed >= 0
    assert now > 1_700_000_000_000
    assert kernel_synchronised() in {True, False}

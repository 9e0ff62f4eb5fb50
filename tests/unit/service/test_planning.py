"""GET /schedule: to whom what is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from secretsd.model import CreateSecret
from secretsd.service import planning
from tests.unit.support.clock import DAY_MS
from tests.unit.support.core import POLICY, Bench

SPACED = (
    POLICY.replace("secrets:", "  reports: {allow: [other]}\nsecrets:")
    + """
  "db_*": {rotation: auto, rotation_period: 20d, grace_period: 0s, window: night, not_with: ["db_*", other]}
  other: {type: generic, rotation: auto, rotation_schedule: "30 2 * * 6", time_zone: Europe/Berlin, grace_period: 0s}
windows:
  night: {days: [sat], from: "02:00", to: "04:30", time_zone: Europe/Berlin}
"""
)


@pytest.fixture
async def spaced(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path, policy=SPACED)
    for name in ("db_a", "db_b", "other"):
        body = CreateSecret(name=name, type="generic", rotation="auto")
        await bench.service.create(bench.caller(), body, idempotency_key=None)
    return bench


async def test_each_says_when_and_what_it_waits_for(spaced: Bench) -> None:
    found = (await spaced.service.schedule(spaced.caller(), days=27, pattern=None)).value.occurrences
    assert [(one.at[5:16], one.name, one.due_at[11:16], one.window, one.moved_by) for one in found] == [
        ("11-28T01:30", "other", "01:30", None, None),
        ("12-05T01:30", "other", "01:30", None, None),
        ("12-12T01:30", "other", "01:30", None, None),
        # The window opens; what comes next keeps its distance, to the one due later too.
        ("12-19T01:00", "db_a", "01:00", "night", None),
        ("12-19T02:00", "db_b", "01:00", "night", "db_a"),
        ("12-19T03:00", "other", "01:30", None, "db_b"),
    ]
    by_calendar = next(one for one in found if one.name == "other")
    assert by_calendar.schedule == "30 2 * * 6 Europe/Berlin"
    assert next(one for one in found if one.name == "db_a").schedule is None


async def test_what_the_caller_may_not_read_is_neither_told_nor_named(spaced: Bench) -> None:
    found = (await spaced.service.schedule(spaced.caller("backend"), days=90, pattern=None)).value
    assert {one.name for one in found.occurrences} == {"db_a", "db_b"}
    assert {one.moved_by for one in found.occurrences} == {None, "db_a"}
    found = (await spaced.service.schedule(spaced.caller("reports"), days=90, pattern=None)).value
    assert any(one.moved and one.moved_by is None for one in found.occurrences)
    assert spaced.events("secret.listed")[-1].data["action"] == "schedule"


async def test_a_glob_and_the_days_bound_it(spaced: Bench) -> None:
    found = (await spaced.service.schedule(spaced.caller(), days=30, pattern="db_?")).value
    assert {one.name for one in found.occurrences} == {"db_a", "db_b"}
    assert not (await spaced.service.schedule(spaced.caller(), days=30, pattern="db_[ab]")).value.occurrences
    assert all(one.at <= found.until for one in found.occurrences)


async def test_more_than_is_told_is_said_to_be(spaced: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "OCCURRENCES_MOST", 3)
    found = (await spaced.service.schedule(spaced.caller(), days=90, pattern=None)).value
    assert not found.complete
    assert len(found.occurrences) == 3


async def test_one_secret_is_told_of_however_much_happens_to_those_it_has_nothing_to_do_with(
    spaced: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = CreateSecret(name="busy", type="generic", rotation="auto", rotation_period="1h", grace_period="0s")
    await spaced.service.create(spaced.caller(), body, idempotency_key=None)
    whole = (await spaced.service.schedule(spaced.caller(), days=60, pattern="db_?")).value
    monkeypatch.setattr(planning, "WORK_MOST", 100)
    assert not (await spaced.service.schedule(spaced.caller(), days=60, pattern=None)).value.complete
    found = (await spaced.service.schedule(spaced.caller(), days=60, pattern="db_?")).value
    assert found.complete
    assert found.occurrences == whole.occurrences


async def test_a_clock_in_doubt_is_told(spaced: Bench) -> None:
    spaced.clock.jump(DAY_MS)
    await spaced.scheduler.tick()
    assert "jumped" in ((await spaced.service.schedule(spaced.caller(), days=1, pattern=None)).value.doubt or "")

from __future__ import annotations

import pytest
from msgspec.structs import replace
from secretsd_bus import rfc3339

from secretsd.consumers.sightings import Mark, Sighting, Sightings
from secretsd.consumers.standing import LIVE_MS, Standing, covered, holders, lagging, standings
from secretsd.model import NEVER_MS
from secretsd.vault.document import SecretRecord, VersionRecord, Wishes

DAY = 86_400_000
MADE = 1_800_000_000_000
NOW = MADE + 10 * DAY


def version(number: int, grace_until: int | None = None) -> VersionRecord:
    return VersionRecord(number, f"kid-{number}", MADE + number * DAY, "utf-8", "", "", grace_until)


RECORD = SecretRecord(
    type="password",
    rotation="manual",
    rotation_ms=None,
    grace_ms=DAY,
    wishes=Wishes(),
    expires_at=NOW + DAY,
    status="active",
    announced=0,
    generation=3,
    versions=(version(3), version(2, NOW + DAY)),
)


def mark(number: int) -> Mark:
    return Mark(number, f"kid-{number}", rfc3339(NOW))


def judged(sighting: Sighting | None, *, seen_ms: int = NOW) -> Standing:
    secrets = {} if sighting is None else {"db": {"backend": sighting}}
    sightings = Sightings(secrets, {"backend": rfc3339(seen_ms)})
    (found,) = standings(RECORD, "db", sightings, {"backend": True}, NOW)
    return found


@pytest.mark.parametrize(
    ("sighting", "state", "using"),
    [
        (None, "never", None),
        (Sighting(mark(3)), "current", 3),
        (Sighting(mark(2)), "previous", 2),
        (Sighting(mark(1)), "outdated", 1),
        (Sighting(mark(3), mark(3)), "in-use", 3),
        (Sighting(None, mark(3)), "in-use", 3),
        # It has read the current one, and has not said yet that it uses it.
        (Sighting(mark(3), mark(2)), "previous", 2),
        # It has stopped acknowledging: what it said of a version that is gone holds nothing up.
        (Sighting(mark(3), mark(1)), "current", 3),
        (Sighting(mark(2), mark(1)), "previous", 2),
    ],
)
def test_the_state_follows_from_what_was_read_and_acknowledged(
    sighting: Sighting | None, state: str, using: int | None
) -> None:
    found = judged(sighting)
    assert found.state == state
    assert (None if found.using is None else found.using.version) == using


def test_who_asked_for_nothing_for_long_is_taken_to_be_gone() -> None:
    assert judged(Sighting(mark(2)), seen_ms=NOW - LIVE_MS).live
    gone = judged(Sighting(mark(2)), seen_ms=NOW - LIVE_MS - 1)
    assert not gone.live
    assert holders(RECORD.versions[1], [gone]) == []


def test_who_may_not_read_the_secret_is_not_there_and_instances_stand_for_their_client() -> None:
    sightings = Sightings({"db": {"web/a": Sighting(mark(3)), "web/b": Sighting(mark(2)), "old": Sighting(mark(2))}})
    found = standings(RECORD, "db", sightings, {"web": True, "worker": True}, NOW)
    assert [(one.key, one.state) for one in found] == [("web/a", "current"), ("web/b", "previous"), ("worker", "never")]


def test_holders_are_those_that_use_just_this_version() -> None:
    seen = dict.fromkeys(("a", "b", "c"), rfc3339(NOW))
    sightings = Sightings({"db": {"a": Sighting(mark(2)), "b": Sighting(mark(3)), "c": Sighting(mark(1))}}, seen)
    found = standings(RECORD, "db", sightings, dict.fromkeys("abc", True), NOW)
    assert [one.key for one in holders(RECORD.versions[1], found)] == ["a"]


def test_who_uses_a_version_more_than_half_of_whose_grace_is_over_lags() -> None:
    found = [judged(Sighting(mark(2)))]
    made, until = RECORD.current.created_at, RECORD.versions[1].grace_until or 0
    half = (made + until) // 2
    assert lagging(RECORD, found, half) == []
    assert lagging(RECORD, found, half + 1) == found
    assert lagging(RECORD, [judged(Sighting(mark(3)))], half + 1) == []
    kept = replace(RECORD, versions=(RECORD.current, replace(RECORD.versions[1], grace_until=NEVER_MS)))
    assert lagging(kept, found, until) == []


def test_all_is_known_if_nothing_is_missing_since_the_oldest_readable_version_was_made() -> None:
    assert covered(RECORD, Sightings())
    assert covered(RECORD, Sightings(since=rfc3339(MADE + 2 * DAY)))
    assert not covered(RECORD, Sightings(since=rfc3339(MADE + 2 * DAY + 1)))

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from secretsd_bus import canonical

from secretsd.model import MAX_REASON
from secretsd.rotation.announce import Announcer, Cause, clean_reason, metadata
from secretsd.rotation.transitions import buried
from tests.unit.rotation.records import NEVER_MS, record, version
from tests.unit.support.clock import START_MS

MEMBERS = {
    "name", "version", "kid", "type", "status", "expires_at", "previous", "epoch", "generation", "client", "reason",
    "urgent", "spread_ms",
}  # fmt: skip
ANNOUNCER = Announcer("epoch", 200)
RECORD = replace(record(), versions=(version(3), version(2, grace_until=NEVER_MS), version(1, grace_until=5)))


def test_an_event_says_what_the_contract_lists_and_never_the_ciphertext() -> None:
    line = ANNOUNCER.changed("rotated", "name", RECORD, Cause("admin", "why", urgent=True))
    assert (line.type, line.subject, set(line.data)) == ("secret.rotated", "name", MEMBERS)
    assert line.data["expires_at"] == "2027-02-21T17:00:00.000Z"
    assert line.data["previous"] == {"version": 2, "kid": "kid-2", "grace_until": "9999-12-31T23:59:59.999Z"}
    assert (line.data["client"], line.data["reason"], line.data["urgent"]) == ("admin", "why", True)
    assert b"ciphertext" not in canonical.encode(line.data)


def test_an_ended_version_is_named_beside_the_current_one() -> None:
    line = ANNOUNCER.retired("name", RECORD, version(1), Cause("secretsd"))
    assert line.data.keys() == MEMBERS | {"retired_version", "retired_kid", "laggards", "laggard_count"}
    assert (line.data["version"], line.data["retired_version"], line.data["retired_kid"]) == (3, 1, "kid-1")
    assert (line.data["laggards"], line.data["laggard_count"]) == (None, None)


def test_a_deleted_secret_has_the_same_members_and_the_status_deleted() -> None:
    line = ANNOUNCER.deleted("name", buried(RECORD, 9), Cause("admin"))
    assert line.data.keys() == MEMBERS
    assert (line.data["status"], line.data["previous"], line.data["generation"]) == ("deleted", None, 9)


def test_a_state_says_what_an_event_would() -> None:
    assert ANNOUNCER.state("name", RECORD).keys() == MEMBERS
    assert ANNOUNCER.state_of_deleted("name", buried(RECORD, 9))["status"] == "deleted"


def test_metadata_never_lacks_an_expiry() -> None:
    assert metadata("name", record(rotation_ms=None), 0).expires_at == "9999-12-31T23:59:59.999Z"
    assert metadata("name", record(), 0).previous is None
    assert metadata("name", RECORD, 0).created_at.startswith("2026-11-23T17:00:00.000")
    assert RECORD.current.created_at == START_MS


@given(st.text())
def test_any_reason_becomes_one_that_an_event_can_hold(text: str) -> None:
    cleaned = clean_reason(text)
    assert cleaned is not None
    assert len(cleaned) <= MAX_REASON
    canonical.encode({"reason": cleaned})


def test_no_reason_stays_none() -> None:
    assert clean_reason(None) is None


def test_a_long_reason_is_cut() -> None:
    assert clean_reason("x" * (MAX_REASON + 1)) == "x" * MAX_REASON

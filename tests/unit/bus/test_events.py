from __future__ import annotations

import base64
import hashlib
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from secretsd_bus import (
    PREFIX,
    ZERO_HASH,
    Chain,
    KeyRing,
    SigningKey,
    Unchained,
    line_hash,
    parse_time,
    rfc3339,
    verify_line,
)

KEY = SigningKey.generate()
RING = KeyRing([KEY.public])
TIME = "2026-11-23T17:00:00.123Z"
YEAR_10000_MS = 253_402_300_800_000


def chain() -> Chain:
    return Chain(log_id="log-a", node="pi", key=KEY)


def test_an_event_has_the_members_of_its_envelope_and_no_others() -> None:
    event = chain().append("secret.rotated", "name", {"name": "name"}, TIME)
    members = json.loads(event.raw)
    signature = members.pop("signature")
    assert members == {
        "specversion": "1.0",
        "id": "log-a-1",
        "source": "/jarvis/secretsd/pi",
        "type": f"{PREFIX}secret.rotated",
        "subject": "name",
        "time": TIME,
        "datacontenttype": "application/json",
        "sequence": "00000000000000000001",
        "prev": ZERO_HASH,
        "keyid": KEY.keyid,
        "data": {"name": "name"},
    }
    assert len(base64.urlsafe_b64decode(signature + "==")) == 64


def test_an_event_without_subject_leaves_the_member_out() -> None:
    assert "subject" not in json.loads(chain().append("daemon.started", None, {}, TIME).raw)


def test_the_writers_event_is_what_the_reader_gets() -> None:
    for subject in (None, 'a","source":"b'):
        event = chain().append("secret.read", subject, {"source": {"source": ',"source":'}}, TIME)
        assert verify_line(event.raw, RING) == event


def test_each_line_names_the_hash_of_the_one_before() -> None:
    log = chain()
    lines = [log.append("secret.read", None, {"n": n}, TIME) for n in range(5)]
    assert [line.sequence for line in lines] == [1, 2, 3, 4, 5]
    for before, after in itertools.pairwise(lines):
        digest = hashlib.sha256(before.raw).digest()
        assert after.prev == base64.urlsafe_b64encode(digest).decode().rstrip("=") == line_hash(before.raw)
    assert (log.sequence, log.head) == (5, line_hash(lines[-1].raw))


def test_a_chain_goes_on_where_its_copy_or_its_numbers_were() -> None:
    log = chain()
    log.append("secret.read", None, {}, TIME)
    copy = log.copy()
    resumed = Chain(log_id="log-a", node="pi", key=KEY, sequence=log.sequence, head=log.head)
    expected = log.append("secret.read", None, {}, TIME)
    assert copy.append("secret.read", None, {}, TIME) == expected
    assert resumed.append("secret.read", None, {}, TIME) == expected


def test_an_event_that_has_no_canonical_form_leaves_the_chain_where_it_was() -> None:
    log = chain()
    with pytest.raises(ValueError, match="canonical"):
        log.append("secret.read", None, {"reason": "a\nb"}, TIME)
    assert (log.sequence, log.head) == (0, ZERO_HASH)


def test_unchained_events_are_numbered_within_their_session() -> None:
    seal = Unchained(log_id="log-a", node="pi", key=KEY, session=7)
    first, second = (seal.seal("daemon.status", None, {"state": "online"}, TIME) for _ in range(2))
    assert (first.id, second.id) == ("log-a-7-1", "log-a-7-2")
    assert first.sequence is first.prev is None
    assert not {"sequence", "prev"} & json.loads(first.raw).keys()
    assert verify_line(first.raw, RING) == first


@given(st.integers(-62_135_596_800_000, YEAR_10000_MS - 1))
def test_a_time_comes_back_to_the_millisecond(ms: int) -> None:
    text = rfc3339(ms)
    assert parse_time(text) == ms
    assert len(text) == len(TIME)


def test_the_end_of_time_has_its_text() -> None:
    assert rfc3339(YEAR_10000_MS - 1) == "9999-12-31T23:59:59.999Z"
    with pytest.raises(ValueError, match="9999"):
        rfc3339(YEAR_10000_MS)


@pytest.mark.parametrize(
    ("text", "ms"),
    [("1970-01-01T00:00:00Z", 0), ("1970-01-01T00:00:01.5Z", 1500), ("1970-01-01T00:00:00.123999Z", 123)],
)
def test_a_time_may_have_fewer_or_more_digits(text: str, ms: int) -> None:
    assert parse_time(text) == ms


@pytest.mark.parametrize(
    "text",
    ["", "2026-11-23", "2026-11-23T17:00:00", "2026-11-23t17:00:00z", "2026-11-23T17:00:00+00:00",
     "2026-13-01T00:00:00Z",
     "2026-02-30T00:00:00Z", "2026-11-23T24:00:01Z", "2026-11-23T17:00:00.Z", "٢026-11-23T17:00:00Z",
     "2026-11-23T17:00:00Z\n"],
)  # fmt: skip
def test_what_is_no_time_in_utc_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse_time(text)

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secretsd.model import (
    DAY_MS,
    MAX_DURATION_MS,
    CreateSecret,
    PutSecret,
    RestoreRequest,
    RotateRequest,
    is_name,
    parse_duration,
)


@pytest.mark.parametrize("name", ["a", "0", "A.b_c-d", "x" * 128, "postgres_password", "a..", "a-"])
def test_a_name_is_taken_alike_everywhere(name: str) -> None:
    assert is_name(name)
    assert msgspec.convert({"name": name}, CreateSecret).name == name
    assert msgspec.convert({"names": [name], "values": {name: "v"}}, RotateRequest).names == [name]


@pytest.mark.parametrize(
    "name",
    ["", ".a", "_a", "-a", "a b", "a/b", "a+b", "a#", "x" * 129, "é", "\na", "a\x00", "a\u0660", "*", "a\r\n"],
)
def test_what_is_no_name_is_refused_everywhere(name: str) -> None:
    assert not is_name(name)
    for body, kind in (
        ({"name": name}, CreateSecret),
        ({"names": [name]}, RotateRequest),
        ({"names": ["a"], "values": {name: "v"}}, RotateRequest),
    ):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(body, kind)


def test_a_name_does_not_end_in_a_newline() -> None:
    assert not is_name("a\n")


@given(st.text(max_size=5))
def test_a_name_never_holds_what_a_topic_or_a_path_would_read_otherwise(text: str) -> None:
    if is_name(text):
        assert text.isascii()
        assert not set(text) & set("/+#$\x00\n ")
        assert text not in {".", ".."}


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("90d", 90 * DAY_MS),
        ("12h", 43_200_000),
        ("30m", 1_800_000),
        ("45s", 45_000),
        ("0s", 0),
        ("36500d", MAX_DURATION_MS),
        ("never", None),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text: str, milliseconds: int | None) -> None:
    assert parse_duration(text) == milliseconds
    assert msgspec.convert({"name": "a", "grace_period": text}, CreateSecret).grace_period == text


@pytest.mark.parametrize("text", ["", "90", "d", "-1d", "1.5d", "1w", " 1d", "1d ", "Never", "1D", "٣d", "9999999999s"])
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="a duration is"):
        parse_duration(text)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"name": "a", "grace_period": text}, CreateSecret)


@pytest.mark.parametrize("text", ["1d\n", "never\n"])
def test_a_duration_does_not_end_in_a_newline(text: str) -> None:
    with pytest.raises(ValueError, match="a duration is"):
        parse_duration(text)


def test_a_duration_beyond_a_century_is_never() -> None:
    with pytest.raises(ValueError, match='longer is "never"'):
        parse_duration("36501d")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"name": "a", "valeu": "x"}, CreateSecret),
        ({"name": "a", "value": None}, CreateSecret),
        ({"name": "a", "type": "rsa"}, CreateSecret),
        ({"name": "a", "encoding": "hex"}, CreateSecret),
        ({"name": "a", "rotation_days": 0}, CreateSecret),
        ({"name": "a", "grace_days": -1}, CreateSecret),
        ({"name": "a", "grace_days": 36_501}, CreateSecret),
        ({"name": "a", "grace_days": True}, CreateSecret),
        ({}, PutSecret),
        ({"value": "a", "urgent": 1}, PutSecret),
        ({"value": "a", "reason": "x" * 201}, PutSecret),
        ({"names": []}, RotateRequest),
        ({"names": "a"}, RotateRequest),
        ({"names": ["a"], "values": {"a": {"value": "x", "more": 1}}}, RotateRequest),
        ({"names": ["a"], "values": {"a": 1}}, RotateRequest),
        ({"version": 0}, RestoreRequest),
        ({"version": 2**53}, RestoreRequest),
        ({"version": "1"}, RestoreRequest),
    ],
)
def test_a_request_with_anything_unknown_or_mistyped_is_refused(body: dict[str, object], kind: type) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(body, kind)

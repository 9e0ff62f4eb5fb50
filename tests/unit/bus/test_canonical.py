from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from secretsd_bus import Refused, canonical

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x7f", min_codepoint=0x20))
KEYS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E))
INTEGERS = st.integers(-(2**53) + 1, 2**53 - 1)
SCALARS = st.none() | st.booleans() | INTEGERS | TEXT
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner, max_size=6), max_leaves=25
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=6)


@given(VALUES)
def test_the_fast_encoder_writes_what_rfc8785_writes(value: Any) -> None:
    assert canonical.encode(value) == rfc8785.dumps(value)


@given(OBJECTS)
def test_what_is_encoded_decodes_to_the_same(value: dict[str, Any]) -> None:
    assert canonical.decode(canonical.encode(value)) == value


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.floats() | st.binary(max_size=3), max_size=3))
def test_what_the_encoder_takes_is_what_any_reader_spells_alike(value: dict[str, Any]) -> None:
    try:
        encoded = canonical.encode(value)
    except ValueError:
        return
    assert encoded == rfc8785.dumps(value)
    assert canonical.decode(encoded) == value
    assert not any(byte < 0x20 or byte == 0x7F for byte in encoded)


@given(st.binary() | st.text().map(str.encode) | OBJECTS.map(lambda value: json.dumps(value).encode()))
def test_decoding_anything_gives_its_canonical_object_or_a_refusal(data: bytes) -> None:
    try:
        value = canonical.decode(data)
    except Refused:
        return
    assert rfc8785.dumps(value) == data


@pytest.mark.parametrize(
    "value",
    [
        *((1, 2), b"x", {1: 2}, {None: 1}, {"a": {2}}, 1.0, float("nan"), 2**53, -(2**53), HTTPStatus.OK),
        *("\x00", "\x1f", "\x7f", "\ud800"),
    ],
    ids=repr,
)
def test_what_has_no_canonical_form_is_a_value_error(value: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 — the kind is the promise, the words aren't
        canonical.encode(value)


def test_a_refusal_never_shows_the_text_that_it_refuses() -> None:
    for secret in ("hunter2\x00", "hunter2\x7f", "hunter2\ud800"):
        with pytest.raises(ValueError) as refusal:  # noqa: PT011
            canonical.encode({"value": secret})
        assert "hunter2" not in f"{refusal.value!r} {refusal.value.__cause__!r}"


def test_nesting_without_end_is_a_value_error() -> None:
    endless: dict[str, Any] = {}
    endless["inner"] = endless
    with pytest.raises(ValueError, match="deep"):
        canonical.encode(endless)


@pytest.mark.parametrize("levels", [16, 17, 100_000])
def test_sixteen_levels_decode_and_more_are_refused(levels: int) -> None:
    data = b'{"a":' * (levels - 1) + b"{}" + b"}" * (levels - 1)
    if levels == 16:
        assert canonical.encode(canonical.decode(data)) == data
    else:
        with pytest.raises(Refused) as refusal:
            canonical.decode(data)
        assert refusal.value.slug == "not-json"

"""Every form of a value is found wherever it stands, however a stream is cut, and nothing else is."""

from __future__ import annotations

import base64
import json
import os
import random
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secretsd.cli.leaks.needles import Hit, Matcher, Value, needles, too_short
from secretsd.crypto.sensitive import Sensitive

SECRET = b"pl4nted/+ value\xc3\xa9?"


def value(text: bytes = SECRET, name: str = "a", version: int | None = 1) -> Value:
    return Value(name, version, Sensitive(text))


def search(data: bytes, *values: Value, size: int = 1 << 20) -> list[Hit]:
    chunks = (data[start : start + size] for start in range(0, len(data), size))
    return Matcher(needles(values or [value()])).search(chunks)


FORMS = [
    ("as it is", SECRET),
    ("base64", base64.b64encode(SECRET)),
    ("base64", base64.b64encode(b"user:" + SECRET + b"!")),
    ("base64", base64.b64encode(b"us:" + SECRET + b"ab")),
    ("base64url", base64.urlsafe_b64encode(b"\xff" + SECRET)),
    ("hex", SECRET.hex().upper().encode()),
    ("URL-encoded", quote(SECRET, safe="").encode()),
    ("URL-encoded", quote(SECRET, safe="").lower().encode()),
    ("URL-encoded", quote_plus(SECRET).encode()),
    ("JSON", json.dumps(SECRET.decode()).encode()),
]


@pytest.mark.parametrize(("form", "text"), FORMS)
def test_a_value_is_found_in_every_form(form: str, text: bytes) -> None:
    (hit,) = search(b"x = <" + text + b">\n")
    assert hit.needle.form in {form, "base64"}


ODD = "pl4nted!'()*~ +<a>&/\u00e9\\u00e9\""


@pytest.mark.parametrize(
    "text",
    [
        """pl4nted!'()*~%20%2B%3Ca%3E%26%2F%C3%A9%5Cu00e9%22""",  # encodeURIComponent
        """pl4nted%21%27%28%29*%7E+%2B%3Ca%3E%26%2F%C3%A9%5Cu00e9%22""",  # Java, URLSearchParams
        """pl4nted%21%27%28%29%2A%7E+%2B%3Ca%3E%26%2F%C3%A9%5Cu00e9%22""",  # PHP
        r"""pl4nted!'()*~ +<a>&\/\u00e9\\u00e9\"""",  # PHP
        r"""pl4nted!'()*~ +\u003ca\u003e\u0026/\u00e9\\u00e9\"""".replace(r"/\u00e9", "/\u00e9"),  # Go
        r"""pl4nted!'()*~ +<a>&/\u00E9\\u00e9\"""",  # capital digits
        r"""pl4nted!'()*~ +\u003Ca\u003E\u0026\/\u00E9\\u00e9\"""",  # all of it
    ],
)
def test_what_other_languages_encode_is_found(text: str) -> None:
    assert search(f"<{text}>".encode(), value(ODD.encode()))


@given(st.binary(min_size=8, max_size=40), st.binary(max_size=7), st.binary(max_size=7))
def test_a_value_within_something_encoded_as_base64_is_found(text: bytes, before: bytes, after: bytes) -> None:
    if text.strip() != text or len(text) < 8:
        return
    assert search(base64.b64encode(before + text + after), value(text))


@pytest.mark.parametrize("width", [60, 64, 76])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\n    "])
def test_base64_is_found_however_its_lines_break(width: int, end: str) -> None:
    for secret in (SECRET, random.Random(7).randbytes(300)):
        for before in range(0, 80, 7):
            encoded = base64.b64encode(b"x" * before + secret + b"y" * 20).decode()
            lines = [encoded[start : start + width] for start in range(0, len(encoded), width)]
            (hit,) = search(f"one\n{end.join(lines)}\n".encode(), value(secret))
            assert hit.needle.form in {"base64", "base64, wrapped"}
            assert hit.line in {2 + before * 4 // 3 // width, 2 + (before * 4 // 3 + 2) // width}


@pytest.mark.parametrize("size", [1, 7, 64, 500])
def test_wrapped_base64_across_chunks_is_found_with_its_text(size: int) -> None:
    lines = base64.encodebytes(b"x" * 50 + SECRET + b"y" * 90)
    data = b"one: 1\n" * 100 + lines + b"end\n" * 100
    (hit,) = search(data, size=size)
    assert (hit.line, hit.needle.form) == (101, "base64, wrapped")
    assert hit.offset == data.index(hit.needle.text)
    assert hit.needle.text.count(b"\n") == 1


def test_a_last_short_line_and_a_prefix_before_the_first_are_looked_into() -> None:
    first, second, last = base64.encodebytes(b"x" * 110 + SECRET).split(b"\n")[:3]
    assert search(b"key=" + first + b"\n" + second + b"\n" + last)
    first, second = base64.encodebytes(b"x" * 45 + SECRET + b"y" * 49).split(b"\n")[:2]
    assert search(b"key=" + first + b"\n" + second + b"\n")


def test_lines_of_code_are_not_taken_for_wrapped_base64() -> None:
    text = base64.b64encode(SECRET)
    assert search(b"x = " + text[:9] + b"\n" + text[9:] + b"\n") == []


@pytest.mark.parametrize("size", [1, 2, 7, 16, 64])
def test_a_value_across_chunks_is_found_with_its_line(size: int) -> None:
    data = b"one\ntwo\n" + b"x" * 30 + SECRET + b"\nrest" * 9
    (hit,) = search(data, size=size)
    assert (hit.line, hit.offset) == (3, data.index(SECRET))


def test_values_of_several_lines_are_found_with_either_line_end_and_escaped() -> None:
    pem = value(b"-----BEGIN K-----\nabcdefgh\n-----END K-----\n")
    for text in (b"-----BEGIN K-----\r\nabcdefgh\r\n-----END K-----", rb"-----BEGIN K-----\nabcdefgh\n-----END K-----"):
        assert search(b"<" + text + b">", pem)


def test_each_version_of_each_secret_is_told_once() -> None:
    values = value(b"pl4nted-1"), value(b"pl4nted-2", version=2), value(b"pl4nted-1", "b")
    found = search(b"pl4nted-1 pl4nted-2 pl4nted-1\n" * 1000, *values)
    assert {(hit.needle.value.secret, hit.needle.value.version, hit.line) for hit in found} == {
        ("a", 1, 1), ("a", 2, 1), ("b", 1, 1),
    }  # fmt: skip


def test_a_value_that_is_part_of_another_is_found_too() -> None:
    found = search(b"pl4nted-inner-more", value(b"pl4nted-inner"), value(b"pl4nted-inner-more", "b"))
    assert {hit.needle.value.secret for hit in found} == {"a", "b"}


def test_random_bytes_hold_no_value() -> None:
    assert search(random.Random(7).randbytes(1 << 20)) == []


def test_without_values_nothing_is_found() -> None:
    assert Matcher([]).search([SECRET]) == []


@pytest.mark.parametrize(("text", "short"), [(b"1234567", True), (b"12345678", False), (b" 1234567\n", True)])
def test_blanks_make_a_value_no_longer(text: bytes, *, short: bool) -> None:
    assert too_short(value(text)) is short


def test_a_needle_does_not_show_its_text() -> None:
    assert "pl4nted" not in repr(needles([value()]))


@pytest.mark.parametrize(
    "path",
    [
        "/srv/{}/f",
        "/srv/x-{}",
        "{}: can not be read",
    ],
)
@pytest.mark.parametrize("form", ["as it is", "base64url", "hex", "URL-encoded"])
def test_a_path_is_shown_without_the_value_in_it(path: str, form: str) -> None:
    secret = b"pl4nted value\xc3\xa9?\xff"
    wanted = needles([value(secret)])
    text = next(os.fsdecode(one.text) for one in wanted if one.form == form)
    assert Matcher(wanted).masked(path.format(text)) == path.format("<value of a>")


def test_values_that_overlap_in_a_path_leave_nothing_of_either() -> None:
    matcher = Matcher(needles([value(b"pl4nted-one"), value(b"one-two-three", "b"), value(b"pl4nted-", "c")]))
    assert matcher.masked("/a/pl4nted-one-two-three/pl4nted-") == "/a/<value of a>/<value of c>"


def test_a_path_without_values_stays_as_it_is() -> None:
    odd = os.fsdecode(b"/srv/\xff\xc3\xa9/x\n")
    assert Matcher(needles([value()])).masked(odd) == odd
    assert Matcher([]).masked(odd) == odd

"""No value is left in words that come from elsewhere, in whatever form it stands there."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Callable
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secretsd.crypto.sensitive import Sensitive
from secretsd.rotators.scrub import STRUCK, scrubbed

SECRET = "p@ss'w0rd/\"x"


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        quote(SECRET, safe=""),
        json.dumps(SECRET)[1:-1],
        base64.b64encode(SECRET.encode()).decode(),
        SECRET.replace("'", "''"),
        SECRET.encode().hex(),
    ],
)
def test_a_value_is_struck_out_in_every_form(form: str) -> None:
    assert scrubbed(f"login with {form} failed", [Sensitive(SECRET.encode())]) == f"login with {STRUCK} failed"


def test_the_secret_part_alone_is_struck_out_and_what_only_tells_where_it_is_used_stays() -> None:
    url = Sensitive(f"postgresql://app:{quote(SECRET, safe='')}@db.lan/app".encode())
    assert scrubbed(f"user app at db.lan, password {SECRET}", [url]) == f"user app at db.lan, password {STRUCK}"
    pair = Sensitive(json.dumps({"username": "application", "password": SECRET}).encode())
    assert scrubbed(f"application used {SECRET}", [pair]) == f"application used {STRUCK}"


def test_a_short_value_is_struck_out_and_one_without_content_changes_nothing() -> None:
    assert scrubbed("pin 12 is wrong", [Sensitive(b"12")]) == f"pin {STRUCK} is wrong"
    assert scrubbed("nothing to hide", [Sensitive(b"")]) == "nothing to hide"


@pytest.mark.parametrize("errors", ["replace", "ignore", "backslashreplace", "surrogateescape"])
def test_a_value_that_is_no_text_is_struck_out_however_it_was_decoded(errors: str) -> None:
    value = b"\xffhalf-readable\xfe\xc3and-the-rest"
    said = f"took {value.decode('utf-8', errors)} for it"
    assert scrubbed(said, [Sensitive(value)]) == f"took {STRUCK} for it"
    assert scrubbed(f"took {value!r} for it", [Sensitive(value)]) == f"took b'{STRUCK}' for it"


def test_what_overlaps_is_struck_out_whole() -> None:
    assert scrubbed("it is abcdefgh.", [Sensitive(b"abcd"), Sensitive(b"cdefgh")]) == f"it is {STRUCK}."


AWKWARD = st.text(st.sampled_from("aZ1 ü€😀\"'\\/<&%$`\n\t\x01\x7f\x85\u2028"), min_size=4).filter(str.strip)
WAYS: dict[str, Callable[[str], str]] = {
    "as it is": lambda value: value,
    "on one line": lambda value: " ".join(value.split()),
    "JSON": lambda value: json.dumps(value, ensure_ascii=False)[1:-1],
    "JSON in ASCII": lambda value: json.dumps(value)[1:-1],
    "what a command is handed": lambda value: msgspec.json.encode(value).decode()[1:-1],
    "jq": lambda value: json.dumps(value, ensure_ascii=False)[1:-1].replace("\x7f", "\\u007f"),
    "PHP": lambda value: json.dumps(value)[1:-1].replace("/", "\\/"),
    "Python": lambda value: repr(value)[1:-1],
    "URL": lambda value: quote(value, safe=""),
    "base64": lambda value: base64.b64encode(value.encode()).decode(),
    "SQL": lambda value: value.replace("'", "''"),
    "shlex and dash": lambda value: shlex.quote(value).removeprefix("'").removesuffix("'"),
    "bash": lambda value: value.replace("'", "'\\''"),
    "JSON traced by bash": lambda value: json.dumps(value, ensure_ascii=False)[1:-1].replace("'", "'\\''"),
}


@pytest.mark.parametrize("way", WAYS)
@given(value=AWKWARD)
def test_awkward_characters_hide_a_value_in_no_way_of_writing_it(way: str, value: str) -> None:
    said = f"took ={WAYS[way](value)}= for it"
    assert scrubbed(said, [Sensitive(value.encode())]) == f"took ={STRUCK}= for it"


def test_a_member_that_is_no_text_anybody_could_write_ends_nothing() -> None:
    value = Sensitive(b'{"password": "half-\\udc80-readable"}')
    assert scrubbed("nothing to hide", [value]) == "nothing to hide"

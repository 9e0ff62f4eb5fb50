"""No value is left in words that come from elsewhere, in whatever form it stands there."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest

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

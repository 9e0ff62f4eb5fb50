"""What is looked for: a value as it stands and in the forms in which it travels, all of them in one pass."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import urllib.parse
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from ahocorasick_rs import BytesAhoCorasick

from secretsd import jsontext
from secretsd.cli.leaks.wrapped import passages, reach
from secretsd.crypto.sensitive import Sensitive

MIN_LENGTH: Final = 8
"""A shorter value would be found everywhere by chance."""

BASE64: Final = "base64"
WRAPPED: Final = "base64, wrapped"

# By how many bytes come before the value in a larger text: how many characters of its base64 they have a part in.
_LEADING: Final = {0: 0, 1: 2, 2: 3}

_Key = tuple[str, int | None]


@dataclass(frozen=True)
class Value:
    """A version of a secret whose value is looked for."""

    secret: str
    version: int | None
    """None: not of the vault (yet)."""
    value: Sensitive = field(repr=False)
    type: str = ""
    """The secret's, empty where it isn't known, `findings.OUTDATED` where a new value takes its place."""


@dataclass(frozen=True)
class Needle:
    """One form of one value."""

    value: Value
    form: str
    text: bytes = field(repr=False)

    @property
    def key(self) -> _Key:
        """Of which secret's version it is."""
        return self.value.secret, self.value.version


@dataclass(frozen=True)
class Hit:
    """A needle found. `line` counts from 1."""

    needle: Needle
    offset: int
    line: int


def too_short(value: Value, least: int = MIN_LENGTH) -> bool:
    """Tell whether a value, blanks around it apart, has fewer than `least` bytes."""
    return len(value.value.reveal().strip()) < least


def needles(values: Iterable[Value]) -> list[Needle]:
    """Return all forms of all values, each text once a value."""
    return [Needle(value, form, text) for value in values for form, text in _forms(value.value.reveal().strip())]


def _forms(value: bytes) -> list[tuple[str, bytes]]:
    seen: dict[bytes, str] = {value: "as it is"}
    for form, text in _derived(value):
        seen.setdefault(text, form)
    return [(form, text) for text, form in seen.items()]


def _derived(value: bytes) -> Iterator[tuple[str, bytes]]:
    if b"\n" in value:
        yield "with other line ends", value.replace(b"\r\n", b"\n")
        yield "with other line ends", value.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    for before, lead in _LEADING.items():
        encoded = base64.b64encode(bytes(before) + value)
        # The last character holds bits of what comes after, if the value doesn't end with it.
        text = encoded[lead : (before + len(value)) * 8 // 6]
        yield BASE64, text
        yield "base64url", text.translate(bytes.maketrans(b"+/", b"-_"))
    yield "hex", value.hex().encode()
    yield "hex", value.hex().upper().encode()
    for quoted in _url_encoded(value):
        yield "URL-encoded", quoted.encode()
        yield "URL-encoded", _lower_escapes(quoted).encode()
    with contextlib.suppress(UnicodeDecodeError):
        for escaped in jsontext.escaped(value.decode()):
            yield "JSON", escaped.encode()
            yield "JSON", _upper_escapes(escaped).encode()


def _url_encoded(value: bytes) -> Iterator[str]:
    """Yield it as Python, encodeURIComponent and HTML forms (there as Python, and as Java and browsers) do."""
    for left in ("", "/", "!'()*"):
        yield urllib.parse.quote_from_bytes(value, safe=left)
    for left in ("", "*"):
        plus = urllib.parse.quote_from_bytes(value, safe=f" {left}").replace(" ", "+")
        yield plus
        yield plus.replace("~", "%7E")


def _lower_escapes(quoted: str) -> str:
    first, *rest = quoted.split("%")
    return first + "".join(f"%{part[:2].lower()}{part[2:]}" for part in rest)


def _upper_escapes(escaped: str) -> str:
    """Return it with capital digits in escapes."""
    return re.sub(r"\\(u[0-9a-f]{4}|.)", lambda found: "\\" + _upper_digits(found[1]), escaped)


def _upper_digits(escape: str) -> str:
    return f"u{escape[1:].upper()}" if len(escape) > 1 else escape


class Matcher:
    """Looks for all needles at once, in a stream of chunks."""

    def __init__(self, wanted: Sequence[Needle]) -> None:
        self._needles = wanted
        self._automaton = _automaton(wanted)
        self._base64 = [one for one in wanted if one.form == BASE64]
        self._in_wrapped = _automaton(self._base64)
        longest = max((len(one.text) for one in wanted), default=1) - 1
        self._overlap = max(longest, reach(max((len(one.text) for one in self._base64), default=0)))

    def search(self, chunks: Iterable[bytes]) -> list[Hit]:
        """Return the first place of each secret's version in the stream, however the chunks cut it."""
        found: dict[_Key, Hit] = {}
        if self._automaton is None:
            return []
        tail, start, line = b"", 0, 1
        for chunk in chunks:
            buffer = tail + chunk
            for needle, begin in self._places(buffer, self._automaton, found):
                if needle.key not in found:
                    found[needle.key] = Hit(needle, start + begin, line + buffer.count(b"\n", 0, begin))
            keep = min(self._overlap, len(buffer))
            dropped = len(buffer) - keep
            line += buffer.count(b"\n", 0, dropped)
            start += dropped
            tail = buffer[dropped:]
        return list(found.values())

    def _places(
        self, buffer: bytes, automaton: BytesAhoCorasick, found: Container[_Key]
    ) -> Iterator[tuple[Needle, int]]:
        """Yield what is found where; of wrapped base64, unless it is found already, the text as it is broken there."""
        for index, begin, _ in automaton.find_matches_as_indexes(buffer, overlapping=True):
            yield self._needles[index], begin
        if self._in_wrapped is None:
            return
        for passage in passages(buffer):
            for index, *span in self._in_wrapped.find_matches_as_indexes(passage.joined, overlapping=True):
                needle = self._base64[index]
                if needle.key not in found:
                    begin, end = passage.place(*span)
                    yield Needle(needle.value, WRAPPED, buffer[begin:end]), begin

    def masked(self, text: str) -> str:
        """Return a path, or what names one, without the values in it: whose they are stands in their place."""
        data = os.fsencode(text)
        shown, end = "", 0
        for begin, stop, secret in self._spans(data):
            shown += os.fsdecode(data[end:begin]) + (f"<value of {secret}>" if begin >= end else "")
            end = max(end, stop)
        return shown + os.fsdecode(data[end:])

    def _spans(self, data: bytes) -> list[tuple[int, int, str]]:
        """Return where values are, the longest first of those that begin together."""
        if self._automaton is None:
            return []
        places = self._automaton.find_matches_as_indexes(data, overlapping=True)
        spans = [(begin, end, self._needles[index].value.secret) for index, begin, end in places]
        return sorted(spans, key=lambda one: (one[0], -one[1], one[2]))


def _automaton(wanted: Sequence[Needle]) -> BytesAhoCorasick | None:
    return BytesAhoCorasick([one.text for one in wanted]) if wanted else None

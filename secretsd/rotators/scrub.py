"""Strikes values out of words that come from elsewhere: an exception's text, a program's output, a server's message."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from itertools import pairwise
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from secretsd import jsontext
from secretsd.crypto.sensitive import Sensitive

STRUCK: Final = "[struck out]"
_SHORTEST: Final = 4
"""Shorter parts of a value are left: striking each "a" out of a sentence leaves nothing of it."""
_NO_SECRETS: Final = frozenset({"user", "username", "host", "port", "dbname", "database", "engine"})
"""Members of a value in JSON that tell where it is used, not what it is."""
_LONE: Final = dict.fromkeys((*range(0xD800, 0xDC80), *range(0xDD00, 0xE000)), "?")
"""Surrogates that stand for no byte; the others are how Python keeps a byte that isn't text."""
_QUOTES: Final = ("''", "'\\''", "'\"'\"'")
"""How SQL, bash, and shlex and dash write an apostrophe within apostrophes."""


def scrubbed(text: str, values: Iterable[Sensitive]) -> str:
    """Return `text` without any of `values`, be they whole, quoted, encoded, or their secret parts alone."""
    data = text.translate(_LONE).encode("utf-8", "surrogateescape")
    return Needles(values).struck(data).decode("utf-8", "surrogateescape")


class Needles:
    """What is struck out: all forms of some values, as bytes, since neither a value nor an output has to be text."""

    def __init__(self, values: Iterable[Sensitive]) -> None:
        self._forms = {form for value in values for form in _forms_of(value)}

    @property
    def longest(self) -> int:
        """The longest form's bytes."""
        return max(map(len, self._forms), default=0)

    def struck(self, data: bytes) -> bytes:
        """Return `data` without any form; what overlaps is struck out as one."""
        return self._without(data, self._spans(data, 0), 0)

    def struck_end(self, data: bytes, most: int) -> bytes:
        """Return the last `most` bytes of `data` without any form, nor a part of one where an end cuts it.

        The caller keeps `longest` bytes more than `most`, so that one that is cut at the front is known.
        """
        begin = max(len(data) - most, 0)
        spans = self._spans(data, begin)
        last = max((_overlap(data, form) for form in self._forms), default=0)
        if last >= _SHORTEST:
            spans.append((len(data) - last, len(data)))
        return self._without(data, spans, begin)

    def _spans(self, data: bytes, begin: int) -> list[tuple[int, int]]:
        """Return where forms are that reach beyond `begin`."""
        spans = []
        for form in self._forms:
            at = data.find(form, max(begin - len(form) + 1, 0))
            while at >= 0:
                spans.append((at, at + len(form)))
                at = data.find(form, at + 1)
        return spans

    @staticmethod
    def _without(data: bytes, spans: list[tuple[int, int]], begin: int) -> bytes:
        merged = [(begin, begin)]
        for start, end in sorted(spans):
            if start < merged[-1][1]:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((start, end))
        merged.append((len(data), len(data)))
        pieces = [STRUCK.encode()] if merged[0][1] > begin else []
        for (_, before), (start, end) in pairwise(merged):
            pieces.append(data[before:start])
            if end > start:
                pieces.append(STRUCK.encode())
        return b"".join(pieces)


def _overlap(data: bytes, form: bytes) -> int:
    """Return how many bytes at the end of `data` are the beginning of `form`."""
    at = data.find(form[:_SHORTEST], max(len(data) - len(form) + 1, 0))
    while at >= 0:
        if form.startswith(data[at:]):
            return len(data) - at
        at = data.find(form[:_SHORTEST], at + 1)
    return 0


def _forms_of(value: Sensitive) -> set[bytes]:
    """Return a value and what is secret within it, in every form."""
    data = value.reveal()
    whole = {data, data.decode("utf-8", "replace").encode(), repr(data)[2:-1].encode()}
    whole |= {line for line in data.splitlines() if len(line.strip()) >= _SHORTEST}
    texts = {form for part in _parts(data) for form in _forms(part)}
    return {form for form in whole | {text.encode("utf-8", "surrogateescape") for text in texts} if form.strip()}


def _parts(data: bytes) -> set[str]:
    """Return what of a value is secret as text: all of it, the password of a URL, the texts of a JSON object."""
    parts = {base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode(), data.hex()}
    try:
        text = data.decode()
    except UnicodeDecodeError:
        # However somebody else decoded it.
        text = ""
        parts |= {data.decode("utf-8", "ignore"), data.decode("utf-8", "backslashreplace"), data.decode("latin-1")}
    parts |= {text, *text.splitlines()}
    try:
        password = urlsplit(text).password
    except ValueError:
        password = None
    if password is not None:
        parts |= {password, unquote(password)}
    try:
        members = json.loads(text)
    except (ValueError, RecursionError):
        members = None
    if isinstance(members, dict):
        parts |= {member for name, member in members.items() if isinstance(member, str) and name not in _NO_SECRETS}
    return {part for part in parts if len(part.strip()) >= _SHORTEST} | ({text} if text else set())


def _forms(part: str) -> set[str]:
    """Return a text as it is, as programs quote it, and all that as a shell quotes it where it traces what it does."""
    part = part.translate(_LONE)
    texts = {
        part,
        part.strip() or part,
        " ".join(part.split()),
        quote(part, safe="", errors="surrogateescape"),
        repr(part)[1:-1],
        *jsontext.escaped(part),  # the first is msgspec's too: what `command` hands over
        json.dumps(part, ensure_ascii=False)[1:-1].replace("\x7f", "\\u007f"),  # jq
    }
    return texts | {text.replace("'", quoted) for text in texts for quoted in _QUOTES}

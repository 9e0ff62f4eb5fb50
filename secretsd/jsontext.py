"""How programs write a text in JSON where that leaves a choice: a value is looked for in each way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

_HTML: Final = {ord(mark): f"\\u{ord(mark):04x}" for mark in "<>&\u2028\u2029"}
"""What Go escapes besides, so that it can stand in a web page."""


def escaped(text: str) -> Iterator[str]:
    """Yield it with what each must escape, with all beyond ASCII too, and both with PHP's slashes and Go's brackets."""
    for ascii_only in (False, True):
        plain = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        for one in (plain, plain.translate(_HTML)):
            yield one
            yield one.replace("/", r"\/")

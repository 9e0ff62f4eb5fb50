"""Names that Home Assistant takes: stable, and different for different secrets and daemons."""

from __future__ import annotations

import hashlib
import re
from typing import Final

_SLUG_MOST: Final = 80
"""Characters of one part of an entity id: Home Assistant cuts the whole at 255."""
_PLAIN: Final = re.compile(rf"(?=.{{1,{_SLUG_MOST}}}\Z)[a-z0-9]+(_[a-z0-9]+)*\Z")


def topic_id(name: str) -> str:
    """Return a secret's or node's name in the characters of a discovery topic: no dot, so it is written as `-_`.

    A hyphen is doubled for that, so that no two names come out alike.
    """
    return name.replace("-", "--").replace(".", "-_")


def device_id(topic_prefix: str, node: str) -> str:
    """Return what tells this daemon's device from all others at one broker: prefix and node make it."""
    digest = hashlib.sha256(f"{topic_prefix}/{node}".encode()).hexdigest()[:8]
    return f"secretsd_{topic_id(node)}_{digest}"


def slug(name: str) -> str:
    """Return a name's part of an entity id, which Home Assistant has in lower case and with underscores alone.

    Where that loses something a digest keeps `a.b`, `a_b` and `A_b` apart, whichever comes first.
    """
    if _PLAIN.match(name):
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:6]
    return f"{'_'.join(re.findall('[a-z0-9]+', name.lower()))[:_SLUG_MOST]}_{digest}"

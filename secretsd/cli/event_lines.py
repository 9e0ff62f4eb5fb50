"""tail's judgement and words: which messages are shown, and how."""

from __future__ import annotations

import fnmatch
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from rich.text import Text
from secretsd_bus import Event, KeyRing, Refused, Topics, Verifier

from secretsd.cli.terminal import printable

REMEMBERED: Final = 20_000
"""How many ids are kept to know a redelivery by: each event of a secret comes on two topics."""

UNCHAINED: Final = frozenset({"secret.state", "audit.checkpoint", "daemon.status"})

_STYLE: Final = {
    "secret.created": "green",
    "secret.updated": "cyan",
    "secret.rotated": "cyan",
    "secret.expiring": "yellow",
    "secret.expired": "red",
    "secret.deleted": "red",
    "secret.retired": "dim",
    "secret.read": "dim",
    "secret.listed": "dim",
    "access.denied": "bold red",
    "access.failed": "bold red",
    "audit.gap": "bold yellow",
    "audit.key_rotated": "bold magenta",
    "policy.rejected": "red",
}


@dataclass(frozen=True)
class Forged:
    """A message that the daemon didn't say, or not so, or not there."""

    topic: str
    slug: str
    size: int


class Sieve:
    """Lets verified events through once each. Follows the daemon's key when it is rotated."""

    def __init__(
        self, topics: Topics, keyring: KeyRing, *, patterns: Sequence[str] = (), everything: bool = False
    ) -> None:
        self._keyring = keyring
        self._verifier = Verifier(topics, keyring)
        self._patterns = patterns
        self._everything = everything
        self._seen: OrderedDict[str, None] = OrderedDict()

    def take(self, topic: str, payload: bytes) -> Event | Forged | None:
        """Return what is to be shown of a message, None for nothing: seen already, or not asked for."""
        if not payload:
            return None  # a retained message was taken away: it says nothing that could be believed
        try:
            event = self._verifier.verify(topic, payload)
        except Refused as refused:
            return Forged(topic, refused.slug, len(payload))
        if event.id in self._seen:
            return None
        self._seen[event.id] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        if event.type == "audit.key_rotated" and (new := self._keyring.follow(event)) is not None:
            self._keyring.add(new)
        return event if self._wanted(event) else None

    def _wanted(self, event: Event) -> bool:
        if event.type in UNCHAINED and not self._everything:
            return False
        name = event.data.get("name")
        return not self._patterns or (
            isinstance(name, str) and any(fnmatch.fnmatchcase(name, pattern) for pattern in self._patterns)
        )


def event_line(event: Event) -> Text:
    """Return an event as a line: local time, type, secret, what there is to say."""
    line = Text(f"{_local(event.time)}  ", style="dim")
    line.append(f"{event.type:<17}", style=_STYLE.get(event.type, "blue"))
    name = event.data.get("name")
    if isinstance(name, str):
        line.append(f" {printable(name)}", style="bold")
    details = "  ".join(_details(event))
    if details:
        line.append(f"  {printable(details)}", style="default not dim")
    return line


def forged_line(forged: Forged) -> Text:
    """Return the line of a forgery; of its content nothing is shown."""
    return Text(f"refused ({forged.slug}): {forged.size} bytes on {printable(forged.topic)}", style="bold white on red")


def _local(time: str) -> str:
    return f"{datetime.fromisoformat(time).astimezone():%Y-%m-%d %H:%M:%S}"


def _details(event: Event) -> list[str]:
    data = event.data
    said: list[str] = []
    if _is_number(data.get("version")):
        said.append(f"v{data['version']}")
    if event.type.startswith("access.") and _is_number(data.get("count")) and data["count"] > 1:
        said.append(f"{data['count']} times")
    for member, form in (
        ("client", "by {}"),
        ("auth", "({})"),
        ("action", "{}"),
        ("outcome", "{}"),
        ("peer", "from {}"),
        ("state", "{}"),
        ("sequence", "at line {}"),
        ("generation", "generation {}"),
        ("reason", "“{}”"),
        ("note", "“{}”"),
    ):
        value: Any = data.get(member)
        if (isinstance(value, str) and value) or (_is_number(value) and event.type in UNCHAINED):
            said.append(form.format(value))
    if data.get("urgent") is True:
        said.append("URGENT")
    return said


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)

"""tail's words: how events, forgeries and gaps are shown."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from rich.text import Text
from secretsd_bus import Event

from secretsd.cli.sieve import UNCHAINED, Forged, Missing
from secretsd.cli.terminal import printable

_STYLE: Final = {
    "secret.created": "green",
    "secret.updated": "cyan",
    "secret.rotated": "cyan",
    "secret.key_published": "cyan",
    "secret.rotation_started": "blue",
    "secret.rotation_failed": "bold red",
    "secret.expiring": "yellow",
    "secret.expired": "red",
    "secret.deleted": "red",
    "secret.retired": "dim",
    "secret.read": "dim",
    "secret.acknowledged": "dim",
    "secret.listed": "dim",
    "access.denied": "bold red",
    "access.failed": "bold red",
    "audit.gap": "bold yellow",
    "audit.key_rotated": "bold magenta",
    "vault.key_rotated": "bold magenta",
    "policy.rejected": "red",
}


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


def missing_line(missing: Missing) -> Text:
    """Return the line of a gap."""
    lines = f"line {missing.first}" if missing.first == missing.last else f"lines {missing.first} to {missing.last}"
    return Text(
        f"missing: {lines} of the audit log: lost on the way, or not published (bus.audit)", style="bold yellow"
    )


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
        ("key", "{} key"),
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
    if data.get("superseded") is True:
        said.append("superseded")
    if isinstance(laggards := data.get("laggards"), dict) and laggards:
        said.append(f"left behind: {', '.join(laggards)}")
    if data.get("urgent") is True:
        said.append("URGENT")
    return said


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)

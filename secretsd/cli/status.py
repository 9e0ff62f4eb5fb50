"""status: one screen about the daemon."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

import click
import msgspec
from rich.text import Text

from secretsd.cli.errors import Failed
from secretsd.cli.listing import select
from secretsd.cli.options import Settings, connection_options
from secretsd.cli.output import Cell, duration_text, emit_json, print_fields, status_text, when
from secretsd.cli.session import Session, decoded
from secretsd.cli.terminal import note
from secretsd.model import BusInfo, Health, Metadata, SecretList

NEXT: Final = 5
"""How many of the next expiries are shown."""


@dataclass(frozen=True)
class _View:
    """What a client sees beside the health."""

    secrets: list[Metadata]
    position: str
    bus: BusInfo | None


@click.command
@connection_options
@click.pass_obj
def status(settings: Settings) -> None:
    """Show on one screen how the daemon is doing; with a client also its secrets and what expires next.

    Fails if the daemon says that it can't serve.
    """
    with Session.open(settings) as session:
        answer = session.health()
        health = decoded(answer, Health)
        view = None
        refused: Failed | None = None
        if health.status == "ok":
            try:
                view = _view(session)
            except Failed as failed:
                if failed.exit_code != Failed.exit_code:
                    raise
                refused = failed
        url = session.url
    if settings.as_json:
        emit_json({"url": url, "health": answer.json(), **({} if view is None else _as_json(view))})
    else:
        print_fields([("daemon", url), *_health(health), *([] if view is None else _details(view))])
    if health.status != "ok":
        raise Failed(f"the daemon can't serve: {health.reason or 'it gives no reason'}")
    if refused is not None:
        if settings.client is not None:
            raise refused
        note("name a client (--client, or JARVIS_CLIENT_ID) to see its secrets")


def _view(session: Session) -> _View:
    listed = session.get("/secrets")
    try:
        bus = decoded(session.get("/bus"), BusInfo)
    except Failed as failed:
        if failed.slug != "not-found":
            raise
        bus = None
    return _View(decoded(listed, SecretList).secrets, listed.headers.get("Vault-Generation", ""), bus)


def _as_json(view: _View) -> dict[str, Any]:
    return {
        "secrets": msgspec.to_builtins(view.secrets),
        "vault_generation": view.position,
        "bus": msgspec.to_builtins(view.bus),
    }


def _health(health: Health) -> list[tuple[str, Cell]]:
    fields: list[tuple[str, Cell]] = [
        ("status", status_text(health.status)),
        ("version", health.version),
        ("uptime", duration_text(health.uptime_secs)),
        ("bus", status_text(health.bus)),
        ("secrets", str(health.secrets_count)),
    ]
    if health.clock != "ok":
        fields.append(("clock", status_text(health.clock)))
    if health.reason:
        fields.append(("reason", health.reason))
    return fields


def _details(view: _View) -> list[tuple[str, Cell]]:
    counts = Counter(one.status for one in view.secrets)
    readable = Text(f"{len(view.secrets)}: " if counts else "none")
    for index, (state, count) in enumerate(sorted(counts.items())):
        readable.append(", " if index else "").append(f"{count} ").append_text(status_text(state))
    epoch, _, generation = view.position.rpartition(":")
    fields: list[tuple[str, Cell]] = [
        ("readable", readable),
        ("generation", f"{generation} of epoch {epoch}"),
    ]
    if view.bus is not None:
        fields.append(("broker", f"{view.bus.url}, {view.bus.topic_prefix}/#"))
        fields.append(("checkpoint", f"{view.bus.topic_prefix}/checkpoint/{view.bus.node}"))
    soonest = select(view.secrets, None, None, "expiry")[:NEXT]
    for index, one in enumerate(one for one in soonest if when(one.expires_at) != "never"):
        line = Text(f"{one.name} ").append_text(Text(when(one.expires_at), style=status_text(one.status).style))
        fields.append(("next" if index == 0 else "", line))
    return fields

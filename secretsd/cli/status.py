"""status: one screen about the daemon."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final, Never

import click
import msgspec
from rich.text import Text
from secretsd_client import Response

from secretsd.cli.errors import Failed, Unreachable
from secretsd.cli.listing import select
from secretsd.cli.options import Settings, connection_options
from secretsd.cli.output import Cell, duration_text, emit_json, print_fields, status_text, when
from secretsd.cli.session import Session, decoded
from secretsd.cli.terminal import note
from secretsd.model import BusInfo, Health, Metadata, SecretList

NEXT: Final = 5
"""How many of the next expiries are shown."""

WATCH_SECS: Final = 2.0
"""How often a watched screen is asked for."""


@dataclass(frozen=True)
class _View:
    """What a client sees beside the health."""

    secrets: list[Metadata]
    position: str
    bus: BusInfo | None


@dataclass(frozen=True)
class _Screen:
    """What is shown: the health, and with a client the rest, or why not."""

    url: str
    answer: Response
    health: Health
    view: _View | None
    refused: Failed | None

    def fields(self) -> list[tuple[str, Cell]]:
        """Return names and what they are."""
        return [("daemon", self.url), *_health(self.health), *([] if self.view is None else _details(self.view))]


@click.command
@click.option("--watch", is_flag=True, help="Keep the screen live until Ctrl-C.")
@connection_options
@click.pass_obj
def status(settings: Settings, *, watch: bool) -> None:
    """Show on one screen how the daemon is doing; with a client also its secrets and what expires next.

    Fails if the daemon says that it can't serve.
    """
    if watch and settings.as_json:
        raise click.UsageError("--watch is for people; ask again and again with --json, or use tail --json")
    with Session.open(settings) as session:
        if watch:
            _watch(session)
        screen = _look(session)
    if settings.as_json:
        view = {} if screen.view is None else _as_json(screen.view)
        emit_json({"url": screen.url, "health": screen.answer.json(), **view})
    else:
        print_fields(screen.fields())
    if screen.health.status != "ok":
        raise Failed(f"the daemon can't serve: {screen.health.reason or 'it gives no reason'}")
    if screen.refused is not None:
        if settings.client is not None:
            raise screen.refused
        note("name a client (--client, or JARVIS_CLIENT_ID) to see its secrets")


def _look(session: Session, before: _View | None = None) -> _Screen:
    """Return what there is to see. Secrets are listed, which leaves a line in the log, only when the vault changed."""
    answer = session.health()
    health = decoded(answer, Health)
    view, refused = before, None
    if health.status == "ok" and (before is None or session.position() != before.position):
        try:
            view = _view(session)
        except Failed as failed:
            if failed.exit_code != Failed.exit_code:
                raise
            view, refused = None, failed
    return _Screen(session.url, answer, health, view, refused)


def _watch(session: Session) -> Never:
    """Show the screen anew again and again, until interrupted; a daemon that is away is waited for."""
    view: _View | None = None
    listed = True
    while True:
        try:
            screen = _look(session, view) if listed else _without_client(session)
            view, listed = screen.view, listed and screen.refused is None
            _redraw(screen.fields())
        except Unreachable as away:
            _redraw([("daemon", session.url), ("status", Text(f"doesn't answer: {away.message}", style="red"))])
        session.run(asyncio.sleep(WATCH_SECS))


def _without_client(session: Session) -> _Screen:
    """Return the health alone: who was refused once would be refused again, each time with a line in the audit log."""
    answer = session.health()
    return _Screen(session.url, answer, decoded(answer, Health), None, None)


def _redraw(fields: list[tuple[str, Cell]]) -> None:
    click.clear()  # does nothing where standard output is no terminal
    print_fields(fields)
    sys.stdout.flush()


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

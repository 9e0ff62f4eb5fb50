"""status: one screen about the daemon."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Never

import click
from msgspec import UnsetType
from rich.live import Live
from rich.text import Text

from secretsd.cli import chain
from secretsd.cli.audit import pem_key
from secretsd.cli.errors import Failed, Unreachable
from secretsd.cli.listing import select
from secretsd.cli.measured import Measured
from secretsd.cli.options import Settings, config_option, connection_options, pubkey_option
from secretsd.cli.output import (
    Cell,
    console,
    counter,
    duration_text,
    emit_json,
    emit_json_line,
    fields_table,
    print_fields,
    status_text,
    when,
)
from secretsd.cli.overview import Looking, Overview, View
from secretsd.cli.session import Session
from secretsd.cli.terminal import note
from secretsd.model import Health

NEXT: Final = 5
"""How many of the next expiries, and of the clients without a proof, are shown."""

WATCH_SECS: Final = 2.0
"""How often a watched screen is asked for."""

Fields = list[tuple[str, Cell]]


@click.command
@click.option("--watch", is_flag=True, help="Keep the screen live until Ctrl-C; with --json one document a line.")
@click.option("--verify", is_flag=True, help="Verify the whole audit log; takes the right `audit`.")
@pubkey_option(
    "With --verify: the key that the log begins with. Default: those that the daemon names.",
)
@config_option("Where the policy is, to name the clients without a proof; it need not be readable.")
@connection_options
@click.pass_obj
def status(settings: Settings, *, watch: bool, verify: bool, pubkey: Path | None, config: Path) -> None:
    """Show on one screen how the daemon is doing; with a client also its secrets and what expires next.

    Fails if the daemon says that it can't serve, or the audit log doesn't verify.
    """
    if watch and verify:
        raise click.UsageError("--verify reads the whole log; tail verifies live what comes to it")
    with Session.open(settings) as session:
        looking = Looking(session, config)
        if watch:
            _watch(session, looking, as_json=settings.as_json)
        seen = looking.look()
        if verify:
            seen = dataclasses.replace(seen, chain=_verified(session, pubkey, seen.measured))
    if settings.as_json:
        emit_json(seen.as_json())
    else:
        print_fields(_fields(seen))
    _judge(seen, names_client=settings.client is not None)


def _judge(seen: Overview, *, names_client: bool) -> None:
    if seen.health.status != "ok":
        raise Failed(f"the daemon can't serve: {seen.health.reason or 'it gives no reason'}")
    if seen.chain is not None and seen.chain.broken is not None:
        raise Failed(f"the audit log doesn't verify: {seen.chain.broken}", hint="docs/runbook.md says what to do")
    if seen.refused is not None:
        if names_client:
            raise seen.refused
        note("name a client (--client, or JARVIS_CLIENT_ID) to see its secrets")


def _verified(session: Session, pubkey: Path | None, measured: Measured | None) -> chain.Chain:
    keys = chain.published_keys(session, past=True) if pubkey is None else [pem_key(pubkey)]
    with counter("verifying") as count:
        return chain.verify(session, keys, None if measured is None else measured.audit_line, count)


def _watch(session: Session, looking: Looking, *, as_json: bool) -> Never:
    """Show the screen anew again and again, until interrupted; a daemon that is away is waited for."""
    with _screen(as_json=as_json) as show:
        while True:
            try:
                seen = looking.look()
                show(_fields(seen), seen.as_json())
            except Unreachable as away:
                said = Text(f"doesn't answer: {away.message}", style="red")
                show([("daemon", session.url), ("status", said)], {"url": session.url, "error": away.message})
            session.run(asyncio.sleep(WATCH_SECS))


@contextmanager
def _screen(*, as_json: bool) -> Iterator[Callable[[Fields, Mapping[str, object]], None]]:
    """Give what shows one look: the whole terminal; JSON a line; or, in a pipe, one block after the other."""
    out = console()
    if as_json:
        yield lambda _, document: emit_json_line(document)
    elif out.is_terminal:
        with Live(console=out, screen=True, auto_refresh=False) as live:
            yield lambda fields, _: live.update(fields_table(fields), refresh=True)
    else:

        def print_block(fields: Fields, _: Mapping[str, object]) -> None:
            print_fields(fields)
            sys.stdout.flush()

        yield print_block


def _fields(seen: Overview) -> Fields:
    """Return names and what they are."""
    return [
        ("daemon", seen.url),
        *_health(seen.health, seen.measured),
        *([] if seen.measured is None else _numbers(seen.measured, seen.unproven, seen.chain)),
        *([] if seen.view is None else _details(seen.view)),
    ]


def _health(health: Health, measured: Measured | None) -> Fields:
    bus = status_text(health.bus)
    if measured is not None and measured.owed is not None:
        owed = [f"{count:,} of {lane}" for lane, count in measured.owed.items() if count]
        bus = bus + Text(f", owed: {', '.join(owed) or 'nothing'}")
    fields: Fields = [
        ("status", status_text(health.status)),
        ("version", health.version),
        ("uptime", duration_text(health.uptime_secs)),
        ("bus", bus),
        ("secrets", _counted(health.secrets_count, {} if measured is None else measured.secrets)),
    ]
    if health.clock != "ok":
        fields.append(("clock", status_text(health.clock)))
    if health.reason:
        fields.append(("reason", health.reason))
    return fields


def _counted(total: int, by_status: Mapping[str, int]) -> Text:
    line = Text(f"{total}")
    shown = {state: count for state, count in sorted(by_status.items()) if count}
    for index, (state, count) in enumerate(shown.items()):
        line.append(", " if index else ": ").append(f"{count} ").append_text(status_text(state))
    return line


def _numbers(measured: Measured, unproven: Sequence[str], verified: chain.Chain | None) -> Fields:
    fields: Fields = []
    if measured.audit_line is not None:
        fields.append(("audit log", _log(measured, verified)))
    if measured.schedule_failing:
        fields.append(("schedule", Text("fails: what is due isn't carried out", style="bold red")))
    if measured.clients_without_proof:
        names = ", ".join(unproven[:NEXT]) + (", …" if len(unproven) > NEXT else "")
        line = Text(str(measured.clients_without_proof), style="yellow").append(f": {names}" if names else "", style="")
        fields.append(("without proof", line))
    return fields


def _log(measured: Measured, verified: chain.Chain | None) -> Text:
    if verified is not None and verified.broken is not None:
        return Text(f"broken: {verified.broken}", style="bold red")
    if verified is not None:
        return Text(f"lines {verified.first} to {verified.last} verified", style="green")
    line = Text(f"line {measured.audit_line:,}, ")
    if measured.audit_failures:
        return line.append(f"{measured.audit_failures} times lines could not be written", style="bold red")
    return line.append("each write durable", style="green")


def _details(view: View) -> Fields:
    counts = Counter[str](one.status for one in view.secrets)
    readable = _counted(len(view.secrets), counts) if counts else Text("none")
    epoch, _, generation = view.position.rpartition(":")
    fields: Fields = [
        ("readable", readable),
        ("generation", f"{generation} of epoch {epoch}"),
    ]
    if view.bus is not None:
        fields.append(("broker", f"{view.bus.url}, {view.bus.topic_prefix}/#"))
        fields.append(("checkpoint", f"{view.bus.topic_prefix}/checkpoint/{view.bus.node}"))
    on_its_way = [(one.name, one.pending) for one in view.secrets if not isinstance(one.pending, UnsetType)]
    for index, (name, pending) in enumerate(on_its_way[:NEXT]):
        line = Text(f"{name} to version {pending.version}: ")
        if pending.failure is None:
            line.append(f"{pending.step} comes next", style="yellow")
        else:
            line.append(f"{pending.step} failed, {pending.attempts} times: {pending.failure}", style="bold red")
        fields.append(("rotating" if index == 0 else "", line))
    soonest = select(view.secrets, None, None, "expiry")[:NEXT]
    for index, one in enumerate(one for one in soonest if when(one.expires_at) != "never"):
        line = Text(f"{one.name} ").append_text(Text(when(one.expires_at), style=status_text(one.status).style))
        fields.append(("next" if index == 0 else "", line))
    return fields

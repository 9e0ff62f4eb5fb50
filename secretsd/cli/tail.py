"""tail: the bus as it speaks, each message verified before it is shown."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
from secretsd_bus import (
    SECRET_VERBS,
    BusDenied,
    BusError,
    BusLost,
    BusSettings,
    BusUnreachable,
    Link,
    Topics,
    VerifyKey,
)

from secretsd.cli.chain import published_keys
from secretsd.cli.errors import Failed, Unreachable
from secretsd.cli.history import History, parse_since
from secretsd.cli.options import EXISTING_FILE, Settings, Whole, complete_names, connection_options, pubkey_option
from secretsd.cli.session import Session, decoded, near
from secretsd.cli.sieve import Filters, Sieve
from secretsd.cli.tail_printer import Printer
from secretsd.cli.terminal import note
from secretsd.model import BusInfo, is_name

DEFAULT_PREFIX: Final = "jarvis/secretsd"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0


@dataclass(frozen=True)
class Wanted:
    """What is to be shown, and how."""

    filters: Filters
    count: int | None
    as_json: bool


@click.command
@click.argument("patterns", nargs=-1, metavar="[GLOB]...", shell_complete=complete_names)
@click.option("-n", "--count", type=Whole(min=1), metavar="N", help="End after N events.")
@click.option("--by", "clients", multiple=True, metavar="GLOB", help="Only what clients that match did.")
@click.option("--type", "types", multiple=True, metavar="GLOB", help="Only events of these types, as in access.*")
@click.option("--outcome", "outcomes", multiple=True, metavar="GLOB", help="Only accesses that ended so: ok, denied …")
@click.option(
    "--since",
    metavar="WHEN",
    help="Begin with the history from WHEN on (2h, 30m, or a time as in 2026-11-23T17:00:00Z). Needs the right audit.",
)
@click.option("--all", "everything", is_flag=True, help="Show retained states, checkpoints and statuses too.")
@click.option(
    "--bus-url",
    envvar="JARVIS_MQTT_URL",
    show_envvar=True,
    metavar="URL",
    help="The broker: mqtt://HOST:PORT, or mqtts:// for TLS. Default: what the daemon says (GET /bus).",
)
@click.option(
    "--topic-prefix",
    metavar="PREFIX",
    help=f"Where the daemon's topics begin. Default: what the daemon says, and {DEFAULT_PREFIX} with --bus-url.",
)
@click.option(
    "--bus-username", envvar="JARVIS_MQTT_USERNAME", show_envvar=True, metavar="NAME", help="Who we are there."
)
@click.option(
    "--bus-password-file",
    type=EXISTING_FILE,
    envvar="JARVIS_MQTT_PASSWORD_FILE",
    show_envvar=True,
    metavar="FILE",
    help="The file with the password.",
)
@click.option(
    "--bus-ca-file",
    type=EXISTING_FILE,
    envvar="JARVIS_MQTT_CA_FILE",
    show_envvar=True,
    metavar="PEM",
    help="Who signs the broker.",
)
@click.option(
    "--bus-cert-file",
    type=EXISTING_FILE,
    envvar="JARVIS_MQTT_CERT_FILE",
    show_envvar=True,
    metavar="PEM",
    help="Our certificate.",
)
@click.option(
    "--bus-key-file",
    type=EXISTING_FILE,
    envvar="JARVIS_MQTT_KEY_FILE",
    show_envvar=True,
    metavar="PEM",
    help="Its key.",
)
@pubkey_option(
    "The daemon's event-signing key (audit.sign.pub). Default: what the daemon says (GET /keys).",
)
@connection_options
@click.pass_obj
def tail(
    settings: Settings,
    patterns: tuple[str, ...],
    count: int | None,
    bus_url: str | None,
    topic_prefix: str | None,
    bus_username: str | None,
    bus_password_file: Path | None,
    bus_ca_file: Path | None,
    bus_cert_file: Path | None,
    bus_key_file: Path | None,
    pubkey: Path | None,
    *,
    everything: bool,
    clients: tuple[str, ...],
    types: tuple[str, ...],
    outcomes: tuple[str, ...],
    since: str | None,
) -> None:
    """Print events as they happen, each one verified; with GLOB those of matching secrets only.

    What isn't the daemon's, or isn't on its topic, is shown as refused, with the reason, never its content. With
    --json each verified event is a line, byte for byte as it was signed, and refusals go to standard error. A lost
    connection is made anew. With --since the history comes first, and what happened while the connection was lost, or
    what the bus has left out, is fetched from it: nothing is missing and nothing is shown twice.
    """
    begin = None if since is None else parse_since(since)
    with Session.open(settings) as session:
        keys = _keys(session, pubkey)
        if bus_url is None:
            info = decoded(session.get("/bus"), BusInfo)
            bus_url, topic_prefix = info.url, topic_prefix or info.topic_prefix
            _point_out_slips(session, patterns)  # the daemon has just told that it knows us
        try:
            bus = BusSettings(
                url=bus_url,
                topic_prefix=topic_prefix or DEFAULT_PREFIX,
                username=bus_username,
                password_file=bus_password_file,
                ca_file=bus_ca_file,
                cert_file=bus_cert_file,
                key_file=bus_key_file,
            )
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        wanted = Wanted(Filters(patterns, clients, types, outcomes, everything), count, settings.as_json)
        history = None if begin is None else History(session, begin)
        session.run(_follow(bus, keys, wanted, history))


def _point_out_slips(session: Session, patterns: Sequence[str]) -> None:
    """Say of a name that the client may not read what was meant; its events are waited for anyway."""
    names = [pattern for pattern in patterns if is_name(pattern)]
    if not names:
        return
    try:
        known = [one.name for one in session.secrets()]
    except Failed:
        return
    for name in names:
        if name not in known and (hint := near(name, known)) is not None:
            note(f"{name} is no secret that this client may read; {hint}")


def _keys(session: Session, pubkey: Path | None) -> list[VerifyKey]:
    if pubkey is not None:
        try:
            return [VerifyKey.from_pem(pubkey.read_bytes())]
        except OSError as error:
            reason = error.strerror or "can't be read"
        except ValueError as error:
            reason = str(error)
        raise Failed(f"the key {pubkey}: {reason}")
    return published_keys(session, past=False)


async def _follow(bus: BusSettings, keys: list[VerifyKey], wanted: Wanted, history: History | None) -> None:
    """Listen until enough was seen, connecting again and again; the first connection must succeed."""
    topics = Topics(bus.topic_prefix)
    sieve = Sieve(topics, keys, wanted.filters)
    printer = Printer(sieve, history, count=wanted.count, as_json=wanted.as_json)
    pause = 0.0
    first = True
    while True:
        try:
            reason = await _listen(bus, topics, printer, everything=wanted.filters.everything)
            pause, first, away = _FIRST_PAUSE, False, "broker"
        except (BusError, Unreachable) as error:
            if first:
                raise (_failure(error) if isinstance(error, BusError) else error) from None
            reason, away = str(error), "broker" if isinstance(error, BusError) else "daemon"
            pause = min(_LONGEST_PAUSE, max(_FIRST_PAUSE, 2 * pause))
        if printer.done.done():
            printer.done.result()
            return
        note(f"the {away} is away ({reason}); trying again in {pause:g} s")
        await asyncio.sleep(pause)


async def _listen(bus: BusSettings, topics: Topics, heard: Printer, *, everything: bool) -> str:
    """Be connected until enough was seen or the connection is lost; return why it ended. Raises BusError, Failed.

    The history is read while the subscription stands already: a line that isn't in it yet comes on the bus.
    """
    heard.hold()
    link = await Link.connect(bus, client_id=f"secretsctl-{secrets.token_hex(8)}", on_message=heard)
    try:
        refused = await _subscribe(link, topics, everything=everything)
        without = f", without {', '.join(refused)}: the broker refuses" if refused else ""
        note(f"listening on {bus.url}, {topics.prefix}/#{without}")
        await heard.catch_up()
        while not heard.done.done() and not link.closed.done():
            gap = asyncio.ensure_future(heard.gap.wait())
            ends: set[asyncio.Future[Any]] = {heard.done, link.closed, gap}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            gap.cancel()
            if heard.gap.is_set():
                await _fill(heard)
        return link.closed.result() if link.closed.done() else "enough was seen"
    finally:
        await link.disconnect()


async def _fill(heard: Printer) -> None:
    """Read what is missing; where that can't be had it is shown as missing."""
    try:
        await heard.catch_up()
    except Failed as failed:
        note(f"the history can't be read: {failed.message}")
        heard.release()


async def _subscribe(link: Link, topics: Topics, *, everything: bool) -> list[str]:
    """Subscribe to what we may; return what the broker refused. Raises BusDenied when that is all of it.

    Secrets' topics are named by verb: the retained states of thousands would fill the broker's queue.
    """
    verbs = [*SECRET_VERBS, "state"] if everything else SECRET_VERBS
    groups = {
        # First, since what follows may be signed by a successor of the key that was given.
        f"{topics.prefix}/keys/+": [f"{topics.prefix}/keys/+"],
        f"{topics.prefix}/secret/#": [f"{topics.prefix}/secret/+/{verb}" for verb in verbs],
        f"{topics.prefix}/audit/#": [f"{topics.prefix}/audit/#"],
    }
    if everything:
        for kind in ("checkpoint", "status"):
            groups[f"{topics.prefix}/{kind}/+"] = [f"{topics.prefix}/{kind}/+"]
    refused: list[str] = []
    for group, filters in groups.items():
        try:
            await link.subscribe(filters)
        except BusDenied:
            refused.append(group)
            if len(refused) == len(groups):
                raise
    return refused


def _failure(error: BusError) -> Failed:
    if isinstance(error, (BusUnreachable, BusLost)):
        return Unreachable(str(error), hint="--bus-url or JARVIS_MQTT_URL says where the broker is")
    return Failed(
        f"the broker refuses: {error}", hint="give credentials for it: --bus-username and --bus-password-file"
    )

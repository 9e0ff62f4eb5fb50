"""tail: the bus as it speaks, each message verified before it is shown."""

from __future__ import annotations

import asyncio
import secrets
import sys
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
    Event,
    KeyRing,
    Link,
    Message,
    Topics,
    VerifyKey,
)

from secretsd.cli.errors import Failed, Unreachable
from secretsd.cli.event_lines import Forged, Sieve, event_line, forged_line
from secretsd.cli.options import Settings, connection_options
from secretsd.cli.output import console
from secretsd.cli.session import Session, decoded
from secretsd.cli.terminal import note
from secretsd.model import BusInfo

DEFAULT_PREFIX: Final = "jarvis/secretsd"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)


@dataclass(frozen=True)
class Wanted:
    """What is to be shown, and how."""

    patterns: tuple[str, ...]
    everything: bool
    count: int | None
    as_json: bool


@click.command
@click.argument("patterns", nargs=-1, metavar="[GLOB]...")
@click.option("-n", "--count", type=click.IntRange(min=1), metavar="N", help="End after N events.")
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
    type=_FILE,
    envvar="JARVIS_MQTT_PASSWORD_FILE",
    show_envvar=True,
    metavar="FILE",
    help="The file with the password.",
)
@click.option(
    "--bus-ca-file",
    type=_FILE,
    envvar="JARVIS_MQTT_CA_FILE",
    show_envvar=True,
    metavar="PEM",
    help="Who signs the broker.",
)
@click.option(
    "--bus-cert-file",
    type=_FILE,
    envvar="JARVIS_MQTT_CERT_FILE",
    show_envvar=True,
    metavar="PEM",
    help="Our certificate.",
)
@click.option(
    "--bus-key-file", type=_FILE, envvar="JARVIS_MQTT_KEY_FILE", show_envvar=True, metavar="PEM", help="Its key."
)
@click.option(
    "--pubkey",
    type=_FILE,
    envvar="JARVIS_SECRETS_PUBKEY",
    show_envvar=True,
    metavar="PEM",
    help="The daemon's event-signing key (audit.sign.pub). Default: what the daemon says (GET /keys).",
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
) -> None:
    """Print events as they happen, each one verified; with GLOB those of matching secrets only.

    What isn't the daemon's, or isn't on its topic, is shown as refused, with the reason, never its content. With
    --json each verified event is a line, byte for byte as it was signed, and refusals go to standard error. A lost
    connection is made anew; what happened meanwhile is in the audit log.
    """
    with Session.open(settings) as session:
        keyring = KeyRing(_keys(session, pubkey))
        if bus_url is None:
            info = decoded(session.get("/bus"), BusInfo)
            bus_url, topic_prefix = info.url, topic_prefix or info.topic_prefix
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
        wanted = Wanted(patterns, everything, count, settings.as_json)
        session.run(_follow(bus, keyring, wanted))


def _keys(session: Session, pubkey: Path | None) -> list[VerifyKey]:
    if pubkey is not None:
        try:
            return [VerifyKey.from_pem(pubkey.read_bytes())]
        except OSError as error:
            reason = error.strerror or "can't be read"
        except ValueError as error:
            reason = str(error)
        raise Failed(f"the key {pubkey}: {reason}")
    keys: list[VerifyKey] = []
    jwks = session.get("/keys").json()
    for jwk in jwks.get("keys", ()) if isinstance(jwks, dict) else ():
        try:
            keys.append(VerifyKey.from_jwk(jwk))
        except (ValueError, TypeError, AttributeError):
            continue  # of a kind that this release doesn't know: it can't have signed anything for us
    if not keys:
        raise Failed("the daemon names no key that events could be verified with", hint="give it with --pubkey")
    return keys


class _Printer:
    """Shows messages and counts the events among them."""

    def __init__(self, sieve: Sieve, wanted: Wanted) -> None:
        self._sieve = sieve
        self._wanted = wanted
        self._left = wanted.count
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __call__(self, message: Message) -> None:
        """Show one message. What printing raises ends it all: nobody reads any more."""
        if self.done.done():
            return
        shown = self._sieve.take(message.topic, message.payload)
        if shown is None:
            return
        try:
            self._print(shown)
        except (OSError, ValueError) as error:
            self.done.set_exception(error)
            return
        if self._left is not None and isinstance(shown, Event):
            self._left -= 1
            if self._left == 0:
                self.done.set_result(None)

    def _print(self, shown: Event | Forged) -> None:
        if isinstance(shown, Forged):
            console(err=self._wanted.as_json).print(forged_line(shown))
        elif self._wanted.as_json:
            sys.stdout.buffer.write(shown.raw + b"\n")
            sys.stdout.buffer.flush()
        else:
            console().print(event_line(shown))
            sys.stdout.flush()


async def _follow(bus: BusSettings, keyring: KeyRing, wanted: Wanted) -> None:
    """Listen until enough was seen, connecting again and again; the first connection must succeed."""
    topics = Topics(bus.topic_prefix)
    printer = _Printer(Sieve(topics, keyring, patterns=wanted.patterns, everything=wanted.everything), wanted)
    pause = 0.0
    first = True
    while True:
        try:
            reason = await _listen(bus, topics, printer, everything=wanted.everything)
            pause, first = _FIRST_PAUSE, False
        except BusError as error:
            if first:
                raise _failure(error) from None
            reason = str(error)
            pause = min(_LONGEST_PAUSE, max(_FIRST_PAUSE, 2 * pause))
        if printer.done.done():
            printer.done.result()
            return
        note(f"the broker is away ({reason}); trying again in {pause:g} s")
        await asyncio.sleep(pause)


async def _listen(bus: BusSettings, topics: Topics, heard: _Printer, *, everything: bool) -> str:
    """Be connected until enough was seen or the connection is lost; return why it ended. Raises BusError."""
    link = await Link.connect(bus, client_id=f"secretsctl-{secrets.token_hex(8)}", on_message=heard)
    try:
        refused = await _subscribe(link, topics, everything=everything)
        without = f", without {', '.join(refused)}: the broker refuses" if refused else ""
        note(f"listening on {bus.url}, {topics.prefix}/#{without}")
        ends: set[asyncio.Future[Any]] = {heard.done, link.closed}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        return link.closed.result() if link.closed.done() else "enough was seen"
    finally:
        await link.disconnect()


async def _subscribe(link: Link, topics: Topics, *, everything: bool) -> list[str]:
    """Subscribe to what we may; return what the broker refused. Raises BusDenied when that is all of it.

    Secrets' topics are named by verb: the retained states of thousands would fill the broker's queue.
    """
    verbs = [*SECRET_VERBS, "state"] if everything else SECRET_VERBS
    groups = {
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

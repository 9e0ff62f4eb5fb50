"""The broker of a try-out: yours, Mosquitto, or else one in pure Python."""

import asyncio
import contextlib
import importlib.util
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from secretsd_bus import BusError, BusRejected, BusSettings, Link

from demo import ports
from demo.child import Child, running
from demo.errors import TryoutError
from demo.place import Place, shown

PREFERRED_PORT = 1883
READY_SECS = 15.0
# A broker of yours may already carry a real vault's messages, and there is one vault per prefix.
PREFIX_ON_YOURS = "jarvis-tryout/secretsd"

Kind = Literal["yours", "mosquitto", "amqtt"]

# Loopback only, and open to every local program: what is on the bus is no secret, and signed. For use in
# earnest: mosquitto/mosquitto.conf, with passwords and an ACL.
MOSQUITTO = """\
listener {port} 127.0.0.1
allow_anonymous true
max_queued_messages 1000000
log_type error
log_type warning
log_type notice
"""


@dataclass(frozen=True)
class Broker:
    """A broker that answers."""

    kind: Kind
    settings: BusSettings
    child: Child | None


def mosquitto_path() -> str | None:
    """Where Mosquitto is; Debian keeps it where a user's PATH doesn't look."""
    return shutil.which("mosquitto", path=os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin")


def choose(env: Mapping[str, str], *, mosquitto: str | None, amqtt: bool) -> Kind:
    """Which broker to use: `BUS_URL` names yours, `BROKER` one kind, else Mosquitto goes before amqtt.

    Raises TryoutError when there is none.
    """
    if env.get("BUS_URL"):
        return "yours"
    wanted = env.get("BROKER") or ("mosquitto" if mosquitto else "amqtt")
    if wanted == "mosquitto" and mosquitto:
        return "mosquitto"
    if wanted == "amqtt" and amqtt:
        return "amqtt"
    raise TryoutError(
        f"BROKER={wanted} isn't here: install Mosquitto (Debian: sudo apt-get install mosquitto), "
        "or name a broker of yours with: make run BUS_URL=mqtt://HOST:1883"
    )


def settings_of_yours(env: Mapping[str, str]) -> BusSettings:
    """Read `BUS_URL` and its companions: how to reach your broker; raises TryoutError for bad ones."""

    def path(name: str) -> Path | None:
        return Path(env[name]).expanduser().absolute() if env.get(name) else None

    try:
        return BusSettings(
            url=env["BUS_URL"],
            topic_prefix=env.get("BUS_PREFIX") or PREFIX_ON_YOURS,
            username=env.get("BUS_USERNAME") or None,
            password_file=path("BUS_PASSWORD_FILE"),
            ca_file=path("BUS_CA_FILE"),
        )
    except ValueError as error:
        raise TryoutError(f"BUS_URL: {error} (BUS_USERNAME=…, BUS_PASSWORD_FILE=…)") from None


async def open_broker(stack: AsyncExitStack, place: Place) -> Broker:
    """Start or find a broker, ended with the stack; raises TryoutError when it doesn't answer in time."""
    mosquitto = mosquitto_path()
    kind = choose(os.environ, mosquitto=mosquitto, amqtt=importlib.util.find_spec("amqtt") is not None)
    if kind == "yours":
        broker = Broker(kind, settings_of_yours(os.environ), None)
    else:
        port = ports.choose(PREFERRED_PORT)
        if kind == "mosquitto" and mosquitto is not None:
            file = place.root / "mosquitto.conf"
            _end_leftover(file)
            file.write_text(MOSQUITTO.format(port=port))
            argv = [mosquitto, "-c", str(file)]
        else:
            argv = [sys.executable, "-m", "demo.amqtt_broker", str(port)]
        child = await stack.enter_async_context(running(kind, argv, log=place.log(kind)))
        broker = Broker(kind, BusSettings(url=f"mqtt://{ports.HOST}:{port}"), child)
    await _answers(broker)
    return broker


def _end_leftover(config: Path) -> None:
    """End the Mosquitto of a try-out that was killed; we hold the folder, so it is nobody's.

    Started by root it changes its user, and with that the kernel forgets that it was to end with us.
    """
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(config).encode() in (process / "cmdline").read_bytes().split(b"\0"):
                os.kill(int(process.name), signal.SIGTERM)


async def _answers(broker: Broker) -> None:
    deadline = asyncio.get_running_loop().time() + READY_SECS
    while True:
        if broker.child is not None and not broker.child.running:
            raise broker.child.died()
        try:
            link = await Link.connect(broker.settings, client_id=f"tryout-probe-{os.getpid()}")
        except BusRejected as error:
            raise TryoutError(
                f"the broker at {broker.settings.url} refused us: {error}. "
                "Give it BUS_USERNAME=… and BUS_PASSWORD_FILE=…"
            ) from None
        except BusError as error:
            if asyncio.get_running_loop().time() > deadline or broker.child is None:
                where = f"; its log is {shown(broker.child.log)}" if broker.child else ". Is BUS_URL right?"
                raise TryoutError(f"no broker answers at {broker.settings.url}: {error}{where}") from None
            await asyncio.sleep(0.05)
        else:
            await link.disconnect()
            return

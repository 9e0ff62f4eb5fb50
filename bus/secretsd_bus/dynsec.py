"""Mosquitto's dynamic security plugin: an administrator's commands over MQTT, and logins that are tried.

The protocol is the plugin's (https://mosquitto.org/documentation/dynamic-security/): JSON commands on a topic below
`$CONTROL`, answered on another to the connection that sent them.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from secretsd_bus.errors import BusCommandFailed, BusDenied, BusUnreachable
from secretsd_bus.link import Link, Message
from secretsd_bus.settings import BusSettings

CONTROL_TOPIC: Final = "$CONTROL/dynamic-security/v1"
ANSWER_TOPIC: Final = "$CONTROL/dynamic-security/v1/response"
JSON_TYPE: Final = "application/json"
TIMEOUT_SECS: Final = 10.0

NOT_AN_ANSWER: Final = "its answer is not understood"
KNOWN: Final = {
    "Client not found": "it knows no such client",
    "Client is disabled": "the client is disabled",
    "Internal error": "it has an error of its own: is the disk full, may it write its file?",
    "Command not supported": "it doesn't know the command",
}
"""The plugin's words and ours. Others are not repeated: a broker could put into them what we sent."""


async def set_password(
    settings: BusSettings,
    password: str,
    client: str,
    new_password: str,
    *,
    client_id: str | None = None,
    timeout_secs: float = TIMEOUT_SECS,
) -> None:
    """Have `client` log in with `new_password` from now on; its live connections are ended by the broker.

    `settings` name the administrator, whose password is `password`. Raises BusUnreachable (no broker, or no
    answer in time), BusRejected (the administrator can't log in), BusDenied (it has no right to the control topic, or
    the plugin isn't loaded), BusCommandFailed (the plugin says no), BusLost.
    """
    command = {"command": "setClientPassword", "username": client, "password": new_password}
    await _command(settings, password, command, client_id, timeout_secs)


async def try_login(
    settings: BusSettings, password: str, *, client_id: str | None = None, timeout_secs: float = TIMEOUT_SECS
) -> None:
    """Connect with the user of `settings` and `password`, and leave again.

    `client_id` is one that the broker demands of this user, whose connection is taken over then; else it is random.
    Raises BusRejected when the broker refuses the login, BusUnreachable when none answers.
    """
    link = await Link.connect(
        settings, client_id=client_id or _random_id(), password=password, timeout_secs=timeout_secs
    )
    await link.disconnect()


async def _command(
    settings: BusSettings, password: str, command: Mapping[str, Any], client_id: str | None, timeout_secs: float
) -> None:
    mark = secrets.token_hex(8)
    answered: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()

    def hear(message: Message) -> None:
        found = find_answer(message, mark)
        if found is not None and not answered.done():
            answered.set_result(found.get("error"))

    gone = asyncio.Event()
    payload = msgspec.json.encode({"commands": [{**command, "correlationData": mark}]})
    link: Link | None = None
    try:
        async with asyncio.timeout(timeout_secs):
            link = await Link.connect(
                settings,
                client_id=client_id or _random_id(),
                password=password,
                on_message=hear,
                timeout_secs=timeout_secs,
            )
            await link.subscribe([ANSWER_TOPIC])
            try:
                await link.publish(CONTROL_TOPIC, payload, content_type=JSON_TYPE)
            except BusDenied as error:
                hint = "is the dynamic security plugin loaded, and has the administrator a role for its topic?"
                raise BusDenied(f"the broker refuses the command: {hint}", error.reason_code) from None
            # No answer comes any more once the connection is gone.
            link.closed.add_done_callback(lambda _: gone.set())
            answered.add_done_callback(lambda _: gone.set())
            await gone.wait()
    except TimeoutError:
        raise BusUnreachable(f"no answer of the dynamic security plugin within {timeout_secs:g} s") from None
    finally:
        if link is not None:
            await link.disconnect()
    if not answered.done():
        # The command may have been carried out; who asks again sees it.
        raise BusUnreachable("the broker ended the connection before the dynamic security plugin answered")
    said = answered.result()
    if said is not None:
        raise BusCommandFailed(f"the dynamic security plugin refuses: {KNOWN.get(said, NOT_AN_ANSWER)}")


def find_answer(message: Message, mark: str) -> dict[str, Any] | None:
    """Return the plugin's response to the command with `mark`, None for anything else."""
    if message.topic != ANSWER_TOPIC:
        return None
    try:
        answer = msgspec.json.decode(message.payload, type=dict[str, list[dict[str, Any]]])
    except (msgspec.MsgspecError, RecursionError):
        return None
    found = next((one for one in answer.get("responses", []) if one.get("correlationData") == mark), None)
    if found is not None and not isinstance(found.get("error"), str | None):
        return {"error": NOT_AN_ANSWER}
    return found


def _random_id() -> str:
    return f"secretsd-rotator-{secrets.token_hex(4)}"

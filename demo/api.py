"""The daemon: started, awaited, and spoken to over HTTP."""

import asyncio
import shutil
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
from secretsd_bus import VerifyKey

from demo.child import Child, running
from demo.errors import TryoutError
from demo.place import ADMIN, SERVICE, Place, shown

PREFERRED_PORT = 8081
READY_SECS = 20.0
VAULT_TAKEN = 75  # exit statuses of the daemon
BAD_FILES = 78


class Api:
    """HTTP calls to the daemon, each in a client's name."""

    def __init__(self, session: aiohttp.ClientSession, url: str, place: Place) -> None:
        self.url = url
        self._session = session
        self._headers = {
            client: {
                "X-Jarvis-Client": client,
                "Authorization": f"Bearer {place.token(client).read_text().strip()}",
            }
            for client in (ADMIN, SERVICE)
        }

    async def call(self, method: str, path: str, body: object = None, *, client: str | None = ADMIN) -> tuple[int, Any]:
        """Return the status and the JSON of the answer; raises TryoutError when there is none.

        Without a `client` no token is sent.
        """
        headers = None if client is None else self._headers[client]
        try:
            async with self._session.request(method, self.url + path, json=body, headers=headers) as answer:
                return answer.status, await answer.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise TryoutError(f"{method} {path} got no answer from secretsd ({error!r})") from None

    async def must(self, method: str, path: str, body: object = None) -> Any:
        """Return the JSON of a success; raises TryoutError for anything else."""
        status, answer = await self.call(method, path, body)
        if not 200 <= status < 300:
            detail = answer.get("detail") if isinstance(answer, dict) else answer
            raise TryoutError(f"{method} {path} was answered {status}: {detail}")
        return answer


async def open_daemon(stack: AsyncExitStack, place: Place, url: str) -> tuple[Child, Api]:
    """Start a daemon, ended with the stack, and wait until it serves and is connected to the bus.

    Raises TryoutError when it isn't within twenty seconds.
    """
    program = shutil.which("jarvis-secretsd", path=str(Path(sys.executable).parent))
    if program is None:
        raise TryoutError("jarvis-secretsd isn't in .venv; make it anew with: make clean run")
    child = await stack.enter_async_context(
        running("secretsd", [program, "--config", place.config], log=place.log("secretsd"))
    )
    place.pid.write_text(f"{child.process.pid}\n")
    stack.callback(place.pid.unlink, missing_ok=True)
    session = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)))
    api = Api(session, url, place)
    await _serves(child, api, place)
    return child, api


async def _serves(child: Child, api: Api, place: Place) -> None:
    deadline = asyncio.get_running_loop().time() + READY_SECS
    health: dict[str, Any] = {}
    while asyncio.get_running_loop().time() < deadline:
        if not child.running:
            raise child.died(_advice(child.process.returncode, place))
        try:
            status, health = await api.call("GET", "/healthz", client=None)
            if status == 200 and health.get("bus") == "connected" and await _signs_here(api, place):
                return
        except TryoutError:
            status = 0
        await asyncio.sleep(0.05)
    raise TryoutError(
        f"secretsd did not come up in {READY_SECS:.0f} s: status {health.get('status', 'no answer')}, "
        f"bus {health.get('bus', 'unknown')}. Its log: {shown(child.log)}"
    )


async def _signs_here(api: Api, place: Place) -> bool:
    """Whether what answers is the daemon of this place, by its signing key.

    Another one may have taken the port since it was found free; ours then ends by itself, and says so.
    """
    _, answer = await api.call("GET", "/keys", client=None)
    if not place.public_key.exists() or not isinstance(answer, dict):
        return False
    ours = VerifyKey.from_pem(place.public_key.read_bytes()).keyid
    return any(key.get("kid") == ours for key in answer.get("keys", []))


def _advice(status: int | None, place: Place) -> str | None:
    if status == VAULT_TAKEN:
        return f"another secretsd has the vault in {shown(place.vault.parent)}: end it, then run again"
    if status == BAD_FILES:
        return (
            "mend the file that it names, or start afresh "
            f"(this loses the try-out's secrets): rm -r {shown(place.root)}"
        )
    return None

"""Many services in one process, driven over its standard streams: `python -m tests.faults.client.fleet`.

The first line it reads holds the settings as JSON: url, client_id, mqtt_url, name, count. It says `ready` when every
client has the secret, listens and is vouched for. The next line holds a version; when every client was told of it, it
says, as JSON, what each one asked since then, and the same again (`later`) for each further line.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from secretsd_client import AsyncSecretsClient, Secret, Settings

from tests.faults.client.service import HEARD_ONLY

COUNTED = ("fetches", "changes_asked", "superseded", "callbacks")


class Member:
    """One service."""

    def __init__(self, settings: Settings, name: str) -> None:
        self.client = AsyncSecretsClient(settings)
        self.name = name
        self.versions: list[int] = []
        self.before: dict[str, int] = {}

    async def join(self) -> None:
        """Read and watch the secret, and wait to be vouched for."""
        await self.client.on_change(self.name, self.told)
        await self.client.get_secret(self.name)
        assert await self.client.wait_ready(60)
        while self.client.state.history.vouched_until <= time.monotonic():  # noqa: ASYNC110 - the client has no event
            await asyncio.sleep(0.1)
        self.before = self.client.stats()

    def told(self, secret: Secret) -> None:
        """Note a version."""
        self.versions.append(secret.version)

    async def wait_told(self, version: int) -> None:
        """Wait until a callback has brought this version."""
        while version not in self.versions:  # noqa: ASYNC110 - polls as other tests do
            await asyncio.sleep(0.05)

    def asked(self) -> dict[str, int]:
        """Return what it has counted since it joined."""
        now = self.client.stats()
        return {counter: now.get(counter, 0) - self.before.get(counter, 0) for counter in COUNTED}


async def line() -> str:
    """Return the next line of the standard input."""
    return await asyncio.to_thread(sys.stdin.readline)


def say(what: object) -> None:
    """Write one line of JSON."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def main() -> None:
    """Serve the test."""
    given = json.loads(await line())
    settings = Settings(
        url=given["url"], client_id=given["client_id"], mqtt_url=given["mqtt_url"], times=HEARD_ONLY, timeout_secs=60
    )
    members = [Member(settings, given["name"]) for _ in range(given["count"])]
    for first in range(0, len(members), 50):
        await asyncio.gather(*(member.join() for member in members[first : first + 50]))
    say("ready")
    version = int(await line())
    await asyncio.gather(*(member.wait_told(version) for member in members))
    say({"asked": [member.asked() for member in members], "versions": [member.versions for member in members]})
    await line()
    say({"asked": [member.asked() for member in members], "versions": [member.versions for member in members]})
    for first in range(0, len(members), 50):
        await asyncio.gather(*(member.client.close() for member in members[first : first + 50]))


if __name__ == "__main__":
    asyncio.run(main())

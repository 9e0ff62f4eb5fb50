"""A daemon in the test's own process: the HTTP that a client uses, and signed messages on a real broker."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from secretsd_bus import BusSettings, Chain, Event, Link, SigningKey, Topics, Unchained, rfc3339
from secretsd_client import Settings, Times

NEVER = "9999-12-31T23:59:59.999Z"
PREFIX = "jarvis/secretsd"
NODE = "node"


@dataclass
class Version:
    value: str
    kid: str
    version: int
    generation: int
    grace_secs: float = 3600.0


@dataclass
class FakeDaemon:
    """Its secrets change by `put`; what it then says on the bus, the test decides."""

    broker_url: str | None = None
    epoch: str = "epoch-1"
    generation: int = 1
    session: int = 1
    key: SigningKey = field(default_factory=SigningKey.generate)
    secrets: dict[str, Version] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)
    oldest: int = 0
    denied: set[str] = field(default_factory=set)
    unknown_client: bool = False
    token: str | None = None
    answer_of: dict[str, Any] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    acknowledged: list[tuple[str, str]] = field(default_factory=list)
    refuse_acknowledgements: int | None = None
    unix_socket: Path | None = None
    port: int = 0

    def __post_init__(self) -> None:
        self.topics = Topics(PREFIX)
        self._born = time.monotonic()
        self._runner: web.AppRunner | None = None
        self._link: Link | None = None
        self._chain = Chain(log_id="log", node=NODE, key=self.key)

    # HTTP

    async def start(self) -> FakeDaemon:
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/secret/{name}", self._secret)
        app.router.add_post("/secret/{name}/ack", self._acknowledge)
        app.router.add_get("/changes", self._changes)
        app.router.add_get("/bus", self._bus)
        app.router.add_get("/keys", self._keys)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        if self.unix_socket is not None:
            await web.UnixSite(self._runner, str(self.unix_socket)).start()
            return self
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """Go away; `start` comes back on the same port."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def close(self) -> None:
        await self.stop()
        if self._link is not None:
            await self._link.disconnect()

    @property
    def url(self) -> str:
        return f"unix://{self.unix_socket}" if self.unix_socket else f"http://127.0.0.1:{self.port}"

    def settings(self, times: Times | None = None, **changes: Any) -> Settings:
        known = {"url": self.url, "client_id": "tester", "timeout_secs": 2.0, "times": times or Times()}
        return Settings(**{**known, **changes})

    def asked(self, path: str) -> int:
        return sum(seen.partition("?")[0] == path for seen, _ in self.requests)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests.append((request.path_qs, dict(request.headers)))
        if request.path != "/keys" and (
            self.unknown_client
            or request.headers.get("X-Jarvis-Client") != "tester"
            or (self.token is not None and request.headers.get("Authorization") != f"Bearer {self.token}")
        ):
            return self._problem(401, "unknown-client" if self.unknown_client else "bad-credential")
        answer: web.StreamResponse = await handler(request)
        answer.headers["Vault-Generation"] = f"{self.epoch}:{self.generation}"
        return answer

    def never_answers(self, name: str) -> asyncio.Event:
        """Answer no question about `name` from now on; the event is set when there has been one."""
        asked = asyncio.Event()

        async def hang(_: web.Request) -> web.Response:
            asked.set()
            await asyncio.sleep(3600)
            raise AssertionError

        self.answer_of[name] = hang
        return asked

    def _problem(self, status: int, slug: str) -> web.Response:
        return web.json_response(
            {"type": slug, "status": status}, status=status, content_type="application/problem+json"
        )

    async def _secret(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if (override := self.answer_of.get(name)) is not None:
            return await override(request)
        if name in self.denied:
            return self._problem(403, "forbidden")
        if int(request.query.get("min_generation", "0")) > self.generation:
            return self._problem(409, "behind")
        if (version := self.secrets.get(name)) is None:
            return self._problem(404, "not-found")
        if request.headers.get("If-None-Match") == f'"{version.kid}"':
            return web.Response(status=304)
        return web.json_response(
            {
                "name": name,
                "value": version.value,
                "encoding": "utf-8",
                "version": version.version,
                "kid": version.kid,
                "type": "external",
                "status": "active",
                "expires_at": NEVER,
                "previous": None,
                "generation": version.generation,
            }
        )

    async def _acknowledge(self, request: web.Request) -> web.StreamResponse:
        if self.refuse_acknowledgements is not None:
            return self._problem(self.refuse_acknowledgements, "not-found")
        self.acknowledged.append((request.match_info["name"], (await request.json())["kid"]))
        return web.json_response({})

    async def _changes(self, request: web.Request) -> web.StreamResponse:
        since, epoch = 0, self.epoch
        if "since" in request.query:
            epoch, _, number = request.query["since"].partition(":")
            since = int(number)
        if epoch != self.epoch or since > self.generation or since < self.oldest * ("since" in request.query):
            return self._problem(410, "history-gone")
        listed = [
            {
                "name": name,
                "version": self.secrets[name].version if name in self.secrets else 1,
                "kid": self.secrets[name].kid if name in self.secrets else "gone",
                "status": "active" if name in self.secrets else "deleted",
                "generation": generation,
            }
            for name, generation in self.changed.items()
            if generation > since and name not in self.denied
        ]
        return web.json_response(
            {
                "epoch": self.epoch,
                "generation": self.generation,
                "session": self.session,
                "uptime_ms": self.uptime_ms,
                "changes": listed,
            }
        )

    async def _bus(self, _: web.Request) -> web.StreamResponse:
        if self.broker_url is None:
            return self._problem(404, "not-found")
        return web.json_response({"url": self.broker_url, "topic_prefix": PREFIX, "node": NODE})

    async def _keys(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"keys": [self.key.public.to_jwk()]})

    # What happens to secrets

    def put(self, name: str, value: str, *, grace_secs: float = 3600.0) -> dict[str, Any]:
        """Make a new version current; return the `data` of its event."""
        before = self.secrets.get(name)
        self.generation += 1
        number = 1 if before is None else before.version + 1
        self.secrets[name] = Version(value, f"kid-{name}-{number}-{self.generation}", number, self.generation)
        self.changed[name] = self.generation
        grace = rfc3339(int((time.time() + grace_secs) * 1000))
        previous = before and {"version": before.version, "kid": before.kid, "grace_until": grace}
        return self.event_data(name, previous=previous)

    def delete(self, name: str) -> dict[str, Any]:
        self.generation += 1
        self.changed[name] = self.generation
        data = self.event_data(name, previous=None)
        del self.secrets[name]
        return {**data, "status": "deleted"}

    def event_data(self, name: str, **changes: Any) -> dict[str, Any]:
        version = self.secrets[name]
        data = {
            "name": name,
            "version": version.version,
            "kid": version.kid,
            "type": "external",
            "status": "active",
            "expires_at": NEVER,
            "previous": None,
            "epoch": self.epoch,
            "generation": self.generation,
            "client": "somebody",
            "reason": None,
            "urgent": False,
            "spread_ms": 20,
        }
        return {**data, **changes}

    # What is said on the bus

    @property
    def uptime_ms(self) -> int:
        return int((time.monotonic() - self._born) * 1000) + 60_000

    async def say(self, kind: str, data: dict[str, Any], *, key: SigningKey | None = None) -> Event:
        """Publish a secret event, signed with our key or a forger's."""
        chain = self._chain if key is None else Chain(log_id="log", node=NODE, key=key, sequence=99)
        event = chain.append(f"secret.{kind}", data["name"], data, self._time())
        await self.publish(self.topics.secret_event(data["name"], kind), event.raw)
        return event

    async def say_checkpoint(self, *, key: SigningKey | None = None, **changes: Any) -> Event:
        data = {
            "sequence": self._chain.sequence,
            "head": self._chain.head,
            "epoch": self.epoch,
            "generation": self.generation,
            "session": self.session,
            "uptime_ms": self.uptime_ms,
            "interval_secs": 10,
            **changes,
        }
        unchained = Unchained(log_id="log", node=NODE, key=key or self.key, session=self.session)
        event = unchained.seal("audit.checkpoint", None, data, self._time())
        await self.publish(self.topics.checkpoint(NODE), event.raw, retain=True)
        return event

    async def rotate_key(self, data: dict[str, Any], new: SigningKey) -> None:
        """Announce the new key, signed by the old one, and use it from then on."""
        event = self._chain.append("audit.key_rotated", None, data, self._time())
        await self.publish(self.topics.audit("audit", "key_rotated"), event.raw)
        self._chain = Chain(log_id="log", node=NODE, key=new, sequence=self._chain.sequence, head=self._chain.head)
        self.key = new

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        if self._link is None or self._link.closed.done():
            assert self.broker_url is not None
            self._link = await Link.connect(BusSettings(url=self.broker_url), client_id="the-daemon")
        await self._link.publish(topic, payload, retain=retain)

    def _time(self) -> str:
        return rfc3339(int(time.time() * 1000))

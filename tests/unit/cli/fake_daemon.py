"""As much of the daemon as secretsctl talks to, in a thread: SPEC's answers from a dictionary."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from secretsd_bus import SigningKey

NEVER = "9999-12-31T23:59:59.999Z"
EPOCH = "epoch-1"


@dataclass
class Seen:
    """A request as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Held:
    """A secret: its values by version, and what GET /secrets says of it."""

    values: dict[int, tuple[str, str]] = field(default_factory=dict)
    version: int = 0
    facts: dict[str, Any] = field(default_factory=dict)


class FakeDaemon:
    """Serves until the context is left. `refusals` maps "METHOD /path" to problems that are given first, in order."""

    def __init__(self, *, tokens: dict[str, str] | None = None, unix: Path | None = None) -> None:
        self.secrets: dict[str, Held] = {}
        self.hidden: set[str] = set()
        """Names that exist and that the caller may not read."""
        self.seen: list[Seen] = []
        self.refusals: dict[str, list[tuple[int, str]]] = {}
        self.health: dict[str, Any] = {
            "status": "ok",
            "version": "0.1.0",
            "uptime_secs": 7384,
            "secrets_count": 2,
            "bus": "connected",
            "clock": "ok",
            "reason": None,
        }
        self.bus: dict[str, str] | None = None
        self.key = SigningKey.generate()
        self.metrics = ""
        """What /metrics answers."""
        self.log: list[bytes] = []
        """What /audit answers."""
        self.schedule: dict[str, Any] = {}
        """What /schedule answers."""
        self.consumers: list[dict[str, Any]] = []
        """What /secret/NAME/consumers answers, for each secret."""
        self.corrupt = False
        """Whether a value is not kept as it is sent."""
        self.on_request: Callable[[Seen], None] = lambda seen: None
        self.url = ""
        self._tokens = tokens or {}
        self._unix = unix
        self._generation = 7
        self._loop: asyncio.AbstractEventLoop
        self._leave: asyncio.Event
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    # What tests plant and look up

    def plant(self, name: str, value: str, *, encoding: str = "utf-8", **facts: Any) -> Held:
        """Put a secret into the vault, or a new version of it."""
        held = self.secrets.setdefault(name, Held())
        held.version += 1
        held.values[held.version] = (value, encoding)
        held.facts |= facts
        return held

    def value(self, name: str) -> str:
        """Return the current value."""
        held = self.secrets[name]
        return held.values[held.version][0]

    def kid(self, name: str, version: int | None = None) -> str:
        """Return a version's kid."""
        held = self.secrets[name]
        return hashlib.sha256(f"{name} {version or held.version}".encode()).hexdigest()[:24]

    def calls(self, method: str, path: str = "") -> list[Seen]:
        """Return the requests of that kind, in order."""
        return [one for one in self.seen if one.method == method and one.path.startswith(path)]

    # The server

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._leave.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        self._loop, self._leave = asyncio.get_running_loop(), asyncio.Event()
        runner = web.ServerRunner(web.Server(self._handle, access_log=None))
        await runner.setup()
        if self._unix is not None:
            await web.UnixSite(runner, str(self._unix)).start()
            self.url = f"unix://{self._unix}"
        else:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._ready.set()
        await self._leave.wait()
        await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        text = await request.text()
        seen = Seen(request.method, request.path_qs, dict(request.headers), json.loads(text) if text else None)
        self.seen.append(seen)
        self.on_request(seen)
        queued = self.refusals.get(f"{request.method} {request.path}", [])
        if queued:
            status, slug = queued.pop(0)
            return _problem(status, slug)
        if request.path not in {"/healthz", "/keys", "/metrics"}:
            client = request.headers.get("X-Jarvis-Client")
            if client is None:
                return _problem(401, "missing-client")
            if self._tokens and request.headers.get("Authorization") != f"Bearer {self._tokens.get(client)}":
                return _problem(401, "bad-credential")
        parts = request.path.strip("/").split("/")
        answer = getattr(self, f"_{request.method.lower()}_{parts[0]}", None)
        if answer is None:
            return _problem(404, "not-found")
        made: web.Response = answer(request, parts[1:], seen.body)
        made.headers["Vault-Generation"] = f"{EPOCH}:{self._generation}"
        return made

    def _get_healthz(self, request: web.BaseRequest, rest: list[str], body: Any) -> web.Response:
        return web.json_response(self.health, status=200 if self.health["status"] == "ok" else 503)

    def _get_keys(self, request: web.BaseRequest, rest: list[str], body: Any) -> web.Response:
        return web.json_response({"keys": [self.key.public.to_jwk()]})

    def _get_metrics(self, request: web.BaseRequest, rest: list[str], body: Any) -> web.Response:
        return web.Response(text=self.metrics)

    def _get_audit(self, request: web.BaseRequest, rest: list[str], body: Any) -> web.Response:
        after, limit = int(request.query["after"]), int(request.query["limit"])
        return web.Response(body=b"".join(line + b"\n" for line in self.log[after:][:limit]))

    def _get_bus(self, request: web.BaseRequest, rest: list[str], body: Any) -> web.Response:
        return _problem(404, "not-found") if self.bus is None else web.json_response(self.bus)

    def _get_secrets(self, request: web.BaseRequest, rest: list[str], body: Any) -> web.Response:
        readable = [name for name in self.secrets if name not in self.hidden]
        return web.json_response({"secrets": [self._metadata(name) for name in readable]})

    def _get_schedule(self, request: web.BaseRequest, rest: list[str], body: Any) -> web.Response:
        return web.json_response(self.schedule)

    def _get_secret(self, request: web.BaseRequest, rest: list[str], body: Any) -> web.Response:
        name = rest[0]
        if name in self.hidden:
            return _problem(403, "forbidden")
        if name not in self.secrets:
            return _problem(404, "not-found")
        held = self.secrets[name]
        if rest[1:] == ["consumers"]:
            about = {"name": name, "version": held.version, "kid": self.kid(name), "previous": None}
            more = {"current_since": NEVER, "grace": "period", "complete": True, "consumers": self.consumers}
            return web.json_response(about | more)
        asked = request.query.get("version", "")
        kid = request.query.get("kid")
        version = held.version
        if kid is not None:
            version = next((one for one in held.values if self.kid(name, one) == kid), 0)
        elif asked:
            version = held.version - 1 if asked == "previous" else int(asked)
        if version not in held.values:
            return _problem(404, "version-not-found")
        value, encoding = held.values[version]
        return web.json_response({**self._metadata(name, version), "value": value, "encoding": encoding})

    def _post_secret(self, request: web.BaseRequest, rest: list[str], body: Any) -> web.Response:
        if rest:
            return self._restored(rest[0], body)
        if body["name"] in self.secrets:
            return _problem(409, "exists")
        self._store(body["name"], body)
        if "type" in body:
            self.secrets[body["name"]].facts["type"] = body["type"]
        return web.json_response(self._metadata(body["name"]), status=201)

    def _post_secrets(self, request: web.BaseRequest, rest: list[str], body: Any) -> web.Response:
        for place, one in enumerate(body["secrets"]):
            if "replaces" not in one and one["name"] in self.secrets:
                return _problem(409, "exists", f"secrets[{place}]: ")
            if "replaces" in one and one["replaces"] != self.kid(one["name"]):
                return _problem(412, "precondition-failed", f"secrets[{place}]: ")
        for one in body["secrets"]:
            self._store(one["name"], one)
            if "type" in one:
                self.secrets[one["name"]].facts["type"] = one["type"]
        made = [self._metadata(one["name"]) for one in body["secrets"]]
        return web.json_response({"secrets": made}, status=201)

    def _put_secret(self, request: web.BaseRequest, rest: list[str], body: Any) -> web.Response:
        name = rest[0]
        if name not in self.secrets:
            return _problem(404, "not-found")
        wanted = request.headers.get("If-Match")
        if wanted is not None and wanted != f'"{self.kid(name)}"':
            return _problem(412, "precondition-failed")
        self._store(name, body)
        return web.json_response(self._metadata(name))

    def _post_rotate(self, request: web.BaseRequest, rest: list[str], body: Any) -> web.Response:
        for place, name in enumerate(body["names"]):
            if name not in self.secrets:
                return _problem(404, "not-found", f"names[{place}]: " if len(body["names"]) > 1 else "")
        for name in body["names"]:
            value = body.get("values", {}).get(name, f"generated {name}")
            self._store(name, value if isinstance(value, dict) else {"value": value})
        return web.json_response({"rotated": [self._metadata(name) for name in body["names"]]})

    def _restored(self, name: str, body: Any) -> web.Response:
        held = self.secrets[name]
        if body["version"] not in held.values:
            return _problem(404, "version-not-found")
        self.plant(name, *held.values[body["version"]][:1])
        return web.json_response(self._metadata(name))

    def _delete_secret(self, request: web.BaseRequest, rest: list[str], body: Any) -> web.Response:
        if rest[1:] == ["rotation"]:
            if self.secrets[rest[0]].facts.pop("pending", None) is None:
                return _problem(404, "not-found")
            return web.json_response(self._metadata(rest[0]))
        if self.secrets.pop(rest[0], None) is None:
            return _problem(404, "not-found")
        return web.Response(status=204)

    def _store(self, name: str, body: dict[str, Any]) -> None:
        value = body.get("value", f"generated {name}")
        self._generation += 1
        self.plant(name, value + "x" if self.corrupt else value, encoding=body.get("encoding", "utf-8"))

    def _metadata(self, name: str, version: int | None = None) -> dict[str, Any]:
        held = self.secrets[name]
        version = version or held.version
        previous = None
        if version - 1 in held.values:
            kid = self.kid(name, version - 1)
            previous = {"version": version - 1, "kid": kid, "grace_until": "2031-01-15T00:00:00.000Z"}
        return {
            "name": name,
            "version": version,
            "kid": self.kid(name, version),
            "type": "external",
            "status": "active",
            "rotation": "manual",
            "created_at": "2026-11-01T00:00:00.000Z",
            "expires_at": NEVER,
            "previous": previous,
            "generation": self._generation,
            **held.facts,
        }


def _problem(status: int, slug: str, place: str = "") -> web.Response:
    details = {
        "type": slug,
        "title": slug,
        "status": status,
        "detail": f"{place}Do something about {slug}.",
        "request_id": "r1",
    }
    return web.json_response(
        details, status=status, content_type="application/problem+json", headers={"Retry-After": "0"}
    )

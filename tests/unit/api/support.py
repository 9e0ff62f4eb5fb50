"""A service that remembers what it was asked, and an HTTP client that sends exactly what it is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter

from secretsd.auth import Caller, Claims
from secretsd.config import Config, load
from secretsd.errors import Problem
from secretsd.model import (
    AcknowledgedVersion,
    BusInfo,
    Change,
    Changes,
    Consumers,
    Health,
    Metadata,
    Rotated,
    Schedule,
    SecretAnswer,
    SecretList,
)
from secretsd.service import Answered, KeySet, ReadResult

POSITION = "ep-och_1:42"
KID = "kid-0123456789abcdef"
VALUE = "the-value-of-it"
DEADLINE = 10.0

METADATA = {
    "name": "brave_api_key",
    "version": 3,
    "kid": KID,
    "type": "api_key",
    "status": "active",
    "rotation": "manual",
    "created_at": "2026-11-23T17:00:00.000Z",
    "expires_at": "9999-12-31T23:59:59.999Z",
    "previous": None,
    "generation": 42,
}


class FakeMetrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests: list[tuple[str, str, int]] = []
        self.counted = asyncio.Event()
        self.refused = 0
        Counter("fake_things", "Things", registry=self.registry)

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        assert seconds >= 0
        self.requests.append((route, method, status))
        self.counted.set()

    def connection_refused(self) -> None:
        self.refused += 1


class FakeService:
    """Answers everything; `fail` is raised instead, `hold` is waited for first."""

    def __init__(self) -> None:
        self.metrics = FakeMetrics()
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.claims: list[Claims] = []
        self.foreign: list[tuple[str, str]] = []
        self.fail: BaseException | None = None
        self.hold: asyncio.Event | None = None
        self.entered = asyncio.Event()
        self.state = "ok"
        self.value = VALUE
        self.audit_pieces = [b'{"a":1}\n{"a":2}\n']
        self.audit_taken = 0

    async def _called(self, call: str, *args: Any, **named: Any) -> None:
        self.calls.append((call, args, named))
        self.entered.set()
        if self.hold is not None:
            await self.hold.wait()
        if self.fail is not None:
            raise self.fail

    position = "epoch:1"

    async def identify(self, claims: Claims, action: str, name: str | None) -> Caller:
        self.claims.append(claims)
        if claims.client is None:
            raise Problem("missing-client", "Send X-Jarvis-Client.")
        return Caller(client=claims.client, auth="header", peer=claims.peer, request_id=claims.request_id)

    async def refuse_foreign(self, claims: Claims, action: str, reason: str) -> None:
        self.claims.append(claims)
        self.foreign.append((action, reason))

    async def read(self, caller: Caller, name: str, selector: Any, **named: Any) -> Answered[ReadResult]:
        await self._called("read", name, selector, **named)
        if named["if_none_match"] is not None and KID in named["if_none_match"]:
            return Answered(ReadResult(None, KID), POSITION)
        return Answered(ReadResult(SecretAnswer(**METADATA, value=self.value, encoding="utf-8"), KID), POSITION)

    async def schedule(self, caller: Caller, *, days: int, pattern: str | None) -> Answered[Schedule]:
        await self._called("schedule", days, pattern)
        return Answered(Schedule(now="", until="", complete=True, doubt=None, occurrences=[]), POSITION)

    async def consumers(self, caller: Caller, name: str) -> Answered[Consumers]:
        await self._called("consumers", name)
        return Answered(
            Consumers(
                name=name,
                version=1,
                kid=KID,
                current_since="",
                previous=None,
                grace="period",
                complete=True,
                consumers=[],
            ),
            POSITION,
        )

    async def acknowledge(self, caller: Caller, name: str, body: Any) -> Answered[AcknowledgedVersion]:
        await self._called("acknowledge", name, body)
        return Answered(AcknowledgedVersion(name=name, version=1, kid=KID, current=True), POSITION)

    async def list_secrets(self, caller: Caller) -> Answered[SecretList]:
        await self._called("list")
        return Answered(SecretList(secrets=[Metadata(**METADATA)]), POSITION)

    async def changes(self, caller: Caller, since: str | None) -> Answered[Changes]:
        await self._called("changes", since)
        change = Change(name="n", version=1, kid=KID, status="deleted", generation=42)
        return Answered(Changes(epoch="ep-och_1", generation=42, session=1, uptime_ms=5, changes=[change]), POSITION)

    async def create(self, caller: Caller, body: Any, **named: Any) -> Answered[Metadata]:
        await self._called("create", body, **named)
        return Answered(Metadata(**METADATA), POSITION)

    async def create_all(self, caller: Caller, body: Any, **named: Any) -> Answered[SecretList]:
        await self._called("create_all", body, **named)
        return Answered(SecretList(secrets=[Metadata(**METADATA)]), POSITION)

    async def update(self, caller: Caller, name: str, body: Any, **named: Any) -> Answered[Metadata]:
        await self._called("update", name, body, **named)
        return Answered(Metadata(**METADATA), POSITION)

    async def rotate(self, caller: Caller, body: Any, **named: Any) -> Answered[Rotated]:
        await self._called("rotate", body, **named)
        return Answered(Rotated(rotated=[Metadata(**METADATA)]), POSITION)

    async def restore(self, caller: Caller, name: str, body: Any, **named: Any) -> Answered[Metadata]:
        await self._called("restore", name, body, **named)
        return Answered(Metadata(**METADATA), POSITION)

    async def delete(self, caller: Caller, name: str, **named: Any) -> Answered[None]:
        await self._called("delete", name, **named)
        return Answered(None, POSITION)

    async def audit_lines(self, caller: Caller, **named: Any) -> Answered[AsyncGenerator[bytes, None]]:
        await self._called("audit", **named)
        return Answered(self._audit_pieces(), POSITION)

    async def _audit_pieces(self) -> AsyncGenerator[bytes, None]:
        for piece in self.audit_pieces:
            self.audit_taken += 1
            yield piece

    def bus_info(self, caller: Caller) -> Answered[BusInfo]:
        return Answered(BusInfo(url="mqtt://127.0.0.1:1883", topic_prefix="p", node="n"), POSITION)

    def health(self) -> Health:
        return Health(
            status=self.state,
            version="0",
            uptime_secs=1,
            secrets_count=0,
            bus="disabled",
            clock="ok",
            reason=None,
        )

    def event_keys(self) -> dict[str, object]:
        return {"keys": [{"kty": "OKP", "kid": "event"}]}

    def jwks(self) -> KeySet:
        return KeySet([{"kty": "OKP", "kid": "published"}], 1234)


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes
    raw: bytes = field(repr=False, default=b"")

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def problem(self) -> str:
        assert self.headers["content-type"] == "application/problem+json"
        assert self.json["status"] == self.status
        assert self.json["request_id"] == self.headers["x-request-id"]
        return str(self.json["type"])


class Wire:
    """One connection; requests are bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, port: int, **more: Any) -> Wire:
        return cls(*await asyncio.open_connection("127.0.0.1", port, **more))

    @classmethod
    async def to_unix(cls, path: Path) -> Wire:
        return cls(*await asyncio.open_unix_connection(path))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def reply(self, *, head_only: bool = False) -> Reply:
        async with asyncio.timeout(DEADLINE):
            head = await self.reader.readuntil(b"\r\n\r\n")
            status_line, *lines = head.decode("latin-1").rstrip().split("\r\n")
            pairs = [line.split(": ", 1) for line in lines]
            headers = {name.lower(): value for name, value in pairs}
            assert len(headers) == len(pairs), "a header is there twice"
            length = 0 if head_only else int(headers.get("content-length", 0))
            body = await self.reader.readexactly(length)
        return Reply(int(status_line.split()[1]), headers, body, head + body)

    async def ended(self) -> bool:
        async with asyncio.timeout(DEADLINE):
            try:
                return await self.reader.read() == b""
            except ConnectionError:
                return True

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except (ConnectionError, OSError):
            return


def request(
    method: str,
    target: str,
    headers: dict[str, str] | list[tuple[str, str]] | None = None,
    body: bytes | None = None,
    *,
    host: str | None = "127.0.0.1",
    client: str | None = "backend",
) -> bytes:
    """Return a request's bytes; a body comes as JSON unless the headers say otherwise."""
    pairs = list(headers.items() if isinstance(headers, dict) else headers or [])
    names = {name.lower() for name, _ in pairs}
    if host is not None:
        pairs.insert(0, ("Host", host))
    if client is not None:
        pairs.append(("X-Jarvis-Client", client))
    if body is not None:
        if "content-type" not in names:
            pairs.append(("Content-Type", "application/json"))
        if names.isdisjoint({"content-length", "transfer-encoding"}):
            pairs.append(("Content-Length", str(len(body))))
    head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in pairs)
    return head.encode("utf-8", "surrogateescape") + b"\r\n" + (body or b"")


def configured(folder: Path, server: str = "", security: str = "") -> Config:
    """Return a configuration with port 0 and what is added to its sections."""
    file = folder / "config.toml"
    file.write_text(f'[server]\nbind_addr = "127.0.0.1:0"\n{server}\n[security]\n{security}\n')
    return load(file, {})

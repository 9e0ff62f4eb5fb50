from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from secretsd.api import Server, bind, start
from tests.unit.api.support import FakeService, Reply, Wire, configured, request

Ask = Callable[..., Awaitable[Reply]]
Launch = Callable[..., Awaitable[Server]]
Connect = Callable[..., Awaitable[Wire]]


@pytest.fixture
async def service() -> FakeService:
    return FakeService()


@pytest.fixture
def socket_path(tmp_path: Path) -> Path:
    return tmp_path / "s.sock"


@pytest.fixture
async def launch(service: FakeService, tmp_path: Path) -> AsyncIterator[Launch]:
    """Start a server with what is added to its configuration's sections; stopped at the end."""
    running: list[Server] = []

    async def begin(server: str = "", security: str = "") -> Server:
        config = configured(tmp_path, server, security)
        sockets = bind(config)
        try:
            running.append(await start(service, config, sockets=sockets))
        except BaseException:
            sockets.close()
            raise
        return running[-1]

    yield begin
    for server in running:
        await server.drain(1.0)


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Connect to a server's port or its Unix socket; closed at the end."""
    made: list[Wire] = []

    async def begin(where: int | Path, **more: Any) -> Wire:
        wire = await (Wire.to_unix(where) if isinstance(where, Path) else Wire.to(where, **more))
        made.append(wire)
        return wire

    yield begin
    for wire in made:
        await wire.close()


@pytest.fixture
async def server(launch: Launch, socket_path: Path) -> Server:
    return await launch(f'allow_unix_socket = true\nunix_socket_path = "{socket_path}"\nallowed_hosts = ["vault.lan"]')


@pytest.fixture
def port(server: Server) -> int:
    return int(server.url.rpartition(":")[2])


@pytest.fixture
async def ask(port: int, connect: Connect) -> Ask:
    """One request over TCP on a connection of its own."""

    async def send(*args: Any, **named: Any) -> Reply:
        wire = await connect(port)
        await wire.send(request(*args, **named))
        return await wire.reply(head_only=args[0] == "HEAD")

    return send

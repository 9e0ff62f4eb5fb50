from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from secretsd.api import Server, bind, start
from tests.unit.api.support import FakeService, Reply, Wire, configured, request

Ask = Callable[..., Awaitable[Reply]]


@pytest.fixture
async def service() -> FakeService:
    return FakeService()


@pytest.fixture
def socket_path(tmp_path: Path) -> Path:
    return tmp_path / "s.sock"


@pytest.fixture
async def server(service: FakeService, tmp_path: Path, socket_path: Path) -> AsyncIterator[Server]:
    config = configured(
        tmp_path,
        f'allow_unix_socket = true\nunix_socket_path = "{socket_path}"\nallowed_hosts = ["vault.lan"]',
    )
    running = await start(service, config, sockets=bind(config))
    yield running
    await running.drain(1.0)


@pytest.fixture
def port(server: Server) -> int:
    return int(server.url.rpartition(":")[2])


@pytest.fixture
async def ask(port: int) -> Ask:
    """One request over TCP on a connection of its own."""

    async def send(*args: Any, **named: Any) -> Reply:
        wire = await Wire.to(port)
        try:
            await wire.send(request(*args, **named))
            return await wire.reply(head_only=args[0] == "HEAD")
        finally:
            await wire.close()

    return send

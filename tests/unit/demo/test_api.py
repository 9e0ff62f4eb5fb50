"""The try-out's daemon: awaited, and told apart from another one on its port."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from secretsd_bus import SigningKey

from demo import api as demo_api
from demo.api import Api
from demo.child import running
from demo.errors import TryoutError
from demo.place import ADMIN, SERVICE, Place

OURS, ANOTHER = SigningKey.generate(), SigningKey.generate()
LIVES = [sys.executable, "-c", "import time; time.sleep(60)"]
FINDS_ITS_PORT_TAKEN = [sys.executable, "-c", "raise SystemExit('the port is taken')"]


@asynccontextmanager
async def who_answers(key: SigningKey, place: Place) -> AsyncIterator[tuple[Api, list[web.Request]]]:
    """A daemon that is well and signs with `key`; what it was asked."""
    asked: list[web.Request] = []

    async def health(request: web.Request) -> web.Response:
        asked.append(request)
        return web.json_response({"status": "ok", "bus": "connected"})

    async def keys(request: web.Request) -> web.Response:
        asked.append(request)
        return web.json_response({"keys": [key.public.to_jwk()]})

    app = web.Application()
    app.add_routes([web.get("/healthz", health), web.get("/keys", keys)])
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        yield Api(session, str(server.make_url("")).rstrip("/"), place), asked


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    for client in (ADMIN, SERVICE):
        place.token(client).write_text("a-token-of-ours\n")
    place.public_key.parent.mkdir()
    place.public_key.write_bytes(OURS.public.to_pem())
    return place


async def test_the_daemon_that_signs_with_this_place_s_key_is_the_one_awaited(place: Place) -> None:
    async with running("secretsd", LIVES, log=place.log("secretsd")) as child, who_answers(OURS, place) as (api, _):
        async with asyncio.timeout(20):
            await demo_api._serves(child, api, place)


async def test_another_daemon_on_the_port_is_not_taken_for_ours_and_gets_no_token(place: Place) -> None:
    async with (
        running("secretsd", FINDS_ITS_PORT_TAKEN, log=place.log("secretsd")) as child,
        who_answers(ANOTHER, place) as (api, asked),
    ):
        with pytest.raises(TryoutError, match="the port is taken"):
            async with asyncio.timeout(20):
                await demo_api._serves(child, api, place)
    assert not any("Authorization" in request.headers for request in asked)

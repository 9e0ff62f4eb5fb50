"""Serving: the listening sockets, the connections on them, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from typing import Final

from secretsd.api import tls
from secretsd.api.app import App
from secretsd.api.connections import Connections, most_connections
from secretsd.api.contract import Service
from secretsd.api.guards import Rules
from secretsd.api.listeners import BACKLOG, Listeners
from secretsd.config import Config

log = logging.getLogger("secretsd.api")

SWEEP_SECONDS: Final = 5.0
HANDSHAKE_SECONDS: Final = 10.0


class Server:
    """The running HTTP server; made by `start`."""

    def __init__(self, app: App, connections: Connections, config: Config, sockets: Listeners) -> None:
        self._app = app
        self._connections = connections
        self._config = config
        self._sockets = sockets
        self._listening: list[asyncio.AbstractServer] = []
        self._tcp: asyncio.AbstractServer | None = None
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Return where the TCP listener really is, as a base URL without a final slash."""
        host, port = self._sockets.tcp.getsockname()[:2]
        scheme = "https" if self._config.server.tls else "http"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    async def serve(self, context: ssl.SSLContext | None) -> None:
        """Begin to accept connections."""
        loop = asyncio.get_running_loop()
        await self._serve_tcp(context)
        if self._sockets.unix is not None:
            unix = await loop.create_unix_server(self._connections, sock=self._sockets.unix.dup(), backlog=BACKLOG)
            self._listening.append(unix)
        self._sweeper = asyncio.create_task(self._sweep(), name="http-sweeper")

    async def reload_certificates(self) -> None:
        """Take the certificate, key and client CA as they are now for new connections; established ones stay.

        Raises ListenError, and goes on with the old ones, where they can't be used.
        """
        context = tls.context(self._config.server)
        if context is not None:
            await self._serve_tcp(context)

    async def drain(self, timeout_secs: float) -> None:
        """Stop: accept nothing new, give running requests up to `timeout_secs`, close what is left."""
        self._app.draining = True
        for listening in [*self._listening, self._tcp]:
            if listening is not None:
                listening.close()
        self._sockets.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeper
        self._connections.pre_shutdown()
        await self._connections.shutdown(timeout_secs)

    async def _serve_tcp(self, context: ssl.SSLContext | None) -> None:
        # A copy of the socket: closing an asyncio server closes what it was given, and the queue of
        # connections that wait to be accepted has to outlive a change of certificates.
        old, own = self._tcp, self._sockets.tcp.dup()
        self._tcp = await asyncio.get_running_loop().create_server(
            self._connections,
            sock=own,
            backlog=BACKLOG,
            ssl=context,
            ssl_handshake_timeout=None if context is None else HANDSHAKE_SECONDS,
        )
        if old is not None:
            old.close()

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            dropped = self._connections.drop_slow(loop.time())
            if dropped:
                log.warning("%d connections were dropped: their answers weren't taken", dropped)


async def start(service: Service, config: Config, *, sockets: Listeners) -> Server:
    """Return a server that answers on `sockets` (from `bind`). Raises ListenError where TLS can't be had."""
    context = tls.context(config.server)
    app = App(service, Rules.of(config))
    server = Server(app, Connections(app, most=most_connections()), config, sockets)
    await server.serve(context)
    return server

"""Serving: the listening sockets, the connections on them, and an orderly end."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Collection
from pathlib import Path
from typing import Final

from secretsd import tasks
from secretsd.api import tls
from secretsd.api.app import App
from secretsd.api.connections import Connections, most_connections
from secretsd.api.contract import Service
from secretsd.api.guards import Rules
from secretsd.api.listeners import BACKLOG, Listeners
from secretsd.config import Config
from secretsd.errors import ListenError

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
        self._own: dict[Path, asyncio.AbstractServer] = {}
        self._sweeper: asyncio.Task[None] | None = None
        self._taken = self._seen = tls.stamp(config.server)

    @property
    def url(self) -> str:
        """Return where the TCP listener really is, as a base URL without a final slash."""
        host, port = self._sockets.tcp.getsockname()[:2]
        scheme = "https" if self._config.server.tls else "http"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    async def serve(self) -> None:
        """Begin to accept connections. Raises ListenError where TLS can't be had."""
        loop = asyncio.get_running_loop()
        await self._serve_tcp(*tls.context(self._config.server))
        if self._sockets.unix is not None:
            unix = await loop.create_unix_server(self._connections, sock=self._sockets.unix.dup(), backlog=BACKLOG)
            self._listening.append(unix)
        await self._serve_own()
        self._sweeper = asyncio.create_task(self._sweep(), name="http-sweeper")

    def bind_own(self, paths: Collection[Path]) -> None:
        """Listen on clients' own sockets beside those that there are. Raises ListenError, and then on none more."""
        self._sockets.bind_own(paths)

    async def keep_own(self, paths: Collection[Path]) -> None:
        """Serve the clients' own sockets that are bound and in `paths`, and close the others.

        Connections through those that are closed go on, and prove nobody any more.
        """
        for path in self._own.keys() - set(paths):
            self._own.pop(path).close()
        self._sockets.release_own(paths)
        await self._serve_own()

    async def reload_certificates(self) -> None:
        """Take certificate, key and whom to trust as they are now for new connections; established ones stay.

        Only those that came with a certificate end where somebody isn't trusted any more (`Connections.trusting`).
        Raises ListenError, and goes on with the old ones, where they can't be used.
        """
        self._taken = self._seen = tls.stamp(self._config.server)
        context, trust = tls.context(self._config.server)
        if context is not None:
            await self._serve_tcp(context, trust)

    async def drain(self, timeout_secs: float) -> None:
        """Stop: accept nothing new, give running requests up to `timeout_secs`, close what is left."""
        self._app.draining = True
        for listening in [*self._listening, *self._own.values(), self._tcp]:
            if listening is not None:
                listening.close()
        self._sockets.close()
        await tasks.end(self._sweeper)
        self._connections.pre_shutdown()
        await self._connections.shutdown(timeout_secs)

    async def _serve_own(self) -> None:
        loop = asyncio.get_running_loop()
        for path, own in self._sockets.own.items():
            if path not in self._own:
                self._own[path] = await loop.create_unix_server(
                    self._connections.through(path), sock=own.socket.dup(), backlog=BACKLOG
                )

    async def _serve_tcp(self, context: ssl.SSLContext | None, trust: tls.Trust) -> None:
        # A copy of the socket: closing an asyncio server closes what it was given, and the queue of
        # connections that wait to be accepted has to outlive a change of certificates.
        old, own = self._tcp, self._sockets.tcp.dup()
        self._tcp = await asyncio.get_running_loop().create_server(
            self._connections.trusting(trust),
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
            refused = self._connections.take_refused()
            if refused:
                log.warning(
                    "%d connections were refused: clients are at work on all %d that may be open (LimitNOFILE)",
                    refused,
                    self._connections.most,
                )
            await self.follow_files()

    async def follow_files(self) -> None:
        """Take certificates anew that were replaced on disk; files still being written wait for the next call."""
        now = tls.stamp(self._config.server)
        settled, self._seen = now == self._seen, now
        if now == self._taken or not settled:
            return
        try:
            await self.reload_certificates()
        except ListenError as error:
            log.error("changed certificates are refused and the old ones stay: %s", error)  # noqa: TRY400
        else:
            log.info("changed certificates were taken up")


async def start(service: Service, config: Config, *, sockets: Listeners) -> Server:
    """Return a server that answers on `sockets` (from `bind`). Raises ListenError where TLS can't be had."""
    app = App(service, Rules.of(config))
    server = Server(app, Connections(app, most=most_connections()), config, sockets)
    await server.serve()
    return server

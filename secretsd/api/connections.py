"""Connections: who is at the other end, how many there may be, and how long a slow one is borne with.

The only file that leans on the inside of aiohttp's low-level server (`web.Server`, `web.RequestHandler`): its
application, router and middlewares would cost each request a third more and log what must not be logged.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from secretsd.api.app import App
from secretsd.api.incoming import NOBODY, Peer, plain_address
from secretsd.api.problems import where
from secretsd.api.tls import NO_TRUST, Trust
from secretsd.auth import ClientCertificate, read_certificate, uid_of_tcp_peer, uid_of_unix_peer

log = logging.getLogger("secretsd.api")

KEEPALIVE_SECONDS: Final = 75.0
"""How long a connection may be idle, and how long a request's head may take to arrive."""
LINGERING_SECONDS: Final = 2.0
WRITE_SECONDS: Final = 30.0
"""How long a peer may take to accept an answer."""
MOST_CONNECTIONS: Final = 16_384
_SPARE_DESCRIPTORS: Final = 128
_LIMITS: Final = {"max_line_size": 8190, "max_field_size": 8190, "max_headers": 64}


def most_connections() -> int:
    """Return how many connections are kept: as many as descriptors allow, some left for files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return max(32, min(MOST_CONNECTIONS, soft - _SPARE_DESCRIPTORS))


class Connection(RequestHandler):
    """One connection; its peer is looked up once, when it is accepted."""

    __slots__ = ("app", "half_closed", "lingering", "own_socket", "peer", "proven", "trust", "writing_since")

    def __init__(
        self, manager: Connections, app: App, trust: Trust, own_socket: Path | None = None, **kwargs: Any
    ) -> None:
        super().__init__(manager, **kwargs)
        self.app = app
        self.trust = trust
        self.own_socket = own_socket
        self.peer = NOBODY
        self.half_closed = False
        self.lingering = False
        self.proven = False
        """Whether a request on it has come from a client of the policy."""
        self.writing_since: float | None = None

    @property
    def idle(self) -> bool:
        """Tell whether the connection waits for a request (or for the rest of a request's head)."""
        return self._waiter is not None and not self._force_close

    @property
    def busy(self) -> bool:
        """Tell whether a request is being answered."""
        return self._current_request is not None

    @property
    def spare(self) -> bool:
        """Tell whether nobody waits for an answer: there is no request, or only the rest of one that was answered."""
        return (self.idle and not self._messages) or (self.lingering and not self._force_close)

    @property
    def stranger(self) -> bool:
        """Tell whether an answer is under way to somebody who has never proven to be a client."""
        return not self.proven and not self._force_close

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Look the peer up, then go on as aiohttp does, unless there are too many connections already."""
        if isinstance(self._manager, Connections) and not self._manager.has_room():
            # Nothing of aiohttp's has begun: its task would find the connection gone. What comes yet isn't read.
            self.force_close()
            self._manager = None
            cast("asyncio.Transport", transport).abort()
            return
        peer = peer_of(transport, self.trust)
        self.peer = peer if self.own_socket is None else replace(peer, own_socket=self.own_socket)
        super().connection_made(transport)

    def eof_received(self) -> bool | None:  # type: ignore[override]  # aiohttp's own says None only
        """Go on until all that was asked is answered; True keeps our half of the connection open.

        A peer that closes its half after its request (`nc -N`, socat) still reads (RFC 9293, 3.6). With nothing left
        to answer the connection ends; over TLS it always does, there is no half-closing in asyncio.
        """
        if self.idle and not self._messages:
            return None
        if self.transport is None or self.transport.get_extra_info("ssl_object") is not None:
            return None
        self.half_closed = True
        if not self._messages:
            self.close()  # once what is being answered is; between two steps of aiohttp that may be done already
        if self._current_request is not None:
            self.begin(self._current_request)
        return True

    def begin(self, request: web.BaseRequest) -> None:
        """Note that a request is at hand, and let nobody wait for the rest of a body that can't come any more."""
        self.lingering = False
        if self.half_closed and not request.content.is_eof():
            request.content.set_exception(ConnectionResetError("the peer closed its half within the body"))
            request.content.feed_eof()

    async def finish_response(self, request: Any, resp: Any, start_time: float | None) -> tuple[Any, bool]:
        """Send an answer, noting since when, for `Connections.drop_slow`."""
        if self.half_closed and not self._messages:
            self.close()
        self.writing_since = self._loop.time()
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self.writing_since = None
            self.lingering = not request.content.is_eof()

    def prove(self) -> None:
        """Note that the request is a client's."""
        self.proven = True

    def drop(self) -> None:
        """End at once, for another connection's sake; what wasn't taken of an answer is lost."""
        transport, idle = self.transport, self.idle
        self.force_close()
        if transport is not None and not idle:
            transport.abort()
        if not self._request_in_progress and self._task_handler is not None:
            self._task_handler.cancel()  # it would take up a request that has just come, or wait for the rest of one

    def handle_error(
        self, request: Any, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> Any:
        """Answer what aiohttp couldn't read with a problem, not with its text, which quotes the request."""
        del request, status, message
        return self.app.unreadable(exc)

    def log_exception(self, *_args: Any, **kw: Any) -> None:
        """Log type and place of an error; its message can quote what was sent."""
        error = kw.get("exc_info")
        log.error("connection failed: %s", where(error) if isinstance(error, BaseException) else "unknown")

    def log_debug(self, *_args: Any, **_kw: Any) -> None:
        """Log nothing: aiohttp's remarks can quote what was sent."""


class Connections(web.Server):
    """All connections. Where there are too many, one of those that are idle makes room, else a stranger's."""

    def __init__(self, app: App, *, most: int) -> None:
        async def handler(request: web.BaseRequest) -> Any:
            protocol = request.protocol
            if not isinstance(protocol, Connection):
                return await app.answer(request, NOBODY)
            protocol.begin(request)
            return await app.answer(request, protocol.peer, protocol.prove)

        super().__init__(handler)
        self._app = app
        self.most = most
        self._refused = 0
        self._trust = NO_TRUST

    def __call__(self) -> RequestHandler:
        """Return the protocol of a new connection on which no certificates are taken."""
        return self._new(NO_TRUST)

    def through(self, own_socket: Path) -> Callable[[], RequestHandler]:
        """Return what makes the protocols of connections through one client's own socket."""
        return lambda: self._new(NO_TRUST, own_socket)

    def trusting(self, trust: Trust) -> Callable[[], RequestHandler]:
        """Return what makes the protocols of a listener whose handshakes let in whom `trust` names.

        Where an earlier one let in more, the connections that came with a certificate end, each after the request
        that it is at: nothing else would take back what their handshakes have shown.
        """
        before, self._trust = self._trust, trust
        if not before.kept_by(trust):
            for handler in list(self._connections):
                if isinstance(handler, Connection):
                    self._end_if_outdated(handler)
        return lambda: self._new(trust)

    def _end_if_outdated(self, handler: Connection) -> None:
        if handler.peer.certificate is None or handler.trust.kept_by(self._trust):
            return
        if handler.busy:
            handler.close()  # once it has answered
        else:
            handler.force_close()

    def _new(self, trust: Trust, own_socket: Path | None = None) -> RequestHandler:
        return Connection(
            self,
            self._app,
            trust,
            own_socket,
            loop=self._loop,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=KEEPALIVE_SECONDS,
            lingering_time=LINGERING_SECONDS,
            **_LIMITS,
        )

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """Count a new connection in."""
        super().connection_made(handler, transport)
        if isinstance(handler, Connection):
            self._end_if_outdated(handler)  # its handshake began before certificates were taken anew

    def drop_slow(self, now: float) -> int:
        """Abort connections whose peer doesn't take its answer; return how many. `now` is the loop's time."""
        slow = [
            transport
            for handler, transport in self._connections.items()
            if isinstance(handler, Connection)
            and handler.writing_since is not None
            and now - handler.writing_since > WRITE_SECONDS
        ]
        for transport in slow:
            transport.abort()
        return len(slow)

    def has_room(self) -> bool:
        """Tell whether one more can be kept; if need be one that may leave makes room.

        Those that are spare go first, and among them strangers', as a client's may be idle for a moment only; then
        strangers' whose answer is under way. Of each kind the oldest.
        """
        if len(self._connections) < self.most:
            return True
        ours = [handler for handler in self._connections if isinstance(handler, Connection)]
        leaving = (
            next((one for one in ours if one.spare and not one.proven), None)
            or next((one for one in ours if one.spare), None)
            or next((one for one in ours if one.stranger), None)
        )
        if leaving is None:
            self._refused += 1
            self._app.connection_refused()
            return False
        leaving.drop()
        return True

    def take_refused(self) -> int:
        """Return how many connections were refused since the last call."""
        refused, self._refused = self._refused, 0
        return refused


def peer_of(transport: asyncio.BaseTransport, trust: Trust) -> Peer:
    """Return who is at the other end of a connection that was just accepted, its handshake judged by `trust`."""
    handle = transport.get_extra_info("socket")
    if handle is None:
        return NOBODY
    if handle.family == socket.AF_UNIX:
        # asyncio and uvloop hand out stand-ins; a real socket on a copy of the descriptor asks the kernel.
        with socket.socket(fileno=os.dup(handle.fileno())) as own:
            return Peer(address="unix", uid=uid_of_unix_peer(own), unix=True, loopback=True)
    local, remote = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
    if not local or not remote:
        return NOBODY
    address, loopback = plain_address(remote[0])
    uid = uid_of_tcp_peer(local, remote) if loopback else None
    return Peer(address=address, uid=uid, unix=False, loopback=loopback, certificate=_certificate_of(transport, trust))


def _certificate_of(transport: asyncio.BaseTransport, trust: Trust) -> ClientCertificate | None:
    tls = transport.get_extra_info("ssl_object")
    der = None if tls is None else tls.getpeercert(binary_form=True)
    return None if der is None else read_certificate(der, trust.pinned)

"""One request through the layer: found, guarded, identified, handled, answered, counted."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from typing import Final

from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.web import BaseRequest

from secretsd.api import guards, problems
from secretsd.api.answers import Answer
from secretsd.api.contract import Service
from secretsd.api.incoming import Incoming, Peer
from secretsd.api.routes import ROUTES
from secretsd.api.routing import OpenRoute, Router
from secretsd.errors import Problem

log = logging.getLogger("secretsd.api")

_ID_DIGITS: Final = 16
_STOCK: Final = 64
_PARSER_SAYS: Final = {
    "Missing 'Host' header in request.": "Send a Host header.",
    "Too many headers received": "Send fewer headers; 64 are the most.",
}
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})


class RequestIds:
    """Random ids, 16 hex digits; the sender has no say in them. The kernel is asked for many at once."""

    def __init__(self) -> None:
        self._stock = ""

    def __call__(self) -> str:
        """Return the next one."""
        if not self._stock:
            self._stock = secrets.token_hex(_STOCK * _ID_DIGITS // 2)
        request_id, self._stock = self._stock[:_ID_DIGITS], self._stock[_ID_DIGITS:]
        return request_id


class App:
    """The calls of the interface, in front of a service."""

    def __init__(self, service: Service, rules: guards.Rules, *, new_id: Callable[[], str] | None = None) -> None:
        self._service = service
        self._rules = rules
        self._new_id = new_id or RequestIds()
        self._router = Router(ROUTES)
        self.draining = False
        """Set while the server stops: answers close their connections."""

    async def answer(self, raw: BaseRequest, peer: Peer, proven: Callable[[], None] = lambda: None) -> Answer:
        """Return the answer to a request; never raises but for cancellation.

        `proven` is called as soon as the request is known to be a client's.
        """
        started = time.perf_counter()
        request_id = self._new_id()
        path, _, query = raw.raw_path.partition("?")
        found = self._router.find(raw.method, path)
        incoming = Incoming(raw, found, query, peer, request_id)
        try:
            answer = await self._handle(incoming, proven)
        except Problem as problem:
            answer = problems.render(problem, request_id)
        except Exception as error:  # noqa: BLE001 - the outermost place: whatever it is becomes a 500 that says nothing
            answer = problems.render(problems.unexpected(error, request_id), request_id)
        self._finish(answer, request_id, found.template, raw.method, time.perf_counter() - started)
        return answer

    def unreadable(self, error: BaseException | None) -> Answer:
        """Return the answer to what isn't HTTP as it should be, or for what broke around a handler."""
        request_id = self._new_id()
        if isinstance(error, LineTooLong):
            problem = problems.unreadable("The request line or a header is too long; 8 KiB is the most.")
        elif isinstance(error, HttpProcessingError) or error is None:
            said = None if error is None else _PARSER_SAYS.get(error.message)
            problem = problems.unreadable(
                said or "This isn't a request of HTTP/1.1: look at its method, its headers and the framing of its body."
            )
        else:
            problem = problems.unexpected(error, request_id)
        answer = problems.render(problem, request_id)
        answer.keep_alive = False
        self._finish(answer, request_id, "unknown", "other", 0.0)
        return answer

    def connection_refused(self) -> None:
        """Count a connection that there was no room for."""
        self._service.metrics.connection_refused()

    async def _handle(self, incoming: Incoming, proven: Callable[[], None]) -> Answer:
        service = self._service
        await guards.admit(incoming, self._rules, service)
        route = incoming.found.route
        if route is None:
            raise RuntimeError("the guards let a request without a route through")
        if isinstance(route, OpenRoute):
            return route.handler(service, incoming)
        caller = await guards.identify(incoming, service)
        proven()
        position = service.position
        try:
            return await route.handler(service, caller, incoming)
        except Problem as problem:
            problem.position = problem.position or position
            raise
        except Exception as error:
            unforeseen = problems.unexpected(error, incoming.request_id)
            unforeseen.position = position
            raise unforeseen from error

    def _finish(self, answer: Answer, request_id: str, template: str, method: str, seconds: float) -> None:
        answer.request_id = request_id
        if self.draining:
            answer.keep_alive = False
        if method not in _METHODS:
            method = "other"
        self._service.metrics.request(template, method, answer.status, seconds)
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s %s %d in %.1f ms, request %s", method, template, answer.status, seconds * 1000, request_id)

"""An answer, and how it gets onto the wire."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final

import msgspec
from aiohttp.web import BaseRequest

JSON: Final = "application/json"
_encoder: Final = msgspec.json.Encoder()

# Every answer carries these: nothing is to be guessed at, and unless it says otherwise nothing is for a cache.
_FIXED: Final = "Server: secretsd\r\nX-Content-Type-Options: nosniff\r\nCache-Control: "
NO_STORE: Final = "no-store"
_HEADS: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n{_FIXED}" for status in HTTPStatus}
_BODILESS: Final = frozenset({204, 304})


class _Date:
    """The Date header, made once a second."""

    __slots__ = ("_second", "_text")

    def __init__(self) -> None:
        self._second = 0
        self._text = ""

    def text(self) -> str:
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._text = formatdate(now, usegmt=True)
        return self._text


_date: Final = _Date()


class Answer:
    """A whole answer, small enough to be in memory; head and body leave in one write.

    It stands where aiohttp expects a `StreamResponse`, of which the server uses `prepare`, `write_eof` and
    `keep_alive`. aiohttp's own costs 20 µs more a request (a third of a bare handler), which is most of what
    the signature on an audit line costs.
    """

    __slots__ = (
        "body",
        "cache_control",
        "content_type",
        "headers",
        "keep_alive",
        "position",
        "request",
        "request_id",
        "status",
    )

    def __init__(
        self,
        status: int,
        body: bytes = b"",
        *,
        content_type: str = JSON,
        position: str | None = None,
        headers: Mapping[str, str] | None = None,
        cache_control: str = NO_STORE,
    ) -> None:
        self.status = status
        self.cache_control = cache_control
        self.body = body
        self.content_type = content_type
        self.position = position
        self.headers = headers
        self.request_id = ""
        self.keep_alive = True
        self.request: BaseRequest | None = None

    @classmethod
    def of(
        cls,
        value: Any,
        *,
        status: int = 200,
        position: str | None = None,
        headers: Mapping[str, str] | None = None,
        cache_control: str = NO_STORE,
    ) -> Answer:
        """Return the answer that holds `value` as JSON."""
        return cls(status, _encoder.encode(value), position=position, headers=headers, cache_control=cache_control)

    async def prepare(self, request: BaseRequest) -> None:
        """Note the request that is answered."""
        self.request = request
        self.keep_alive = self.keep_alive and request.keep_alive

    async def write_eof(self) -> None:
        """Send head and body, at the pace the peer takes them. Raises ConnectionError when it is gone."""
        request = self.request
        if request is None:
            raise RuntimeError("an answer is prepared before it is written")
        self.request = None
        data = self.head(request)
        if request.method != "HEAD" and self.status not in _BODILESS:
            data += self.body
        writer = request.writer
        await writer.write(data)
        await writer.drain()

    def head(self, request: BaseRequest) -> bytes:
        """Return the status line and the headers."""
        lines = [
            _HEADS[self.status],
            self.cache_control,
            "\r\nDate: ",
            _date.text(),
            "\r\nX-Request-Id: ",
            self.request_id,
            "\r\n",
        ]
        if self.status not in _BODILESS:
            lines.append(f"Content-Type: {self.content_type}\r\n{self._framing(request)}")
        if self.position is not None:
            lines.append(f"Vault-Generation: {self.position}\r\n")
        if self.headers is not None:
            lines.extend(f"{name}: {value}\r\n" for name, value in self.headers.items())
        if not self.keep_alive:
            lines.append("Connection: close\r\n")
        elif request.version.minor == 0:
            lines.append("Connection: keep-alive\r\n")
        lines.append("\r\n")
        return "".join(lines).encode("latin-1")

    def _framing(self, request: BaseRequest) -> str:
        """Return the headers that tell where the body ends."""
        del request
        return f"Content-Length: {len(self.body)}\r\n"

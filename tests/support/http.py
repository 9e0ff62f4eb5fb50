"""HTTP with nothing in between: headers exactly as a test wants them, over TCP or a Unix socket."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.support.certificates import Certified
from tests.support.waiting import PATIENCE_SECS

Headers = Mapping[str, str] | Iterable[tuple[str, str]]


@dataclass(frozen=True)
class Answer:
    """An answer, whole."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)

    @property
    def slug(self) -> str:
        """The `type` of a problem, after checking that it is one (RFC 9457) and says what to do."""
        content_type = self.headers.get("Content-Type", "")
        assert content_type.partition(";")[0] == "application/problem+json", (
            self.status,
            content_type,
            self.body,
        )
        problem = self.json()
        assert problem["status"] == self.status, problem
        assert problem["detail"], problem
        slug: str = problem["type"]
        return slug

    @property
    def position(self) -> tuple[str, int]:
        """Epoch and generation of the `Vault-Generation` header."""
        epoch, _, generation = self.headers["Vault-Generation"].rpartition(":")
        assert epoch
        return epoch, int(generation)

    def refused(self, status: int | Iterable[int], *slugs: str) -> str:
        """Assert that this is a problem of one of `slugs` with (one of) `status`; return its slug."""
        statuses = {status} if isinstance(status, int) else set(status)
        assert self.status in statuses, (self.status, self.body[:500])
        slug = self.slug
        assert slug in slugs, (slug, slugs)
        return slug

    def ok(self, status: int = 200) -> Any:
        """Assert the status and return the JSON body, None for an empty one."""
        assert self.status == status, (self.status, self.body[:500])
        return json.loads(self.body) if self.body else None


class UnixConnection(http.client.HTTPConnection):
    """http.client over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE_SECS)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket's path."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


@dataclass(frozen=True)
class Api:
    """The daemon's HTTP as one client sees it; `as_` gives the same daemon under another identity."""

    connect: Callable[[], http.client.HTTPConnection]
    client: str | None = "admin"
    token: str | None = None
    extra: tuple[tuple[str, str], ...] = field(default=())

    def as_(self, client: str | None, token: str | None = None) -> Api:
        """Return this daemon seen by `client`, proven by `token` if one is given."""
        return replace(self, client=client, token=token)

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Headers = (),
        raw: bytes | None = None,
        content_type: str | None = "application/json",
    ) -> Answer:
        """Send one request on a connection of its own and return the answer.

        `body` is sent as JSON, `raw` as it is. `headers` come besides the identity's; Host replaces ours.
        """
        given = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
        names = {name.lower() for name, _ in given}
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        connection = self.connect()
        try:
            connection.putrequest(method, path, skip_host="host" in names, skip_accept_encoding=True)
            if self.client is not None:
                connection.putheader("X-Jarvis-Client", self.client)
            if self.token is not None:
                connection.putheader("Authorization", f"Bearer {self.token}")
            if data is not None:
                if content_type is not None and "content-type" not in names:
                    connection.putheader("Content-Type", content_type)
                if "content-length" not in names and "transfer-encoding" not in names:
                    connection.putheader("Content-Length", str(len(data)))
            for name, value in [*self.extra, *given]:
                connection.putheader(name, value)
            connection.endheaders()
            if data is not None:
                # Refused before the whole body was sent: the answer is there to be read.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    connection.send(data)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str, headers: Headers = ()) -> Answer:
        """GET `path`."""
        return self.call("GET", path, headers=headers)

    def post(self, path: str, body: object, headers: Headers = ()) -> Answer:
        """POST JSON to `path`."""
        return self.call("POST", path, body, headers=headers)

    def put(self, path: str, body: object, headers: Headers = ()) -> Answer:
        """PUT JSON to `path`."""
        return self.call("PUT", path, body, headers=headers)

    def delete(self, path: str, headers: Headers = ()) -> Answer:
        """DELETE `path`."""
        return self.call("DELETE", path, headers=headers)

    # What tests do most, one line each; each asserts that it worked.

    def create(self, name: str, value: str | None = None, **fields: object) -> Any:
        """Create a secret, with a generated value if none is given; return its metadata."""
        given = {} if value is None else {"value": value}
        return self.post("/secret", {"name": name, **given, **fields}).ok(201)

    def update(self, name: str, value: str, **fields: object) -> Any:
        """Give a secret a new value; return its metadata."""
        return self.put(f"/secret/{name}", {"value": value, **fields}).ok()

    def rotate(self, *names: str, **fields: object) -> Any:
        """Rotate secrets; return the list of their metadata."""
        return self.post("/rotate", {"names": list(names), **fields}).ok()["rotated"]

    def secret(self, name: str, query: str = "") -> Any:
        """Fetch a secret: metadata, value and encoding."""
        return self.get(f"/secret/{name}{query}").ok()

    def value(self, name: str, query: str = "") -> str:
        """Fetch a secret's value."""
        value: str = self.secret(name, query)["value"]
        return value

    def health(self) -> Any:
        """Fetch /healthz, whatever its status."""
        return self.get("/healthz").json()

    def changes(self, since: str | None = None) -> Any:
        """Ask what changed."""
        return self.get("/changes" if since is None else f"/changes?since={since}").ok()


def tcp(port: int, host: str = "127.0.0.1", *, source: str | None = None, **identity: Any) -> Api:
    """Return the daemon on a TCP port, seen by `client="admin"` unless told otherwise, from the address `source`."""
    origin = None if source is None else (source, 0)
    return Api(lambda: http.client.HTTPConnection(host, port, timeout=PATIENCE_SECS, source_address=origin), **identity)


def tls(port: int, authority: Path, *, certified: Certified | None = None, **identity: Any) -> Api:
    """Return the daemon on a TCP port that speaks TLS, with a certificate of `authority`; `certified` is ours."""
    if certified is None:
        context = ssl.create_default_context(cafile=str(authority))
    else:
        context = certified.presented_to(authority)
    return Api(
        lambda: http.client.HTTPSConnection("127.0.0.1", port, timeout=PATIENCE_SECS, context=context), **identity
    )


def unix(path: Path, **identity: Any) -> Api:
    """Return the daemon on a Unix socket."""
    return Api(lambda: UnixConnection(path), **identity)


def raw_exchange(port: int, request: bytes, *, half_close: bool = False) -> bytes:
    """Send bytes that no HTTP library would and return all that comes back until the daemon closes.

    The request asks for that itself (`Connection: close`) unless it is one that is refused with a close, or
    `half_close` says that nothing more will come, as `nc -N` and socat do.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECS) as connection:
        connection.sendall(request)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        received = bytearray()
        while chunk := connection.recv(65536):
            received += chunk
        return bytes(received)

"""HTTP to the daemon: TCP or Unix socket, who we are, and one kind of failure.

    async with HttpTransport.from_env() as http:                       # or HttpTransport(url, client_id=…)
        answer = await http.request("GET", "/secret/brave_api_key")    # any status comes back as a Response
        answer.status, answer.headers["Vault-Generation"], answer.json()

    HttpTransport(url, *, client_id, instance=None, token=None, token_file=None,
                  ca_file=None, cert_file=None, key_file=None, timeout_secs=5.0)
    HttpTransport.from_env()
    request(method, path, *, body=None, headers=None) -> Response      # raises SecretsUnavailable
    close()

`path` goes on the wire as it is given: quote what you put into it. `body` becomes JSON. Proxies of the
environment are ignored, redirects aren't followed and cookies aren't kept: a token goes to the daemon only.
"""

import asyncio
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from secretsd_client._errors import SecretsError, SecretsUnavailable
from secretsd_client._socket import doubt, usable_default
from secretsd_client._tls import Tls

DEFAULT_URL = "http://127.0.0.1:8081"
_CONNECTIONS = 16
_INSTANCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class Response:
    """An answer of the daemon; repr hides the body, which may be a secret. `headers` ignores case."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    def json(self) -> Any:
        """Return the parsed body; SecretsUnavailable when it isn't JSON (something else answers there)."""
        try:
            return json.loads(self.body)
        except ValueError:
            pass
        raise SecretsUnavailable(f"the answer (status {self.status}) isn't JSON: is that URL jarvis-secretsd's?")


class HttpTransport:
    """One client's connections to one daemon. Made anywhere; used on one event loop."""

    def __init__(
        self,
        url: str,
        *,
        client_id: str | None,
        instance: str | None = None,
        token: str | None = None,
        token_file: Path | None = None,
        ca_file: Path | None = None,
        cert_file: Path | None = None,
        key_file: Path | None = None,
        timeout_secs: float = 5.0,
    ) -> None:
        """Raise SecretsError for a URL, a client id, a pair of tokens or files for TLS that make no sense."""
        self._base, self._socket = _parse_url(url)
        self._tls = Tls(url, ca_file=ca_file, cert_file=cert_file, key_file=key_file)
        self.url = url
        if token is not None and token_file is not None:
            raise SecretsError("give either a token or a token file, not both")
        self._token = _TokenFile(token_file) if token_file is not None else _Token(token)
        self._identity = {}
        if client_id is not None:
            if not client_id.isascii() or not client_id.isprintable() or not client_id:
                raise SecretsError("a client's name is printable ASCII")
            self._identity["X-Jarvis-Client"] = client_id
        if instance is not None:
            if _INSTANCE.fullmatch(instance) is None:
                raise SecretsError(
                    "an instance's name is up to 128 letters, digits, dots, underscores, hyphens, and begins with a "
                    "letter or digit"
                )
            self._identity["X-Jarvis-Instance"] = instance
        self.client_id = client_id
        self._timeout = aiohttp.ClientTimeout(total=timeout_secs)
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def from_env(cls) -> Self:
        """Read the JARVIS_* variables of the daemon's URL, of the client's name and proof, and of TLS.

        Without a URL it is the packaged Unix socket where that can be used and trusted, else
        http://127.0.0.1:8081.
        """

        def path(name: str) -> Path | None:
            return Path(value) if (value := os.environ.get(name)) else None

        return cls(
            os.environ.get("JARVIS_SECRETS_URL") or default_url(),
            client_id=os.environ.get("JARVIS_CLIENT_ID") or None,
            instance=os.environ.get("JARVIS_CLIENT_INSTANCE") or None,
            token=os.environ.get("JARVIS_CLIENT_TOKEN") or None,
            token_file=path("JARVIS_CLIENT_TOKEN_FILE"),
            ca_file=path("JARVIS_SECRETS_CA_FILE"),
            cert_file=path("JARVIS_CLIENT_CERT_FILE"),
            key_file=path("JARVIS_CLIENT_KEY_FILE"),
        )

    def __repr__(self) -> str:
        return f"HttpTransport({self.url!r}, client_id={self.client_id!r})"

    async def request(
        self, method: str, path: str, *, body: object | None = None, headers: Mapping[str, str] | None = None
    ) -> Response:
        """Return the daemon's answer, whatever its status; raise SecretsUnavailable when there is none.

        SecretsError is for a file that holds no token, or no certificate. After a 401 a token file that has changed is
        read and the request sent once more: a refused request did nothing, so any method may be repeated.
        """
        answer = await self._once(method, path, body, headers)
        if answer.status == 401 and self._token.reread():
            answer = await self._once(method, path, body, headers)
        return answer

    async def _once(self, method: str, path: str, body: object | None, headers: Mapping[str, str] | None) -> Response:
        if self._socket is not None and (reason := doubt(self._socket)) is not None:
            raise SecretsUnavailable(f"the daemon's socket can't be used: {reason}")
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        tls = self._tls.context()
        failure: str
        try:
            # The headers are nobody's local variable here: those are shown by what reports exceptions with frames.
            async with self._opened().request(
                method, self._target(path), data=data, headers=self._sent(headers, body), allow_redirects=False, ssl=tls
            ) as answer:
                return Response(answer.status, answer.headers, await answer.read())
        except TimeoutError:
            failure = f"no answer within {self._timeout.total} s"
        except aiohttp.ClientConnectorCertificateError as error:
            failure = (
                f"{error.strerror or 'its certificate is not trusted'}; JARVIS_SECRETS_CA_FILE names whom to trust"
            )
        except aiohttp.ClientConnectorError as error:
            failure = error.strerror or type(error).__name__
        except (aiohttp.ServerDisconnectedError, OSError) as error:
            failure = getattr(error, "strerror", None) or type(error).__name__
            failure += self._tls.why_hung_up()
        except (aiohttp.ClientError, ValueError, RuntimeError) as error:
            failure = type(error).__name__
        # Raised out here so that no library's exception, which carries our headers, hangs on this one.
        raise SecretsUnavailable(f"jarvis-secretsd at {self.url} can't be asked: {failure}")

    def _sent(self, headers: Mapping[str, str] | None, body: object | None) -> dict[str, str]:
        kind = {} if body is None else {"Content-Type": "application/json"}
        return {**self._identity, **self._token.header(), **(headers or {}), **kind}

    def _target(self, path: str) -> URL:
        return URL(self._base + path, encoded=True)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector: aiohttp.BaseConnector
            if self._socket is not None:
                connector = aiohttp.UnixConnector(str(self._socket), limit=_CONNECTIONS)
            else:
                connector = aiohttp.TCPConnector(limit=_CONNECTIONS)
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=self._timeout,
                trust_env=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=True,
            )
        return self._session

    async def close(self) -> None:
        """Close the connections; the transport may be used again and opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
            await asyncio.sleep(0)  # lets the closed transports' callbacks run before the loop may end

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class _Token:
    """A bearer token that was given as such."""

    def __init__(self, token: str | None) -> None:
        self._value = _checked(token) if token is not None else None

    def header(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._value}"} if self._value is not None else {}

    def reread(self) -> bool:
        """Return whether there is a newer token to try."""
        return False


class _TokenFile(_Token):
    """A bearer token in a file, read again when the file changes."""

    def __init__(self, path: Path) -> None:
        super().__init__(None)
        self._path = path
        self._seen: tuple[int, int, int] | None = None

    def header(self) -> dict[str, str]:
        try:
            status = self._path.stat()
            seen = (status.st_ino, status.st_mtime_ns, status.st_size)
            if seen != self._seen:
                self._read()
                self._seen = seen
        except (OSError, SecretsError) as error:
            # A token file that is being replaced may be gone or empty for a moment: the token we have may still do.
            if self._value is None:
                if isinstance(error, SecretsError):
                    raise
                raise SecretsUnavailable(f"the token file {self._path} can't be read: {error.strerror}") from None
        return super().header()

    def reread(self) -> bool:
        before = self._value
        try:
            self._read()
        except (OSError, SecretsError):
            return False
        return self._value != before

    def _read(self) -> None:
        try:
            self._value = _checked(self._path.read_text(encoding="ascii").strip())
        except UnicodeDecodeError:
            self._value = _checked("")


def _checked(token: str) -> str:
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise SecretsError("the client's token is empty or not printable ASCII")
    return token


def _parse_url(url: str) -> tuple[str, Path | None]:
    """Return the base that paths are appended to, and the socket for `unix:///path`."""
    wrong = "the daemon's URL is http://host:port, https://host:port or unix:///path"
    if url.startswith("unix:///"):
        return "http://localhost", Path(url.removeprefix("unix://"))
    try:
        parts = urlsplit(url)
        fits = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # brackets that don't close, a port that is none
        raise SecretsError(wrong) from None
    if parts.username is not None or parts.password is not None:
        raise SecretsError("the daemon's URL holds credentials: give a token or a token file instead")
    if not fits or parts.query or parts.fragment or not url.isprintable() or " " in url:
        raise SecretsError(wrong)
    return url.rstrip("/"), None


def default_url() -> str:
    """Return where the daemon is expected: at its packaged socket if that can be trusted, else on TCP."""
    socket = usable_default()
    return f"unix://{socket}" if socket is not None else DEFAULT_URL

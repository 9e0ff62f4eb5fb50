"""`kind: webhook`: each step as a signed HTTPS POST, whose answer is its outcome (docs/rotators.md#webhook)."""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import stat
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import SplitResult, urlsplit

import aiohttp

from secretsd import files
from secretsd.crypto.sensitive import Sensitive
from secretsd.rotators.errors import Refused, Retryable, RotatorError
from secretsd.rotators.interface import Order, Rotator, RotatorConfig, SecretName

EVENT: Final = "rotation.step"
"""The event's type, without its prefix. It is in no log and on no topic."""
CONTENT_TYPE: Final = "application/cloudevents+json"
MAY_PASS: Final = frozenset({202, 408, 425, 429, 500, 502, 503, 504})
"""Not done yet, too early, too much at once, out of order for now. Every other status that isn't a success is meant."""
HEADER_MOST: Final = 8_192
"""Bytes of a line of the answer's head that are read. Of its body nothing is."""
FORM: Final = "write the url as https://HOST/PATH, or unix:///PATH for a socket of this machine"


class WebhookConfig(RotatorConfig, frozen=True, kw_only=True):
    """Where the receiver is, and how it and we are known."""

    url: str
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    bearer: SecretName | None = None
    """A secret that is sent as a bearer token, for receivers that want one besides the signature."""
    uid: int | None = None
    """Whom the receiver's Unix socket belongs to, where it is neither root nor the daemon's own user."""

    def __post_init__(self) -> None:
        """Refuse what can't be posted to safely. Raises ValueError."""
        try:
            parts = urlsplit(self.url)
            port = parts.port
        except ValueError:
            raise ValueError(FORM) from None
        if not _is_https(parts, port) and not _is_socket(parts):
            raise ValueError(FORM)
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file come together")
        if _is_socket(parts) and (self.ca_file or self.cert_file):
            raise ValueError("ca_file, cert_file and key_file are for https")
        if self.uid is not None and not _is_socket(parts):
            raise ValueError("uid is for the owner of a Unix socket")

    def reads(self) -> tuple[str, ...]:
        """Return the token's secret."""
        return () if self.bearer is None else (self.bearer,)

    @property
    def socket_path(self) -> Path | None:
        """The Unix socket, None for https."""
        parts = urlsplit(self.url)
        return Path(parts.path) if _is_socket(parts) else None

    @property
    def place(self) -> str:
        """The receiver as errors name it: a path can hold a token, so not all of the URL."""
        return self.url if self.socket_path else f"https://{urlsplit(self.url).netloc}"


class Webhook(Rotator[WebhookConfig]):
    """Posts each step and takes the status for its outcome; what is done with the value is the receiver's affair."""

    config_type: ClassVar[type[RotatorConfig]] = WebhookConfig

    async def set(self, order: Order) -> None:
        """Have the receiver let the other end take the new value."""
        await self._post("set", order, order.new)

    async def test(self, order: Order) -> None:
        """Have the receiver use the new value there."""
        await self._post("test", order, order.new)

    async def rollback(self, order: Order) -> None:
        """Have the receiver let the other end take the old value again."""
        await self._post("rollback", order, order.old)

    async def finish(self, order: Order) -> None:
        """Tell the receiver that the new value is current."""
        await self._post("finish", order, order.new)

    async def _post(self, step: str, order: Order, value: Sensitive) -> None:
        body = order.sign(
            EVENT,
            {
                "step": step,
                "token": order.token,
                "name": order.name,
                "version": order.version,
                # The receiver compares it with its own address: what was meant for another receiver is not for it.
                "url": self.config.url,
                # Always this way, since the canonical form takes no line breaks and a receiver likes one form.
                "encoding": "base64",
                "value": base64.b64encode(value.reveal()).decode(),
            },
        )
        headers = {"Content-Type": CONTENT_TYPE}
        if self.config.bearer is not None:
            headers["Authorization"] = _bearer(await order.read(self.config.bearer))
        status = await self._status(body, headers)
        if 200 <= status < 300 and status not in MAY_PASS:
            return
        said = f"{self.config.place} answered {status} to the step {step}"
        if status in MAY_PASS:
            raise Retryable(said)
        if 300 <= status < 400:
            raise Refused(f"{said}: redirects are not followed, give the url that it leads to")
        raise Refused(f"{said}: see the receiver's log")

    async def _status(self, body: bytes, headers: dict[str, str]) -> int:
        """Return the answer's status. Raises RotatorError when there is none."""
        connector = await self._connector()
        try:
            # No proxy and no .netrc of the environment, no cookies, no time limit but the step's own.
            async with (
                aiohttp.ClientSession(
                    connector=connector,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    auto_decompress=False,
                    trust_env=False,
                    timeout=aiohttp.ClientTimeout(total=None),
                    max_line_size=HEADER_MOST,
                    max_field_size=HEADER_MOST,
                ) as session,
                session.post(
                    "http://localhost/" if self.config.socket_path else self.config.url,
                    data=body,
                    headers=headers,
                    allow_redirects=False,
                ) as answer,
            ):
                return answer.status
        except aiohttp.ClientError as error:
            raise self._failed(error) from None
        except OSError as error:
            raise Retryable(f"{self.config.place} can't be reached: {error.strerror or 'no connection'}") from None

    def _failed(self, error: aiohttp.ClientError) -> RotatorError:
        place = self.config.place
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            why = getattr(error.certificate_error, "verify_message", "") or "it is not valid"
            return Refused(f"the certificate of {place} is refused: {why}")
        if isinstance(error, aiohttp.ClientConnectorError):
            return Retryable(f"{place} can't be reached: {error.os_error.strerror or 'no connection'}")
        # The class alone: the words may quote what the receiver sent, which may be what we sent it.
        return Retryable(f"no answer of {place} that can be read ({type(error).__name__})")

    async def _connector(self) -> aiohttp.BaseConnector:
        path = self.config.socket_path
        if path is not None:
            await asyncio.to_thread(_owned, path, self.config.uid)
            return aiohttp.UnixConnector(str(path), force_close=True)
        return aiohttp.TCPConnector(ssl=await asyncio.to_thread(_tls, self.config), force_close=True)


def _is_https(parts: SplitResult, port: int | None) -> bool:
    named = bool(parts.hostname) and "@" not in parts.netloc and port != 0
    return parts.scheme == "https" and named and not parts.fragment


def _is_socket(parts: SplitResult) -> bool:
    return parts.scheme == "unix" and not parts.netloc and parts.path.startswith("/") and not parts.query


def _bearer(token: Sensitive) -> str:
    try:
        text = token.reveal().decode("ascii")
    except UnicodeDecodeError:
        raise Refused("the secret that bearer names is not ASCII text, which a header needs") from None
    if not text.isprintable() or " " in text:
        raise Refused("the secret that bearer names holds a space or a control character, which no token does")
    return f"Bearer {text}"


def _tls(config: WebhookConfig) -> ssl.SSLContext:
    """Return a context that verifies the receiver's certificate and name. Blocks. Raises Refused."""
    try:
        for path in filter(None, (config.ca_file, config.cert_file, config.key_file)):
            files.read_regular(Path(path))  # OpenSSL would wait for a named pipe
        context = ssl.create_default_context(cafile=config.ca_file)
        if config.cert_file is not None:
            context.load_cert_chain(config.cert_file, config.key_file)
    except OSError as error:
        named = ", ".join(path for path in (config.ca_file, config.cert_file, config.key_file) if path)
        raise Refused(f"can't use the TLS files {named}: {error.strerror or error}") from None
    return context


def _owned(path: Path, uid: int | None) -> None:
    """Return when `path` is a socket of whom it may belong to. Blocks. Raises RotatorError.

    Whoever could put a socket of their own in its place could write into its folder, which is for its permissions.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise Retryable(f"the socket {path} can't be reached: {error.strerror or error}") from None
    allowed = {0, os.geteuid()} if uid is None else {uid}
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid not in allowed:
        raise Refused(
            f"{path} is no socket of an allowed owner: it belongs to uid {found.st_uid}; give `uid` if that is right"
        )

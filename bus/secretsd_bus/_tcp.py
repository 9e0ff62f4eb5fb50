"""The socket under a link: TLS towards the broker, and an end that the broker really hears."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from typing import Final

from secretsd_bus._files import read_regular
from secretsd_bus.errors import BusUnreachable
from secretsd_bus.settings import BusSettings

LINGER_SECS: Final = 1.0
"""How long a closed connection waits for the broker to close its half."""


class _TlsSocket(ssl.SSLSocket):
    """Closes itself when the handshake fails, which paho leaves to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


def tls_context(settings: BusSettings) -> ssl.SSLContext | None:
    """Return the context for an `mqtts://` URL, None for a plain one. Reads files: it blocks.

    The broker's certificate must be from `ca_file` (else from one of the system's authorities) and for the
    URL's host. Raises BusUnreachable when a file can't be read or holds something else.
    """
    if not settings.tls:
        return None
    try:
        for path in filter(None, (settings.ca_file, settings.cert_file, settings.key_file)):
            read_regular(path)  # OpenSSL would wait for a named pipe
        context = ssl.create_default_context(cafile=settings.ca_file)
        context.sslsocket_class = _TlsSocket
        if settings.cert_file is not None:
            context.load_cert_chain(settings.cert_file, settings.key_file)
    except OSError as error:
        named = ", ".join(str(path) for path in (settings.ca_file, settings.cert_file, settings.key_file) if path)
        raise BusUnreachable(f"can't use the TLS files {named}: {error.strerror or error}") from error
    return context


def read_password(settings: BusSettings) -> str | None:
    """Return the password of the settings' file, None without one. Blocks. Raises BusUnreachable."""
    try:
        return settings.read_password()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        # Not chained: a decoding error carries what it could not decode.
        raise BusUnreachable(f"can't read the password in {settings.password_file}: {reason}") from None


class Farewell:
    """Keeps a connection open for a moment after its owner has closed it.

    Closing a socket that still holds unread data makes TCP send a reset, and a reset can overtake the last
    thing written: the broker would miss our DISCONNECT and publish the will.
    """

    def __init__(self, connection: socket.socket) -> None:
        """Take a second handle of the connection, before its owner closes the first."""
        self._socket = socket.socket(fileno=os.dup(connection.fileno()))
        self._socket.setblocking(False)

    async def wait(self) -> None:
        """Send nothing more, read until the broker closes too, at most for LINGER_SECS."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError, TimeoutError):
            self._socket.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(LINGER_SECS):
                while await loop.sock_recv(self._socket, 65_536):
                    pass

    def close(self) -> None:
        """Let go of the handle."""
        self._socket.close()

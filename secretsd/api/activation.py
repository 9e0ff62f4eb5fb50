"""Listening sockets that the service manager opened for us: socket activation, sd_listen_fds(3).

They outlive the daemon: connections wait in them over a restart, and nobody else can have the address meanwhile.
The configuration still says where the daemon listens; a socket that it doesn't name is a refusal, because whoever
asks there would be served, or wait for ever, without anybody having decided it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Final

from secretsd.config import Address, Config
from secretsd.errors import ListenError

FIRST_DESCRIPTOR: Final = 3
_MOST: Final = 64


@dataclass(frozen=True, slots=True)
class Passed:
    """What was handed over, each None where it wasn't."""

    tcp: socket.socket | None = None
    unix: socket.socket | None = None


def take(config: Config, environ: MutableMapping[str, str] = os.environ, *, first: int = FIRST_DESCRIPTOR) -> Passed:
    """Return the listening sockets that were passed to this process, from descriptor `first` on; nothing without any.

    LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES are taken out of `environ`, so that no child takes them for its own.
    Raises ListenError where one isn't what `config` says.
    """
    count = _passed(environ)
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        environ.pop(name, None)
    sockets = []
    for descriptor in range(first, first + count):
        os.set_inheritable(descriptor, False)
        sockets.append(socket.socket(fileno=descriptor))
    try:
        return _sorted_out(sockets, config)
    except BaseException:
        for one in sockets:
            one.close()
        raise


def _passed(environ: Mapping[str, str]) -> int:
    """Return how many descriptors are meant for this process."""
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return 0
    count = environ.get("LISTEN_FDS", "")
    if not count.isdecimal() or int(count) > _MOST:
        raise ListenError(f"LISTEN_FDS says {count!r}, which is no number of sockets; see sd_listen_fds(3)")
    return int(count)


def _sorted_out(sockets: list[socket.socket], config: Config) -> Passed:
    tcp: socket.socket | None = None
    unix: socket.socket | None = None
    for one in sockets:
        if not _listens(one):
            raise ListenError("the service manager passed a descriptor that isn't a listening stream socket")
        if one.family == socket.AF_UNIX:
            _check_unix(one, config, already=unix is not None)
            unix = one
        else:
            _check_tcp(one, config.server.bind_addr, already=tcp is not None)
            tcp = one
        one.setblocking(False)
    return Passed(tcp, unix)


def _listens(one: socket.socket) -> bool:
    families = {socket.AF_UNIX, socket.AF_INET, socket.AF_INET6}
    if one.family not in families or one.type != socket.SOCK_STREAM:
        return False
    return one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1


def _check_unix(one: socket.socket, config: Config, *, already: bool) -> None:
    # An abstract address comes as bytes.
    address = one.getsockname()
    path = address if isinstance(address, str) else address.decode(errors="replace")
    if already or not config.server.allow_unix_socket or path != str(config.server.unix_socket_path):
        allowed = (
            f"one at {config.server.unix_socket_path} is"
            if config.server.allow_unix_socket
            else "none is (server.allow_unix_socket is false)"
        )
        raise ListenError(
            f"the service manager passed a Unix socket at {path!r}, but {allowed} configured: change [server] in "
            "config.toml, or ListenStream= with `systemctl edit jarvis-secretsd.socket`, or disable that unit"
        )


def _check_tcp(one: socket.socket, configured: Address, *, already: bool) -> None:
    host, port = one.getsockname()[:2]
    passed = Address(host, port)
    if already or passed.host != configured.host or configured.port not in {0, passed.port}:
        raise ListenError(
            f"the service manager passed a socket on {passed}, but server.bind_addr is {configured}: make "
            "ListenStream= the same with `systemctl edit jarvis-secretsd-http.socket`, or disable that unit"
        )

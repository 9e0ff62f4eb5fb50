"""Which user is at the other end of a connection within this machine; asked when a connection is accepted.

For TCP the kernel is asked about exactly the peer's socket, by its four addresses: through NETLINK_SOCK_DIAG,
where that isn't allowed through /proc/net/tcp. Only a socket in state ESTABLISHED that a process still holds
(it has an inode) has an owner; whatever else is found, or nothing, is no proof.
"""

from __future__ import annotations

import atexit
import socket
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

from secretsd.auth import procnet
from secretsd.auth.endpoint import endpoint
from secretsd.auth.sockdiag import SockDiag, SockDiagUnavailable

_CREDENTIALS: Final = struct.Struct("=iII")  # struct ucred: pid, uid, gid
_NO_UID: Final = 2**32 - 1
_OVERFLOW_UID: Final = Path("/proc/sys/kernel/overflowuid")


class TcpPeers:
    """Looks the owners of connections up; netlink is tried until it can't be opened for the first time."""

    def __init__(self, open_diag: Callable[[], SockDiag] = SockDiag.open) -> None:
        self._open_diag = open_diag
        self._diag: SockDiag | None = None
        self._refused = False

    def uid(self, local: tuple[Any, ...] | str, remote: tuple[Any, ...] | str) -> int | None:
        """Return the uid that owns the other end of an accepted connection, None where nothing proves one.

        `local` and `remote` are the accepted socket's `getsockname()` and `getpeername()`.
        """
        own, peer = endpoint(local), endpoint(remote)
        if own is None or peer is None:
            return None
        diag = self._netlink()
        if diag is not None:
            try:
                return known_user(diag.owner(peer, own))
            except SockDiagUnavailable:
                self.close()  # the next call opens another
        return known_user(procnet.owner(peer, own))

    def _netlink(self) -> SockDiag | None:
        if self._diag is None and not self._refused:
            try:
                self._diag = self._open_diag()
            except SockDiagUnavailable:
                self._refused = True
        return self._diag

    def close(self) -> None:
        """Give the netlink socket up."""
        if self._diag is not None:
            self._diag.close()
            self._diag = None


_peers: Final = TcpPeers()
atexit.register(_peers.close)  # it lives as long as the process, whose daemon comes and goes in tests


def uid_of_tcp_peer(local: tuple[Any, ...] | str, remote: tuple[Any, ...] | str) -> int | None:
    """Return the uid that owns the other end of an accepted loopback connection, None without a proof.

    `local` and `remote` are the accepted socket's `getsockname()` and `getpeername()`; takes microseconds.
    """
    return _peers.uid(local, remote)


def uid_of_unix_peer(connection: socket.socket) -> int | None:
    """Return the uid that connected to our Unix socket (SO_PEERCRED), None where none is told."""
    try:
        content = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    except OSError:
        return None
    _pid, uid, _gid = _CREDENTIALS.unpack(content)
    return known_user(uid)


def known_user(uid: int | None) -> int | None:
    """Return `uid` where it is one user's, else None.

    The number for "none" is nobody's, and so is the one that a user namespace shows for all whom it doesn't
    know.
    """
    return None if uid in (None, _NO_UID, _overflow_uid()) else uid


@cache
def _overflow_uid() -> int:
    try:
        return int(_OVERFLOW_UID.read_text("ascii"))
    except (OSError, ValueError):
        return 65_534

"""The kernel's own answer to whose a TCP socket is: NETLINK_SOCK_DIAG, one exact look-up (sock_diag(7))."""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from typing import Final, NamedTuple, Self

from secretsd.auth.endpoint import Endpoint, endpoint, unmapped

ESTABLISHED: Final = 1

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST: Final = 1
_NLMSG_ERROR: Final = 2
_NO_COOKIE: Final = 0xFFFFFFFF

_HEADER: Final = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port id
_ID: Final = struct.Struct("!HH16s16s")  # inet_diag_sockid up to the addresses, in network order
_REQUEST: Final = struct.Struct("=BBBxI")  # inet_diag_req_v2: family, protocol, extensions, states
_REST: Final = struct.Struct("=III")  # the rest of inet_diag_sockid: interface, cookie
_ANSWER: Final = struct.Struct("=BBBB")  # inet_diag_msg: family, state, timer, retransmissions
_OWNER: Final = struct.Struct("=IIIII")  # the end of it: expires, both queues, uid, inode
_ALL_STATES: Final = 0xFFFFFFFF


class SockDiagUnavailable(Exception):
    """The kernel, a sandbox or a security module doesn't let us ask."""


class _Answer(NamedTuple):
    state: int
    here: Endpoint
    there: Endpoint
    uid: int
    inode: int


class SockDiag:
    """One netlink socket, used by one thread at a time; a look-up takes some microseconds and never waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sequence = 0
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG)
        except OSError as error:
            raise SockDiagUnavailable(str(error)) from None
        self._socket.setblocking(False)

    @classmethod
    def open(cls) -> Self:
        """Return one that has found a connection of our own: "no such socket" and "can't tell" look the same.

        Raises SockDiagUnavailable.
        """
        diag = cls()
        try:
            with (
                socket.create_server(("127.0.0.1", 0)) as server,
                socket.create_connection(server.getsockname(), timeout=1) as client,
            ):
                here, there = endpoint(client.getsockname()), endpoint(client.getpeername())
                if here is not None and there is not None and diag.owner(here, there) == os.geteuid():
                    return diag
        except OSError as error:
            diag.close()
            raise SockDiagUnavailable(str(error)) from None
        except SockDiagUnavailable:
            diag.close()
            raise
        diag.close()
        raise SockDiagUnavailable("the kernel doesn't find a connection of our own")

    def owner(self, here: Endpoint, there: Endpoint) -> int | None:
        """Return the uid that owns the established socket from `here` to `there`, None where there is none.

        Raises SockDiagUnavailable where the kernel can't be asked (any more).
        """
        with self._lock:
            answer = self._ask(here, there)
        if answer is None or (answer.here, answer.there) != (here, there):
            return None
        return answer.uid if answer.state == ESTABLISHED and answer.inode != 0 else None

    def _ask(self, here: Endpoint, there: Endpoint) -> _Answer | None:
        self._sequence = self._sequence % 0xFFFF_FFFF + 1
        family = socket.AF_INET if len(here.packed) == 4 else socket.AF_INET6
        body = (
            _REQUEST.pack(family, socket.IPPROTO_TCP, 0, _ALL_STATES)
            + _ID.pack(here.port, there.port, here.packed, there.packed)
            + _REST.pack(0, _NO_COOKIE, _NO_COOKIE)
        )
        header = _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, self._sequence, 0)
        try:
            self._socket.sendto(header + body, (0, 0))
            while True:  # an answer to an earlier request that failed half-way is skipped
                data, (sender, _groups) = self._socket.recvfrom(4096)
                length, kind, _flags, sequence, _port = _HEADER.unpack_from(data)
                if sequence == self._sequence and sender == 0:
                    return _read_answer(kind, data[_HEADER.size : length])
        except (OSError, struct.error) as error:
            raise SockDiagUnavailable(str(error)) from None

    def close(self) -> None:
        """Give the socket up."""
        self._socket.close()


def _read_answer(kind: int, body: bytes) -> _Answer | None:
    if kind == _NLMSG_ERROR:
        code: int = -struct.unpack_from("=i", body)[0]
        if code == errno.ENOENT:
            return None
        raise OSError(code, os.strerror(code))
    if kind != _SOCK_DIAG_BY_FAMILY:
        raise OSError(errno.EPROTO, "an answer that nobody asked for")
    family, state, _timer, _retransmissions = _ANSWER.unpack_from(body)
    size = 4 if family == socket.AF_INET else 16
    here_port, there_port, here, there = _ID.unpack_from(body, _ANSWER.size)
    *_, uid, inode = _OWNER.unpack_from(body, _ANSWER.size + _ID.size + _REST.size)
    return _Answer(
        state,
        Endpoint(unmapped(here[:size]), here_port),
        Endpoint(unmapped(there[:size]), there_port),
        uid,
        inode,
    )

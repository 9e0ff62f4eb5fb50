"""One end of a TCP connection within this machine."""

from __future__ import annotations

import socket
from typing import Any, NamedTuple

_MAPPED = bytes(10) + b"\xff\xff"
_LOOPBACK_6 = bytes(15) + b"\x01"


class Endpoint(NamedTuple):
    """A loopback address as 4 or 16 bytes in network order, and a port."""

    packed: bytes
    port: int


def unmapped(packed: bytes) -> bytes:
    """Return the IPv4 address that an IPv6 one stands for (::ffff:127.0.0.1), others as they are."""
    return packed[12:] if len(packed) == 16 and packed.startswith(_MAPPED) else packed


def mapped(packed: bytes) -> bytes:
    """Return an IPv4 address as the IPv6 one that stands for it, IPv6 ones as they are."""
    return _MAPPED + packed if len(packed) == 4 else packed


def endpoint(address: tuple[Any, ...] | str) -> Endpoint | None:
    """Return what `getsockname` or `getpeername` gave, None for anything but a loopback address."""
    if not isinstance(address, tuple) or len(address) < 2:
        return None
    host, port = address[0], address[1]
    try:
        packed = socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    except OSError:
        return None
    packed = unmapped(packed)
    if packed[0] != 127 if len(packed) == 4 else packed != _LOOPBACK_6:
        return None
    return Endpoint(packed, port)

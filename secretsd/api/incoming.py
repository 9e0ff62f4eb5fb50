"""A request as the guards and handlers see it: the raw one, with what was worked out about it once."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from aiohttp.web import BaseRequest

from secretsd.api.routing import Found
from secretsd.auth import Claims, ClientCertificate

CLIENT_HEADER: Final = "X-Jarvis-Client"
INSTANCE_HEADER: Final = "X-Jarvis-Instance"
_BEARER: Final = "bearer "


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of a connection, looked up when it was accepted."""

    address: str
    """`unix`, or an IP address without port and zone; mapped IPv4 addresses are written as IPv4."""
    uid: int | None
    unix: bool
    loopback: bool
    certificate: ClientCertificate | None = None
    own_socket: Path | None = None
    """The socket of one client that it came through; None: one for everybody."""


NOBODY: Final = Peer(address="unknown", uid=None, unix=False, loopback=False)


@lru_cache(maxsize=1024)
def plain_address(text: str) -> tuple[str, bool]:
    """Return an IP address as the audit writes it, and whether it is a loopback one."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return "unknown", False
    mapped = getattr(address, "ipv4_mapped", None)
    address = address if mapped is None else mapped
    return str(address), address.is_loopback


class Incoming:
    """One request."""

    __slots__ = ("found", "header_names", "headers", "method", "peer", "query", "raw", "request_id")

    def __init__(self, raw: BaseRequest, found: Found, query: str, peer: Peer, request_id: str) -> None:
        self.raw = raw
        self.headers = raw.headers
        self.method = raw.method
        # As they came: iterating over the parsed ones would hide that one is there twice.
        self.header_names = [name.lower() for name, _ in raw.raw_headers]
        self.found = found

        self.query = query
        self.peer = peer
        self.request_id = request_id

    @property
    def name(self) -> str:
        """Return the `{name}` of the path, percent-decoded, else as it came; '' where the route has none."""
        return self.found.name

    def claims(self) -> Claims:
        """Return what the request says of its sender and what the connection proves."""
        credentials = self.headers.get("Authorization")
        if credentials is not None:
            is_bearer = credentials[: len(_BEARER)].lower() == _BEARER
            credentials = credentials[len(_BEARER) :].strip(" ") if is_bearer else ""
        return Claims(
            client=self.headers.get(CLIENT_HEADER),
            bearer=credentials,
            peer_uid=self.peer.uid,
            peer=self.peer.address,
            request_id=self.request_id,
            certificate=self.peer.certificate,
            own_socket=self.peer.own_socket,
            instance=self.headers.get(INSTANCE_HEADER),
        )

"""Where another end is: on this machine, or over a network that others may listen on."""

from __future__ import annotations

import ipaddress


def stays_here(host: str) -> bool:
    """Tell whether what is sent to `host`, a name, an address or a socket's path, doesn't leave the machine."""
    if host.startswith("/") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

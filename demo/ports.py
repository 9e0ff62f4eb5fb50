"""Free ports on loopback."""

import socket
from collections.abc import Callable

from demo.errors import TryoutError

HOST = "127.0.0.1"
NEIGHBOURS = 20


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of loopback now."""
    with socket.socket() as probe:
        # As servers do: a port whose old connections still wait out their time is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def choose(preferred: int, *, free: Callable[[int], bool] = is_free) -> int:
    """Return the preferred port, or the next free one above it.

    Raises TryoutError when that one and its twenty neighbours are taken.
    """
    for port in range(preferred, preferred + NEIGHBOURS + 1):
        if free(port):
            return port
    raise TryoutError(
        f"ports {preferred} to {preferred + NEIGHBOURS} are all taken; see who has them with: ss -ltnp, "
        "end one, run again"
    )

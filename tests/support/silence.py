"""A listener that takes connections and whatever is sent, and never answers."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silence() -> Iterator[int]:
    """Listen on a port and give its number: the kernel accepts, and nobody reads."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        port: int = listener.getsockname()[1]
        yield port

"""Waiting for what must happen, with a deadline instead of a sleep."""

from __future__ import annotations

import errno
import random
import socket
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_SECS = 0.02
PORTS = 10_000, 32_000
"""Below what Linux gives to outgoing connections (`ip_local_port_range` begins at 32768)."""
PATIENCE_SECS = 40.0
"""Long enough for a loaded machine of two cores; a test that passes never waits this long."""


def eventually(probe: Callable[[], T], what: str, *, within: float = PATIENCE_SECS) -> T:
    """Return the first truthy answer of `probe`; fail with `what` and the last answer after `within` seconds.

    An AssertionError or OSError of the probe counts as "not yet"; the last one is named in the failure.
    """
    deadline = time.monotonic() + within
    while True:
        last: object
        try:
            answer = probe()
        except (AssertionError, OSError) as error:
            last = error
        else:
            if answer:
                return answer
            last = answer
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {within:g} s: {what}; last seen: {last!r}")
        time.sleep(POLL_SECS)


def always(probe: Callable[[], object], what: str, *, during: float) -> None:
    """Fail with `what` as soon as `probe` is not truthy within the next `during` seconds."""
    deadline = time.monotonic() + during
    while time.monotonic() < deadline:
        assert probe(), what
        time.sleep(POLL_SECS)


def free_port(host: str = "127.0.0.1") -> int:
    """Return a TCP port that nobody listens on now, and that no outgoing connection is given meanwhile.

    What the kernel gives for port 0 it gives to any connection too, also while a test's daemon is down.
    Raises OSError where this machine has no such address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        port = random.randrange(*PORTS)
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                continue
            return port

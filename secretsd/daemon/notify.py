"""What systemd is told, sd_notify(3): one datagram, nothing when systemd didn't start us."""

from __future__ import annotations

import contextlib
import os
import socket
import time


def notify(*assignments: str) -> None:
    """Send the assignments (`READY=1`, `STATUS=…`) to the service manager; a manager that is gone is no error."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender,
    ):
        sender.connect(address)
        sender.sendall("\n".join(assignments).encode())


def reloading() -> None:
    """Say that a reload has begun; `ready` ends it."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def ready(status: str) -> None:
    """Say that requests are served."""
    notify("READY=1", f"STATUS={status}")


def watchdog_seconds() -> float | None:
    """Return how often the watchdog wants to hear from us: half its limit; None when there is none."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    if not microseconds.isdigit() or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(microseconds) / 2_000_000

"""Mosquitto's own configuration: one listener, passwords and ACL, limits that lose nothing (docs/broker.md)."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ONCE: Final = ("persistence_location", "persistence_file", "log_timestamp_format")
"""What Mosquitto refuses to be told twice: left to a main configuration that says it already."""


@dataclass(frozen=True, slots=True)
class Listener:
    """Where Mosquitto listens. `address` None is all of the machine's; `cert` and `key` make it speak TLS."""

    port: int
    address: str | None
    cert: Path | None = None
    key: Path | None = None


def block(listener: Listener, passwords: Path, acl: Path, told: Collection[str] = ()) -> str:
    """Return the lines of the configuration file; directives in `told` are left to who says them already."""
    where = f"listener {listener.port}" + ("" if listener.address is None else f" {listener.address}")
    tls = [] if listener.cert is None else [f"certfile {listener.cert}", f"keyfile {listener.key}"]
    text = _TEXT.format(listener="\n".join([where, *tls]), passwords=passwords, acl=acl)
    for directive in told:
        text = re.sub(rf"(?m)^{directive} .*\n", "", text)
    return text


def directives(text: str) -> list[tuple[str, str]]:
    """Return what a configuration file says: each directive with its value."""
    lines = (line.strip() for line in text.splitlines())
    said = (line.partition(" ") for line in lines if line and not line.startswith("#"))
    return [(name, value.strip()) for name, _, value in said]


_TEXT: Final = """\
# What each line protects is explained in docs/broker.md.
{listener}

# Who may connect, and who may read and write what.
per_listener_settings false
allow_anonymous false
password_file {passwords}
acl_file {acl}

# Retained states and queued events survive a kill -9: with autosave_on_changes the interval counts changes, so the
# database is written after each. With the default (every 1,800 seconds) everything since the last save would be lost.
persistence true
persistence_location /var/lib/mosquitto/
persistence_file mosquitto.db
autosave_on_changes true
autosave_interval 1

# The default queue of 1,000 messages drops the rest silently, also when retained states are replayed to a new
# subscriber. 0 would mean "unlimited" and is buggy in 2.0.16, so: a large number.
max_queued_messages 1000000
max_queued_bytes 0

# How many publishes may wait for their acknowledgement at once (the receive maximum of MQTT 5).
max_inflight_messages 64

# Our largest event is a few KiB. The key set and Home Assistant's discovery are below 64 KiB too.
max_packet_size 1048576

# Subscribers that ask for a session and never come back are forgotten.
persistent_client_expiration 7d

log_type error
log_type warning
log_type notice
log_type subscribe
log_timestamp_format %Y-%m-%dT%H:%M:%S
connection_messages true
"""

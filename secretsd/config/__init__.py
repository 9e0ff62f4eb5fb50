"""config.toml: read once, checked whole, handed on as frozen typed values (docs/configuration.md)."""

from secretsd.config.load import load
from secretsd.config.values import (
    MOST_SOCKET_PATH_BYTES,
    Address,
    Bus,
    BusAudit,
    Config,
    Crypto,
    HomeAssistant,
    Level,
    Logging,
    Paths,
    Security,
    Server,
)

__all__ = [
    "MOST_SOCKET_PATH_BYTES",
    "Address",
    "Bus",
    "BusAudit",
    "Config",
    "Crypto",
    "HomeAssistant",
    "Level",
    "Logging",
    "Paths",
    "Security",
    "Server",
    "load",
]

"""Where the broker is and with what to connect."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from secretsd_bus._files import read_at_once
from secretsd_bus.topics import Topics

DEFAULT_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True, slots=True)
class BusSettings:
    """A broker's address and our credentials there; files, never the secrets themselves.

    Raises ValueError, which names the member and never shows what a URL says before its `@`.
    """

    url: str
    topic_prefix: str = "jarvis/secretsd"
    username: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    def __post_init__(self) -> None:
        _check_url(self.url)
        Topics(self.topic_prefix)
        if self.password_file is not None and self.username is None:
            raise ValueError("password_file needs a username beside it")
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file come together")
        if not self.tls and (self.ca_file or self.cert_file):
            raise ValueError("ca_file, cert_file and key_file are for TLS: write the url as mqtts://…")

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted (`mqtts://`)."""
        return urlsplit(self.url).scheme == "mqtts"

    @property
    def host(self) -> str:
        """The broker's name or address, without brackets."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """The broker's port: 1883, or 8883 with TLS, unless the URL names another."""
        parts = urlsplit(self.url)
        return DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port

    def read_password(self) -> str | None:
        """Return what `password_file` holds, less a newline at its end; None without one. Raises OSError."""
        if self.password_file is None:
            return None
        return read_at_once(self.password_file).decode().removesuffix("\n").removesuffix("\r")


def _check_url(url: str) -> None:
    form = "write the broker's url as mqtt://HOST:PORT, or mqtts://HOST:PORT for TLS"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(form) from None
    if "@" in parts.netloc:
        raise ValueError("the broker's url holds no credentials: use username and password_file")
    if parts.scheme not in DEFAULT_PORTS or not _is_host_only(parts) or port == 0:
        raise ValueError(form)


def _is_host_only(parts: SplitResult) -> bool:
    return bool(parts.hostname) and parts.path in {"", "/"} and not parts.query and not parts.fragment

"""What config.toml says, parsed: paths, addresses and milliseconds instead of text.

Each section of the file is a struct here and each key a field of the same name, save the durations:
`security.rotation_days` or `rotation_period` is `rotation_ms`, `bus.replay_max` is `replay_max_ms`;
None stands for "never".
"""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct
from secretsd_bus import BusSettings

MOST_SOCKET_PATH_BYTES: Final = 107
"""The kernel takes no longer path for a Unix socket (unix(7))."""

Level = Literal["trace", "debug", "info", "warn", "error", "off"]
BusAudit = Literal["all", "changes", "none"]


class Address(Struct, frozen=True):
    """Where to listen: an IP address and a port; port 0 lets the system choose."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Tell whether only this machine can reach the address."""
        return ip_address(self.host).is_loopback

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Server(Struct, frozen=True, kw_only=True):
    """`[server]`: where requests come in."""

    bind_addr: Address
    allow_unix_socket: bool
    unix_socket_path: Path
    allowed_hosts: tuple[str, ...]
    tls_cert: Path | None
    tls_key: Path | None
    tls_client_ca: Path | None
    tls_client_certs: Path | None
    tls_client_required: bool

    @property
    def tls(self) -> bool:
        """Tell whether the TCP listener speaks TLS."""
        return self.tls_cert is not None

    @property
    def asks_for_certificates(self) -> bool:
        """Tell whether a client may prove itself by certificate."""
        return self.tls_client_ca is not None or self.tls_client_certs is not None


class Paths(Struct, frozen=True, kw_only=True):
    """`[paths]`: the state. `audit.sign.key` and `audit.sign.pub` lie beside `audit_path`."""

    vault_path: Path
    master_key_path: Path
    audit_path: Path


class Security(Struct, frozen=True, kw_only=True):
    """`[security]`: the periods where no rule and no request gives one, and who is let in."""

    rotation_ms: int | None
    grace_ms: int | None
    require_client_id_header: bool
    deny_network_remote: bool
    rbac_policy_path: Path
    require_client_auth: bool


class Crypto(Struct, frozen=True, kw_only=True):
    """`[crypto]`: names what is used; nothing else can be chosen."""

    aead: Literal["aes-gcm-256"]
    jwt_sign_algo: Literal["ed25519"]
    kdf: Literal["argon2id"]


class Logging(Struct, frozen=True, kw_only=True):
    """`[logging]`: `level` is RUST_LOG's where that says one."""

    level: Level
    json: bool


class Bus(Struct, frozen=True, kw_only=True):
    """`[bus]`: the broker, and how much is said there."""

    enabled: bool
    url: str
    topic_prefix: str
    node: str
    username: str | None
    password_file: Path | None
    password_secret: str | None
    ca_file: Path | None
    cert_file: Path | None
    key_file: Path | None
    audit: BusAudit
    checkpoint_secs: int
    spread_ms: int
    replay_max_ms: int | None

    def settings(self) -> BusSettings:
        """Return what a connection to the broker needs."""
        return BusSettings(
            url=self.url,
            topic_prefix=self.topic_prefix,
            username=self.username,
            password_file=self.password_file,
            ca_file=self.ca_file,
            cert_file=self.cert_file,
            key_file=self.key_file,
        )


class HomeAssistant(Struct, frozen=True, kw_only=True):
    """`[homeassistant]`: whether entities are announced, where, and of which secrets."""

    discovery: bool
    discovery_prefix: str
    secrets: tuple[str, ...]
    secrets_most: int


class Config(Struct, frozen=True, kw_only=True):
    """The whole of config.toml; `warnings` are to be logged, `source` is the file, absolute.

    `policy_credential` is the policy where it was handed over; `security.rbac_policy_path` is what messages call it.
    """

    server: Server
    paths: Paths
    security: Security
    crypto: Crypto
    logging: Logging
    bus: Bus
    homeassistant: HomeAssistant
    source: Path
    warnings: tuple[str, ...] = ()
    policy_credential: Path | None = None

    @property
    def policy_file(self) -> Path:
        """Return the file that the policy is read from."""
        return self.policy_credential or self.security.rbac_policy_path

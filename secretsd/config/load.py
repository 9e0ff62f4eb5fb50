"""Reads config.toml. Keys, defaults and limits stand here and in docs/configuration.md."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import tomli
from secretsd_bus import Topics

from secretsd import credentials, files
from secretsd.config import parsers as p
from secretsd.config import rust_log
from secretsd.config.reader import Document, Section
from secretsd.config.values import (
    Bus,
    Config,
    Crypto,
    HomeAssistant,
    Logging,
    Paths,
    Security,
    Server,
)
from secretsd.errors import ConfigError

MAX_BYTES: Final = 1024 * 1024


def load(path: Path, environ: Mapping[str, str] = os.environ, *, hostname: str | None = None) -> Config:
    """Return what the file at `path` says, defaults filled in; an empty file is valid.

    `environ` gives RUST_LOG and the folder of credentials, which are read instead of the files that they stand for;
    `hostname` is the default of `bus.node` (by default the machine's). Raises ConfigError, which names all mistakes
    found at once: the line where the syntax is broken, else the key's path, what was found and what is allowed.
    """
    source = path.absolute()
    document = Document(_tables(source, credentials.find(credentials.CONFIG, environ)))
    folder = source.parent
    server = _server(document, folder, environ)
    paths = _paths(document.section("paths"), folder)
    security = _security(document.section("security"), folder)
    _check_exposure(document, server, security)
    crypto = _crypto(document.section("crypto"))
    logging, warnings = _logging(document.section("logging"), environ)
    node = socket.gethostname() if hostname is None else hostname
    bus = _bus(document.section("bus"), folder, environ, node)
    homeassistant = _homeassistant(document.section("homeassistant"))
    complaints = document.complaints()
    if complaints:
        raise ConfigError("\n  ".join([f"{source} can't be used; correct it and start again:", *complaints]))
    return Config(
        server=server,
        paths=paths,
        security=security,
        crypto=crypto,
        logging=logging,
        bus=bus,
        homeassistant=homeassistant,
        source=source,
        warnings=warnings,
        policy_credential=credentials.find(credentials.POLICY, environ),
    )


def _tables(source: Path, handed_over: Path | None) -> dict[str, object]:
    """Return what the file says; `source` is what messages call it, also where its content was handed over."""
    try:
        with (handed_over or source).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(
            f"{source} doesn't exist; name one with --config, or let `secretsctl init` write it"
        ) from None
    except OSError as error:
        where = f", handed over as {handed_over}," if handed_over else ""
        raise ConfigError(f"{source}{where} can't be read: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{source} is over 1 MiB; that is no configuration")
    try:
        return tomli.loads(content.decode())
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{source}, line {line}: not UTF-8; save the file as UTF-8 text") from None
    except tomli.TOMLDecodeError as error:
        raise ConfigError(f"{source}, line {error.lineno}, column {error.colno}: not TOML: {error.msg}") from None
    except RecursionError:
        raise ConfigError(f"{source}: nested too deep; sections hold plain values only") from None


def _optional_file(section: Section, key: str, folder: Path, environ: Mapping[str, str]) -> Path | None:
    """Return the file that `key` names, None for none; a credential of the key's name comes first."""
    named = section.take(key, p.optional_path_from(folder), "")
    return credentials.find(credentials.of_key(section.name, key), environ) or named


def _server(document: Document, folder: Path, environ: Mapping[str, str]) -> Server:
    section = document.section("server")
    server = Server(
        bind_addr=section.take("bind_addr", p.address, "127.0.0.1:8081"),
        allow_unix_socket=section.take("allow_unix_socket", p.boolean, False),
        unix_socket_path=section.take(
            "unix_socket_path", p.socket_path_from(folder), "/run/jarvis-secretsd/secretsd.sock"
        ),
        allowed_hosts=section.take("allowed_hosts", p.host_names, ()),
        tls_cert=_optional_file(section, "tls_cert", folder, environ),
        tls_key=_optional_file(section, "tls_key", folder, environ),
        tls_client_ca=_optional_file(section, "tls_client_ca", folder, environ),
        tls_client_certs=_optional_file(section, "tls_client_certs", folder, environ),
        tls_client_required=section.take("tls_client_required", p.boolean, True),
    )
    if (server.tls_cert is None) is not (server.tls_key is None):
        missing = "tls_cert" if server.tls_cert is None else "tls_key"
        section.note(missing, "tls_cert and tls_key go together; give both or neither")
    if server.asks_for_certificates and server.tls_cert is None:
        given = "tls_client_certs" if server.tls_client_ca is None else "tls_client_ca"
        section.note(given, "needs tls_cert and tls_key: there are no client certificates without TLS")
    return server


def _paths(section: Section, folder: Path) -> Paths:
    path = p.path_from(folder)
    paths = Paths(
        vault_path=section.take("vault_path", path, "/opt/jarvis/secrets/vault.json"),
        master_key_path=section.take("master_key_path", path, "/opt/jarvis/secrets/master.key"),
        audit_path=section.take("audit_path", path, "/opt/jarvis/audit/audit.jsonl"),
    )
    named: dict[Path, str] = {}
    for key in ("vault_path", "master_key_path", "audit_path"):
        first = named.setdefault(files.entry(getattr(paths, key)), key)
        if first != key:
            section.note(key, f"{first} names the same file; vault, master key and audit log are three different ones")
    return paths


def _security(section: Section, folder: Path) -> Security:
    return Security(
        rotation_ms=_period(section, "rotation", default_days=90, least_days=1, least_ms=1000),
        grace_ms=_period(section, "grace", default_days=14, least_days=0, least_ms=0),
        require_client_id_header=section.take("require_client_id_header", p.boolean, True),
        deny_network_remote=section.take("deny_network_remote", p.boolean, True),
        rbac_policy_path=section.take("rbac_policy_path", p.path_from(folder), "/etc/jarvis-secretsd/policy.yaml"),
        require_client_auth=section.take("require_client_auth", p.boolean, False),
    )


def _period(section: Section, what: str, *, default_days: int, least_days: int, least_ms: int) -> int | None:
    """Return `{what}_days` or `{what}_period`, whichever is given, in milliseconds; None for "never"."""
    in_days = section.take(f"{what}_days", p.days(least_days), default_days)
    period = section.take(f"{what}_period", p.duration(least_ms), f"{default_days}d")
    if section.has(f"{what}_days") and section.has(f"{what}_period"):
        section.note(f"{what}_period", f"{what}_days says the same; keep one of the two")
    return period if section.has(f"{what}_period") else in_days


def _check_exposure(document: Document, server: Server, security: Security) -> None:
    """Refuse to listen to the network by accident; the clients' proofs are checked with the policy."""
    if server.bind_addr.is_loopback:
        return
    where = f"{server.bind_addr} can be reached from other machines"
    if not server.tls:
        document.note("server.bind_addr", f"{where}; set tls_cert and tls_key, or bind to 127.0.0.1")
    if security.deny_network_remote:
        document.note(
            "security.deny_network_remote",
            f"server.bind_addr {where}; set this to false if that is meant, or bind to 127.0.0.1",
        )


def _crypto(section: Section) -> Crypto:
    return Crypto(
        aead=section.take("aead", p.choice("aes-gcm-256"), "aes-gcm-256"),
        jwt_sign_algo=section.take("jwt_sign_algo", p.choice("ed25519"), "ed25519"),
        kdf=section.take("kdf", p.choice("argon2id"), "argon2id"),
    )


def _logging(section: Section, environ: Mapping[str, str]) -> tuple[Logging, tuple[str, ...]]:
    word = section.take("level", p.choice(*rust_log.LEVELS), "info")
    override = rust_log.read(environ.get("RUST_LOG", ""))
    level = rust_log.LEVELS[word] if override.level is None else override.level
    return Logging(level=level, json=section.take("json", p.boolean, False)), override.warnings


def _bus(section: Section, folder: Path, environ: Mapping[str, str], hostname: str) -> Bus:
    bus = Bus(
        enabled=section.take("enabled", p.boolean, True),
        url=section.take("url", p.text, "mqtt://127.0.0.1:1883"),
        topic_prefix=section.take("topic_prefix", _topic_prefix, "jarvis/secretsd"),
        node=section.take("node", lambda value: p.name(_node_of(hostname) if value == "" else value), ""),
        username=section.take("username", p.optional_text, ""),
        password_file=_optional_file(section, "password_file", folder, environ),
        password_secret=section.take("password_secret", p.optional_name, ""),
        ca_file=_optional_file(section, "ca_file", folder, environ),
        cert_file=_optional_file(section, "cert_file", folder, environ),
        key_file=_optional_file(section, "key_file", folder, environ),
        audit=section.take("audit", p.choice("all", "changes", "none"), "all"),
        checkpoint_secs=section.take("checkpoint_secs", p.integer(1, 3600), 10),
        spread_ms=section.take("spread_ms", p.integer(0, 60_000), 200),
        replay_max_ms=section.take("replay_max", p.duration(0), "7d"),
    )
    try:
        bus.settings()
    except ValueError as error:
        # What is said names the keys at fault first, or else the url.
        key = str(error).partition(" ")[0].rstrip(",")
        section.note(key if key in section.taken else "url", str(error))
    if bus.password_secret is not None and bus.username is None:
        section.note("password_secret", "needs a username beside it")
    return bus


def _node_of(hostname: str) -> str:
    """Return `hostname` reduced to what a node's name may hold."""
    cleaned = re.sub(r"[^A-Za-z0-9._-]+", "-", hostname).lstrip("._-")[:128]
    return cleaned or "node"


def _topic_prefix(value: object) -> str:
    prefix = p.text(value)
    Topics(prefix)
    return prefix


def _homeassistant(section: Section) -> HomeAssistant:
    return HomeAssistant(
        discovery=section.take("discovery", p.boolean, True),
        discovery_prefix=section.take("discovery_prefix", _topic_prefix, "homeassistant"),
        secrets=section.take("secrets", p.patterns, ("*",)),
        secrets_most=section.take("secrets_most", p.integer(0, 100_000), 100),
    )

"""The files that `init` writes: a configuration and a policy that explain themselves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Setup:
    """What `init` was told."""

    config_dir: Path
    state_dir: Path
    bind: str
    bus_url: str | None
    """None: no bus."""
    unix_socket: bool = False

    @property
    def config(self) -> Path:
        """Where the configuration goes."""
        return self.config_dir / "config.toml"

    @property
    def policy(self) -> Path:
        """Where the policy goes."""
        return self.config_dir / "policy.yaml"


@dataclass(frozen=True)
class NewClient:
    """A client for the policy. `allow` are names and globs."""

    name: str
    allow: Sequence[str]
    can: Sequence[str]
    socket: Path | None = None
    """Its own Unix socket, which proves it instead of a token."""


def config_toml(setup: Setup) -> str:
    """Return a config.toml with every key that an installation may want to change, explained."""
    return f"""\
# jarvis-secretsd. What isn't here has the default that docs/configuration.md gives; a reload (SIGHUP) reads only
# the policy, what is changed here takes a restart.

[server]
# Where HTTP is served. Anything but loopback is refused without TLS.
bind_addr = {_quoted(setup.bind)}
# Serve on a Unix socket too: it proves who is asking by uid, without a token.
allow_unix_socket = {"true" if setup.unix_socket else "false"}
unix_socket_path = "/run/jarvis-secretsd/secretsd.sock"
# Names, besides loopback, that a Host header may carry.
allowed_hosts = []
# TLS: paths of PEM files; empty means off.
tls_cert = ""
tls_key = ""
# Clients may prove themselves by certificate: under these authorities, or each by itself (a file or a folder).
tls_client_ca = ""
tls_client_certs = ""
# true: where one of the two is set, nobody without such a certificate is heard over TCP.
tls_client_required = true

[paths]
# The encrypted secrets, the key that opens them, and the log of who did what. Back up the first two apart.
vault_path = {_quoted(setup.state_dir / "secrets" / "vault.json")}
master_key_path = {_quoted(setup.state_dir / "secrets" / "master.key")}
audit_path = {_quoted(setup.state_dir / "audit" / "audit.jsonl")}

[security]
# How long a version lasts, and how long it stays readable after its successor came; the policy can say otherwise.
rotation_days = 90
grace_days = 14
# true: a client names itself (X-Jarvis-Client) besides proving itself; false: the proof alone names it.
require_client_id_header = true
deny_network_remote = true
rbac_policy_path = {_quoted(setup.policy)}
# true: refuse to start while a client in the policy has no token, certificate or uid to prove itself with.
require_client_auth = true

[crypto]
# What is used; there is no other choice.
aead = "aes-gcm-256"
jwt_sign_algo = "ed25519"
kdf = "argon2id"

[logging]
# error, warn, info, debug, trace or off; RUST_LOG beats it.
level = "info"
# true: one JSON object a line.
json = false

[bus]
# The MQTT broker that hears of every change at once. mqtts:// for TLS.
enabled = {"true" if setup.bus_url is not None else "false"}
url = {_quoted(setup.bus_url or "mqtt://127.0.0.1:1883")}
# One vault per prefix.
topic_prefix = "jarvis/secretsd"
# This daemon's name in topics; empty: the host's.
node = ""
# Credentials for the broker; the password and the keys are in files, or the password is a secret of this vault.
username = ""
password_file = ""
password_secret = ""
ca_file = ""
cert_file = ""
key_file = ""
# Which audit events are published: all, changes (no reads) or none. The log on disk always has all.
audit = "all"
# How often the signed checkpoint is repeated, by which clients notice what they missed.
checkpoint_secs = 10
# Over how many milliseconds clients spread their fetches after a change.
spread_ms = 200
# Events older than this, owed after a long outage of the broker, are named in a gap instead of published.
replay_max = "7d"

[homeassistant]
# Announce entities to Home Assistant on the bus.
discovery = true
discovery_prefix = "homeassistant"
# Names or globs of the secrets that get an expiry and a status there; [] for none.
secrets = ["*"]
# Of more secrets than this only the first by name get them.
secrets_most = 100
"""


def policy_yaml(clients: Sequence[NewClient], tokens: dict[str, str]) -> str:
    """Return a policy.yaml for `clients`; of each token only the SHA-256 is in it. `tokens` are by client."""
    return f"""\
# Who may do what. What isn't allowed is denied. Reload after a change: systemctl reload jarvis-secretsd (SIGHUP).
default_deny: true

clients:
  # allow, deny: names or globs (* and ?); deny beats allow.
  # can: read, write, rotate, delete, audit; and admin, who operates the daemon (rotates its keys).
  # auth: any one of these proves the client. A token's hash: printf %s "$TOKEN" | sha256sum. Two tokens may overlap
  # while one replaces the other: - {{token_sha256: "...", not_after: "2027-01-01T00:00:00Z"}}. On the same machine
  # the user is proof enough, - {{uid: 1001}}, or a Unix socket of the client's own: - {{socket: "/run/..."}}. Over TLS
  # a certificate: - {{cert_sha256: "..."}} or - {{cert_subject: "CN=backend"}}.
{"".join(_client(one, tokens) for one in clients)}
# What secrets are, by name; the first match wins, and yours come before the built-in rules. `rotation: auto` only for
# what nobody else has to be told of: a database doesn't learn of a new password by itself.
secrets: {{}}
#  session_key: {{type: generic, rotation: auto, rotation_period: 30d, grace_period: 1d}}
"""


def _client(client: NewClient, tokens: dict[str, str]) -> str:
    if client.socket is None:
        proof = f'token_sha256: "{hashlib.sha256(tokens[client.name].encode()).hexdigest()}"'
    else:
        proof = f"socket: {_quoted(client.socket)}"
    allow = f"[{', '.join(_quoted(pattern) for pattern in client.allow)}]"
    hint = "" if client.allow else "   # name what it may read"
    looks = "    consumer: false   # it looks at values and uses none\n" if "admin" in client.can else ""
    return f"""\
  {client.name}:
    allow: {allow}{hint}
    deny: []
    can: [{", ".join(client.can)}]
{looks}    auth:
      - {{{proof}}}
"""


def _quoted(text: str | Path) -> str:
    """Return a string as both TOML and YAML take it: as JSON has it."""
    return json.dumps(str(text), ensure_ascii=False)

"""The folder of a try-out (`.run`): what is in it, and what is made when it isn't there yet."""

import fcntl
import hashlib
import json
import os
import secrets
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from secretsd_bus import BusSettings

from demo.errors import TryoutError

ADMIN = "admin"
SERVICE = "backend"
NODE = "tryout"

POLICY = """\
# The try-out's policy. After an edit: kill -HUP $(cat {pid_file})
default_deny: true

clients:
  admin:                       # you: . {env_file}
    allow: ["*"]
    can: [read, write, rotate, delete, audit]
    auth:
      - {{token_sha256: "{admin}"}}

  backend:                     # the live service
    allow: [jwt_signing_key, "postgres_*", greeting]
    can: [read]
    auth:
      - {{token_sha256: "{backend}"}}
"""

CONFIG = """\
# Written anew by each `make run`: ports and paths of this try-out.
[server]
bind_addr = {bind}

[paths]
vault_path = {vault}
master_key_path = {master_key}
audit_path = {audit}

[security]
rbac_policy_path = {policy}
require_client_auth = true

[bus]
url = {url}
topic_prefix = {prefix}
node = {node}
username = {username}
password_file = {password_file}
ca_file = {ca_file}
checkpoint_secs = 2
spread_ms = 0          # one client: nobody to spread it from

[homeassistant]
discovery = {discovery}      # on a broker of yours no device is left in your Home Assistant
"""


@dataclass(frozen=True)
class Place:
    """Where everything of one try-out lies."""

    root: Path

    @property
    def config(self) -> Path:
        """The daemon's config.toml."""
        return self.root / "config.toml"

    @property
    def policy(self) -> Path:
        """The daemon's policy.yaml; yours to edit."""
        return self.root / "policy.yaml"

    @property
    def vault(self) -> Path:
        """The vault's document."""
        return self.root / "vault" / "vault.json"

    @property
    def audit(self) -> Path:
        """The signed log."""
        return self.root / "audit" / "audit.jsonl"

    @property
    def public_key(self) -> Path:
        """What the log's and the bus's signatures are checked with."""
        return self.root / "audit" / "audit.sign.pub"

    @property
    def env(self) -> Path:
        """What a shell reads to speak with this daemon."""
        return self.root / "env"

    @property
    def pid(self) -> Path:
        """The daemon's process id."""
        return self.root / "secretsd.pid"

    def token(self, client: str) -> Path:
        """Name the file with a client's token."""
        return self.root / f"{client}.token"

    def headers(self, client: str) -> Path:
        """Name the file that `curl -H @FILE` takes: it keeps the token out of the list of processes."""
        return self.root / f"{client}.headers"

    def log(self, name: str) -> Path:
        """Where a process's words go."""
        return self.root / f"{name}.log"


@contextmanager
def held(root: Path) -> Iterator[Place]:
    """Hold the folder, made when missing; raises TryoutError while another try-out has it."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    place = Place(root.resolve())
    with (place.root / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise TryoutError(
                f"another try-out has {shown(place.root)} (see {shown(place.env)} for its address): "
                "end it with Ctrl-C, or start this one beside it with: make run RUN_DIR=.run/second"
            ) from None
        yield place


def furnish(place: Place) -> None:
    """Folders, tokens and the policy, each made only when missing: what you changed stays."""
    for folder in (place.vault.parent, place.audit.parent):
        folder.mkdir(mode=0o700, exist_ok=True)
    hashes = {client: hashlib.sha256(_token(place, client).encode()).hexdigest() for client in (ADMIN, SERVICE)}
    if not place.policy.exists():
        _write(place.policy, POLICY.format(**hashes, env_file=shown(place.env), pid_file=shown(place.pid)))
    text = place.policy.read_text()
    for client, token_hash in hashes.items():
        if token_hash not in text:
            raise TryoutError(
                f"{shown(place.policy)} doesn't know the token of {client} in {shown(place.token(client))}; "
                f"put {token_hash} there as its token_sha256, or remove the file to get a fresh one"
            )


def configure(place: Place, *, port: int, bus: BusSettings, discovery: bool) -> str:
    """Write the daemon's configuration and what a shell needs for it; the daemon's address.

    `discovery`: whether a Home Assistant at the broker is told of the daemon.
    """
    url = f"http://127.0.0.1:{port}"
    values = {
        "bind": f"127.0.0.1:{port}",
        "vault": place.vault,
        "master_key": place.vault.with_name("master.key"),
        "audit": place.audit,
        "policy": place.policy,
        "url": bus.url,
        "prefix": bus.topic_prefix,
        "node": NODE,
        "username": bus.username or "",
        "password_file": bus.password_file or "",
        "ca_file": bus.ca_file or "",
    }
    # A JSON string without \\u escapes is a TOML string.
    written = {k: json.dumps(str(v), ensure_ascii=False) for k, v in values.items()}
    _write(place.config, CONFIG.format(**written, discovery=json.dumps(discovery)))
    token = place.token(ADMIN).read_text().strip()
    _write(place.headers(ADMIN), f"X-Jarvis-Client: {ADMIN}\nAuthorization: Bearer {token}\n")
    exports = client_environment(place, ADMIN, url, bus)
    lines = [f"export {name}={shlex.quote(value)}" for name, value in exports.items()]
    scripts = shlex.quote(str(Path(".venv/bin").absolute()))
    _write(
        place.env,
        "\n".join(["# For a shell: . " + shown(place.env), *lines, f"export PATH={scripts}:$PATH", ""]),
    )
    return url


def client_environment(place: Place, client: str, url: str, bus: BusSettings) -> dict[str, str]:
    """Return the variables that secretsd_client and secretsctl take their connection from."""
    variables = {
        "JARVIS_SECRETS_URL": url,
        "JARVIS_CLIENT_ID": client,
        "JARVIS_CLIENT_TOKEN_FILE": str(place.token(client)),
        "JARVIS_SECRETS_PUBKEY": str(place.public_key),
        "JARVIS_MQTT_URL": bus.url,
    }
    if bus.username:
        variables["JARVIS_MQTT_USERNAME"] = bus.username
    if bus.password_file:
        variables["JARVIS_MQTT_PASSWORD_FILE"] = str(bus.password_file)
    if bus.ca_file:
        variables["JARVIS_MQTT_CA_FILE"] = str(bus.ca_file)
    return variables


def shown(path: Path) -> str:
    """Write the path as one would type it from here."""
    return shlex.quote(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))


def _token(place: Place, client: str) -> str:
    path = place.token(client)
    if not path.exists():
        _write(path, secrets.token_urlsafe(32) + "\n")
    return path.read_text().strip()


def _write(path: Path, text: str) -> None:
    """Replace a file that only we may read."""
    new = path.with_name(path.name + ".new")
    with open(new, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(text)
    new.replace(path)

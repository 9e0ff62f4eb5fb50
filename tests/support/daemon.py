"""The daemon as a process: its files in a folder of its own, the installed command, signals, its log."""

from __future__ import annotations

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from secretsd_bus import Event, KeyRing

from tests.support import log as audit_log
from tests.support import schemas
from tests.support.http import Api, tcp, tls, unix
from tests.support.tap import Tap
from tests.support.waiting import eventually, free_port

COMMANDS = Path(sys.executable).parent
NODE = "testnode"
START_SECS = 60.0

OPEN_POLICY: dict[str, Any] = {
    "default_deny": True,
    "clients": {
        "admin": {"allow": ["*"], "deny": []},
        "backend": {
            "allow": ["jwt_signing_key", "postgres_password", "shared_*"],
            "deny": ["shared_private"],
        },
    },
}
"""An operator and a service, both by the header alone."""


def toml(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Return tables of strings, integers, booleans and lists of strings as TOML (its literals are JSON's)."""
    return "\n".join(
        f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
        for name, table in tables.items()
    )


class Daemon:
    """One vault's folder and the process that serves it; the process can be ended and started again.

    `config` is merged over a configuration with free port, paths in the folder and no bus; `policy` replaces
    `OPEN_POLICY`. A context manager: leaving ends the process and removes the folder.
    """

    def __init__(
        self,
        *,
        config: Mapping[str, Mapping[str, Any]] | None = None,
        policy: Mapping[str, Any] | None = None,
        bus: str | None = None,
        prefix: str = "jarvis/secretsd",
        env: Mapping[str, str] | None = None,
        wrap: Sequence[str] = (),
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="sd-"))
        self.port = free_port()
        self.prefix = prefix
        self.bus = bus
        self.env = dict(env or {})
        self.wrap = list(wrap)
        self.process: subprocess.Popen[bytes] | None = None
        self.authority: Path | None = None
        self.config_path = self.directory / "config.toml"
        self.policy_path = self.directory / "policy.yaml"
        self.socket_path = self.directory / "s.sock"
        self.vault_path = self.directory / "secrets" / "vault.json"
        self.master_key_path = self.directory / "secrets" / "master.key"
        self.audit_path = self.directory / "audit" / "audit.jsonl"
        self.stdout_path = self.directory / "stdout"
        self.stderr_path = self.directory / "stderr"
        self.config: dict[str, dict[str, Any]] = {
            "server": {
                "bind_addr": f"127.0.0.1:{self.port}",
                "allow_unix_socket": True,
                "unix_socket_path": str(self.socket_path),
            },
            "paths": {
                "vault_path": str(self.vault_path),
                "master_key_path": str(self.master_key_path),
                "audit_path": str(self.audit_path),
            },
            "security": {"rbac_policy_path": str(self.policy_path)},
            "logging": {"level": "info", "json": True},
            "bus": {"enabled": bus is not None, "topic_prefix": prefix, "node": NODE, "checkpoint_secs": 1},
        }
        if bus is not None:
            self.config["bus"]["url"] = bus
        self.configure(config or {})
        self.write_policy(policy or OPEN_POLICY)

    # Files

    def configure(self, changes: Mapping[str, Mapping[str, Any]]) -> None:
        """Merge `changes` into config.toml; a value of None removes the key."""
        for name, table in changes.items():
            merged = self.config.setdefault(name, {}) | dict(table)
            self.config[name] = {key: value for key, value in merged.items() if value is not None}
        self.config_path.write_text(toml(self.config))
        self.config_path.chmod(0o600)

    def write_policy(self, policy: Mapping[str, Any] | str) -> None:
        """Write policy.yaml; a running daemon reads it on `reload`."""
        text = policy if isinstance(policy, str) else yaml.safe_dump(copy.deepcopy(dict(policy)), sort_keys=False)
        self.policy_path.write_text(text)
        self.policy_path.chmod(0o600)

    @property
    def public_key_path(self) -> Path:
        """The PEM of the event-signing key."""
        return self.audit_path.with_name("audit.sign.pub")

    def output(self) -> str:
        """Return what the daemon printed, both streams."""
        return "".join(
            path.read_text(errors="replace") for path in (self.stdout_path, self.stderr_path) if path.exists()
        )

    # The process

    def spawn(self) -> Self:
        """Start the process and return at once."""
        command = [*self.wrap, str(COMMANDS / "jarvis-secretsd"), "--config", str(self.config_path)]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.directory), "LANG": "C.UTF-8", **self.env}
        with self.stdout_path.open("ab") as out, self.stderr_path.open("ab") as err:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment, cwd=self.directory
            )
        return self

    def start(self) -> Self:
        """Start the process and wait until it serves."""
        self.spawn()
        eventually(self._serves, "the daemon serves /healthz", within=START_SECS)
        return self

    def wait_bus(self, state: str = "connected") -> Self:
        """Wait until /healthz says that the bus is in `state`."""
        eventually(lambda: self.api.health()["bus"] == state, f"the bus is {state}")
        return self

    def refuses(self, status: int) -> str:
        """Start the process, which must end by itself with `status`; return what it said."""
        for path in (self.stdout_path, self.stderr_path):
            path.unlink(missing_ok=True)
        self.spawn()
        ended = self.wait()
        said = self.output()
        assert ended == status, (ended, said)
        assert "Traceback" not in said, said
        return said

    def wait(self, within: float = START_SECS) -> int:
        """Return the status of the process, which must end by itself."""
        assert self.process is not None
        return self.process.wait(within)

    def signal(self, number: int) -> None:
        """Send a signal to the process."""
        assert self.process is not None
        self.process.send_signal(number)

    def sigkill(self) -> None:
        """End the process as a power cut would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        """End the process in order (SIGTERM) and return its status."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def restart(self) -> Self:
        """End the process in order and start it again."""
        self.terminate()
        return self.start()

    def reload(self) -> None:
        """Ask for a reload (SIGHUP); it happens soon."""
        self.signal(signal.SIGHUP)

    def follow_policy(self, policy: Any = None) -> None:
        """Ask for a reload, of `policy` where one is given, and wait until it is in force."""
        if policy is not None:
            self.write_policy(policy)
        said = "reload: policy in force"
        before = self.output().count(said)
        self.reload()
        eventually(lambda: self.output().count(said) > before, "the policy is in force")

    def wait_in_force(self, generation: int) -> None:
        """Wait until a commit is in force: its lines are in the file a moment before."""
        eventually(lambda: self.api.get("/bus").position[1] >= generation, f"generation {generation} is in force")

    def close(self) -> None:
        """End the process and remove its folder."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                schemas.lines_conform(self.audit_path)
            else:
                sys.stderr.write(f"--- the daemon's output ---\n{self.output()[-6000:]}\n")
        finally:
            self.close()

    def _serves(self) -> bool:
        assert self.process is not None
        status = self.process.poll()
        if status is not None:
            raise RuntimeError(f"the daemon ended with {status}:\n{self.output()[-6000:]}")
        return self.api.get("/healthz").status == 200

    # How to talk to it

    @property
    def api(self) -> Api:
        """Its HTTP on TCP, as `admin`; over TLS where `authority` is set."""
        return tcp(self.port) if self.authority is None else tls(self.port, self.authority)

    @property
    def unix_api(self) -> Api:
        """Its HTTP on the Unix socket, as `admin`."""
        return unix(self.socket_path)

    def keyring(self) -> KeyRing:
        """Return the event-signing key as a client trusts it: from the file."""
        return audit_log.keyring(self.public_key_path)

    def tap(self, url: str | None = None, **options: Any) -> Tap:
        """Return a listener on this daemon's part of the bus (the daemon's broker by default); enter it to start."""
        there = url or self.bus
        assert there is not None
        return Tap(there, self.prefix, self.keyring(), **options)

    def verified_log(self) -> list[Event]:
        """Return the events of the audit log after verifying all of it."""
        return audit_log.verify_log([self.audit_path], self.keyring())

    def lines(self) -> list[dict[str, Any]]:
        """Return the audit log's lines as plain JSON, unverified."""
        return [json.loads(line) for line in self.audit_path.read_bytes().rpartition(b"\n")[0].splitlines()]

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the audit lines of one type (after `jarvis.secretsd.`); see `wait_in_force`."""
        return [line for line in self.lines() if line["type"] == f"jarvis.secretsd.{kind}"]

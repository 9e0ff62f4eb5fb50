"""A stage for tests in another language: daemon, broker and a man in the middle, told what to do in lines of JSON.

    python -m tests.support.stage
    > {"do": "start", "broker": {"default_limits": true}}
    < {"ok": {"port": 24311, "proxy": "mqtt://127.0.0.1:39541", …}}

Each line names a method of `Stage` (`do`) and its arguments; the answer holds what it returns, or the error's text. The
end of the input ends everything.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from secretsd_bus import SigningKey, Topics, key_rotated

from tests.support.broker import Broker
from tests.support.certificates import Certified, certified
from tests.support.daemon import COMMANDS, OPEN_POLICY, Daemon
from tests.support.forging import changed_after_signing, resign, unsigned
from tests.support.http import Api, tls
from tests.support.mqtt_packets import SUBACK, Packet
from tests.support.mqtt_proxy import Meddling, MqttProxy, Publish, everything, on
from tests.support.relay import Relay
from tests.support.tls import make_server_certificate
from tests.support.waiting import eventually

CLIENT = "service"
POLICY: dict[str, Any] = {
    **OPEN_POLICY,
    "clients": {
        "admin": {"allow": ["*"], "can": ["read", "write", "rotate", "delete", "audit", "admin"]},
        CLIENT: {"allow": ["*"], "can": ["read"]},
    },
    "secrets": {
        "brief_*": {"type": "generic", "grace_period": "1s"},
        "long_*": {"type": "generic", "grace_period": "1h"},
        "none_*": {"type": "generic", "grace_period": "0s"},
    },
}


class Stage:
    """What is on it, and what can be done with it. Names of secrets stand for themselves in all methods."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="stage-"))
        self._undo = contextlib.ExitStack()
        self._undo.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self._held: dict[int, Meddling] = {}
        self._backed_up: list[Path] = []

    def close(self) -> None:
        """End everything."""
        self._undo.close()

    # Setting up

    def start(
        self,
        *,
        broker: dict[str, Any] | None = None,
        bus: dict[str, Any] | None = None,
        config: dict[str, dict[str, Any]] | None = None,
        policy: dict[str, Any] | None = None,
        with_bus: bool = True,
    ) -> dict[str, Any]:
        """Start all parts; return where they are. `broker` are Broker's arguments, `bus` keys of `[bus]`."""
        self.broker = self._undo.enter_context(contextlib.closing(Broker(**(broker or {})).start()))
        self.proxy = self._undo.enter_context(MqttProxy(self.broker.port))
        url = self.broker.url if with_bus else None
        self.daemon = Daemon(bus=url, policy=policy or POLICY, config={**(config or {}), "bus": bus or {}})
        self._undo.callback(self.daemon.close)
        self.daemon.start()
        if with_bus:
            self.daemon.wait_bus()
        self.gate = self._undo.enter_context(Relay(self.daemon.port))
        return self.where()

    def start_with_access(self) -> dict[str, Any]:
        """Start with TLS, passwords and the ACL at the broker, and client certificates at the daemon."""
        files = make_server_certificate(self.folder)
        authority = certified(self.folder, "authority", ca=True)
        operator = certified(self.folder, "operator", by=authority, subject="CN=operator")
        certified(self.folder, "backend", by=authority, subject="CN=backend")
        certified(self.folder, "stranger", subject="CN=backend")
        rights = ["read", "write", "rotate", "delete", "audit"]
        policy = {
            "default_deny": True,
            "clients": {
                "admin": {"allow": ["*"], "can": rights, "auth": [{"cert_subject": "CN=operator"}]},
                "backend": {"allow": ["postgres_password"], "auth": [{"cert_subject": "CN=backend"}]},
            },
        }
        users = {"secretsd": "daemon's", "postgres": "listener's", "ha-client": "other's"}
        self.broker = Broker(access="acl", users=users, tls=files)
        self._undo.enter_context(contextlib.closing(self.broker.start()))
        bus = {
            "username": "secretsd",
            "password_file": str(self.broker.password_file("secretsd")),
            "ca_file": str(files["cafile"]),
        }
        self.daemon = _TlsDaemon(bus=self.broker.url, policy=policy, config={"bus": bus})
        self.daemon.present(files["cafile"], operator)
        self.daemon.configure(
            {
                "server": {
                    "tls_cert": str(files["certfile"]),
                    "tls_key": str(files["keyfile"]),
                    "tls_client_ca": str(authority.cert_file),
                },
                "security": {"require_client_auth": True},
            }
        )
        self._undo.callback(self.daemon.close)
        self.daemon.start().wait_bus()
        passwords = {user: str(self.broker.password_file(user)) for user in users}
        return {
            "port": self.daemon.port,
            "pubkey": str(self.daemon.public_key_path),
            "ca": str(files["cafile"]),
            "folder": str(self.folder),
            "passwords": passwords,
            "broker": self.broker.url,
        }

    def where(self) -> dict[str, Any]:
        """Return where the parts are."""
        return {
            "port": self.daemon.port,
            "gate": self.gate.port,
            "socket": str(self.daemon.socket_path),
            "pubkey": str(self.daemon.public_key_path),
            "broker": self.broker.url,
            "proxy": self.proxy.url,
            "folder": str(self.folder),
        }

    # The daemon

    def create(self, names: list[str], value: str | None = None, **fields: Any) -> None:
        """Create secrets, of one value or of generated ones."""
        for name in names:
            self.daemon.api.create(name, value, **fields)

    def update(self, name: str, value: str) -> None:
        """Give a secret a new value."""
        self.daemon.api.update(name, value)

    def rotate(self, names: list[str], *, urgent: bool = False) -> dict[str, str]:
        """Rotate secrets in one commit; return their new values."""
        self.daemon.api.rotate(*names, urgent=urgent)
        return {name: self.daemon.api.value(name) for name in names}

    def rotate_only(self, name: str) -> None:
        """Rotate one secret and read nothing."""
        self.daemon.api.rotate(name)

    def delete(self, name: str) -> None:
        """Delete a secret."""
        self.daemon.api.delete(f"/secret/{name}").ok(204)

    def kill(self) -> None:
        """End the daemon as a power cut would."""
        self.daemon.sigkill()

    def begin(self) -> None:
        """Start the daemon again."""
        self.daemon.start().wait_bus()

    def restart(self) -> None:
        """End the daemon in order and start it again."""
        self.daemon.restart().wait_bus()

    def back_up(self) -> None:
        """Copy the daemon's files while it is down."""
        self.daemon.terminate()
        self._backed_up = [self.daemon.vault_path.parent, self.daemon.audit_path.parent]
        for folder in self._backed_up:
            shutil.copytree(folder, f"{folder}.backup")
        self.daemon.start().wait_bus()

    def restore(self) -> None:
        """Put the copy back and accept that it is older."""
        self.daemon.terminate()
        for folder in self._backed_up:
            shutil.rmtree(folder)
            shutil.copytree(f"{folder}.backup", folder)
        self._ctl("vault", "accept-rollback", "--yes")
        self.daemon.start().wait_bus()

    def rotate_signing_key(self) -> None:
        """Rotate the event-signing key of the daemon that runs."""
        command = [str(COMMANDS / "secretsctl"), "key", "rotate", "signing"]
        named = {"JARVIS_SECRETS_URL": f"http://127.0.0.1:{self.daemon.port}", "JARVIS_CLIENT_ID": "admin"}
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, **named}, timeout=30)

    def allow(self, client: str, clause: dict[str, Any] | None) -> None:
        """Change one client of the policy, or take it out, and reload."""
        clients: dict[str, Any] = {**POLICY["clients"], client: clause}
        clients = {name: one for name, one in clients.items() if one is not None}
        self.daemon.follow_policy({**POLICY, "clients": clients})

    def _ctl(self, *words: str) -> None:
        command = [str(COMMANDS / "secretsctl"), *words, "--config", str(self.daemon.config_path)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)

    # Whether the daemon answers, without ending it

    def freeze_daemon(self) -> None:
        """Let nothing through the gate before the daemon's HTTP; connections stay."""
        self.gate.freeze()

    def thaw_daemon(self) -> None:
        """Let everything through again."""
        self.gate.thaw()

    # The broker

    def kill_broker(self) -> None:
        """Kill the broker."""
        self.broker.kill()

    def start_broker(self) -> None:
        """Start the broker again, and wait until the daemon has found it."""
        self.broker.start()
        self.daemon.wait_bus()

    def freeze_broker(self) -> None:
        """Let nothing through from the broker; connections stay."""
        self.proxy.freeze("down")

    def thaw_broker(self) -> None:
        """Let everything through again, first what came meanwhile."""
        self.proxy.thaw()

    def refuse_version_5(self) -> None:
        """Have the broker know MQTT 3.1.1 only: it refuses a CONNECT of version 5 as Mosquitto 1.4 did."""
        self.proxy.refuse_version_5()

    def refuse_subscriptions(self) -> None:
        """Have the broker refuse every subscription."""

        def refused(answer: Packet) -> Packet:
            return replace(answer, body=answer.body[:-1] + b"\x87")

        self.proxy.change(SUBACK, refused)

    # Messages

    def drop(self, topics: list[str]) -> int:
        """Lose the messages on these topics; return a number for `stop`, `release` and `met`."""
        number = len(self._held) + 1
        self._held[number] = self.proxy.drop(on(*topics))
        return number

    def repeat(self, topics: list[str], times: int) -> int:
        """Pass messages on so many times."""
        number = len(self._held) + 1
        self._held[number] = self.proxy.repeat(on(*topics), times)
        return number

    def move(self, topics: list[str], to: str) -> int:
        """Pass messages on under another topic."""
        number = len(self._held) + 1
        self._held[number] = self.proxy.move(on(*topics), to)
        return number

    def met(self, number: int, count: int) -> None:
        """Wait until so many messages have been met."""
        self._held[number].wait(count)

    def stop(self, number: int) -> None:
        """Stop meddling."""
        self._held[number].stop()

    def release(self, number: int, *, backwards: bool = False) -> None:
        """Stop, and pass on what was met."""
        self._held[number].release(backwards=backwards)

    def replay(self, topics: list[str], times: int = 1) -> int:
        """Say again all that was heard on these topics; return how many messages that were."""
        heard = self.proxy.heard_on(*topics)
        for _ in range(times):
            self.proxy.inject(*heard)
        return len(heard) * times

    def heard(self, topics: list[str], count: int = 1) -> None:
        """Wait until the broker has said so much on these topics."""
        self.proxy.wait_heard(*topics, count=count)

    def forge(self, name: str, how: str, **data: Any) -> None:
        """Say what was last said of a secret's state once more, with other data and by somebody else."""
        real = self.proxy.wait_heard(f"*/secret/{name}/state")[-1]
        stranger = SigningKey.generate()
        keyid = str(json.loads(real.payload)["keyid"])
        forged: dict[str, Callable[[], bytes]] = {
            "unsigned": lambda: unsigned(real.payload, **data),
            "foreign": lambda: resign(real.payload, stranger, **data),
            "claimed": lambda: resign(real.payload, stranger, keyid=keyid, **data),
            "altered": lambda: changed_after_signing(real.payload, **data),
            "noise": lambda: secrets.token_bytes(64),
        }
        self.proxy.inject(Publish(real.topic, forged[how](), retain=True))

    def misplace(self, name: str, other: str) -> None:
        """Say what was last said of one secret on another's topic."""
        real = self.proxy.wait_heard(f"*/secret/{name}/state")[-1]
        topics = Topics(self.daemon.prefix)
        self.proxy.inject(Publish(topics.secret_state(other), real.payload))

    def sign_with_new_key(self, *, announced: bool, agreed: bool = True) -> None:
        """Have all further messages signed by a new key; `announced` by the daemon's old one, `agreed` by the new."""
        old = SigningKey.from_pem(self.daemon.audit_path.with_name("audit.sign.key").read_bytes())
        new = SigningKey.generate()
        if announced:
            data = key_rotated(new)
            if not agreed:
                data = {**data, "proof": key_rotated(SigningKey.generate())["proof"]}
            line = {**self.daemon.lines()[-1], "type": "jarvis.secretsd.audit.key_rotated", "data": data}
            line.pop("subject", None)
            line["sequence"] = f"{10**9:020}"
            topic = Topics(self.daemon.prefix).audit("audit", "key_rotated")
            self.proxy.inject(Publish(topic, resign(json.dumps(line).encode(), old)))
        self.proxy.rewrite(everything, lambda payload: resign(payload, new))

    def acknowledged(self, name: str) -> list[int]:
        """Return the versions of a secret that were acknowledged, in order."""
        said = [event["data"] for event in self.daemon.events("secret.acknowledged")]
        return [int(data["version"]) for data in said if data["name"] == name]

    def owes_nothing(self) -> None:
        """Wait until the broker has taken every change."""
        wanted = 'secretsd_owed_events{lane="changes"} 0.0'
        eventually(lambda: wanted in self.daemon.api.get("/metrics").body.decode(), "the broker has taken everything")

    # Files

    def write(self, name: str, text: str) -> str:
        """Write a file of mode 0600 into the stage's folder, in place of the old one; return its path."""
        path = self.folder / name
        fresh = path.with_name(f"{name}.new")
        fresh.touch(0o600)
        fresh.write_text(text)
        fresh.rename(path)
        return str(path)


class _TlsDaemon(Daemon):
    """A daemon that its operator asks over TLS, with a certificate."""

    def present(self, authority: Path, operator: Certified) -> None:
        """Ask with this certificate from now on."""
        self._shown = tls(self.port, authority, certified=operator)

    @property
    def api(self) -> Api:
        """Its HTTP over TLS, as `admin`."""
        return self._shown


def main() -> None:
    """Do what the lines of the input say."""
    stage = Stage()
    try:
        for line in sys.stdin:
            command = json.loads(line)
            answer: dict[str, Any]
            try:
                answer = {"ok": getattr(stage, command.pop("do"))(**command)}
            except Exception as error:  # noqa: BLE001 - whatever went wrong, the test has to know
                answer = {"error": f"{type(error).__name__}: {error}"}
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
    finally:
        stage.close()


if __name__ == "__main__":
    main()

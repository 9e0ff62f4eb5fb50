"""A real Mosquitto with the project's own configuration; only port, paths and passwords are the test's."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol

from tests.support.waiting import eventually, free_port

CONFIGURATION = Path(__file__).resolve().parents[2] / "mosquitto"
IMAGE = os.environ.get("SECRETSD_TEST_BROKER_IMAGE", "eclipse-mosquitto:2")


class _Runner(Protocol):
    """One way to have a broker process."""

    def start(self) -> None: ...
    def kill(self) -> None: ...
    def stop(self) -> None: ...
    def reload(self) -> None: ...


class _Program:
    """The installed `mosquitto`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        assert program, "these tests need `mosquitto` (or Docker with its image)"
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, "-c", str(self._directory / "mosquitto.conf")], stdout=log, stderr=log
            )

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def reload(self) -> None:
        assert self._process is not None
        self._process.send_signal(1)


class _Container:
    """The same files in a container on the host's network, by testcontainers."""

    def __init__(self, directory: Path, owner: int) -> None:
        os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
        from testcontainers.core.container import DockerContainer

        self._container = (
            DockerContainer(IMAGE)
            .with_kwargs(network_mode="host", user=str(owner))
            .with_volume_mapping(str(directory), str(directory), "rw")
            .with_command(f"mosquitto -c {directory}/mosquitto.conf")
        )
        self._started = False

    def start(self) -> None:
        if self._started:
            self._container.get_wrapped_container().start()
        else:
            self._container.start()
            self._started = True

    def kill(self) -> None:
        self._container.get_wrapped_container().kill()

    def stop(self) -> None:
        self._container.get_wrapped_container().stop()

    def reload(self) -> None:
        self._container.get_wrapped_container().kill(signal="HUP")

    def remove(self) -> None:
        if self._started:
            self._container.stop()


def _docker_has_the_image() -> bool:
    """Tell whether Docker answers and holds the broker's image (nothing is pulled for a test)."""
    docker = shutil.which("docker")
    if docker is None:
        return False
    asked = subprocess.run([docker, "image", "inspect", IMAGE], capture_output=True, check=False, timeout=20)
    return asked.returncode == 0


def _owner() -> int:
    """Return whom the broker's files belong to: us; where we are root, the user that mosquitto then becomes."""
    if os.getuid() != 0:
        return os.getuid()
    try:
        return pwd.getpwnam("mosquitto").pw_uid
    except KeyError:
        return 65534


class Broker:
    """A Mosquitto that can be stopped, killed and started again on its port, with what it kept on disk.

    `access="open"`: anybody may do anything. `access="acl"`: the project's ACL and the passwords of `users`.
    `tls` holds cafile, certfile and keyfile for the listener. `default_limits` takes our limits and our way
    of saving out of the configuration: a queue of 1,000 messages, 20 on their way, saved every half hour. `queued`
    makes that queue shorter still.
    """

    def __init__(
        self,
        *,
        access: Literal["open", "acl"] = "open",
        users: Mapping[str, str] | None = None,
        tls: Mapping[str, Path] | None = None,
        default_limits: bool = False,
        queued: int | None = None,
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="broker-"))
        self.port = free_port()
        self.acl = self.directory / "acl"
        self.access = access
        self.users = dict(users or {})
        self._default_limits = default_limits
        self._queued = queued
        self._tls = {key: self._own_copy(path) for key, path in (tls or {}).items()}
        self._owner = _owner()
        self._runner: _Runner = (
            _Container(self.directory, self._owner) if _docker_has_the_image() else _Program(self.directory)
        )
        shutil.copyfile(CONFIGURATION / "acl", self.acl)
        self._write()

    @property
    def url(self) -> str:
        """The broker's URL for `[bus] url`."""
        return f"{'mqtts' if self._tls else 'mqtt'}://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What the broker wrote about itself so far (empty for a container)."""
        path = self.directory / "log"
        return path.read_text() if path.exists() else ""

    def start(self) -> Broker:
        """Start the broker and wait until it accepts connections."""
        self._runner.start()
        eventually(self._accepts, "the broker accepts connections")
        return self

    def stop(self) -> None:
        """Stop it in order: it writes its database."""
        self._runner.stop()

    def kill(self) -> None:
        """Stop it with SIGKILL."""
        self._runner.kill()

    def close(self) -> None:
        """Stop it for good and remove its files."""
        self._runner.kill()
        if isinstance(self._runner, _Container):
            self._runner.remove()
        shutil.rmtree(self.directory, ignore_errors=True)

    def write_acl(self, text: str) -> None:
        """Replace the ACL and have the running broker read it."""
        self.acl.write_text(text)
        self._runner.reload()

    def password_file(self, user: str) -> Path:
        """Return a file (0600) that holds the password of `user`, as clients of the broker are given it."""
        path = self.directory / f"{user}.password"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(self.users[user] + "\n")
        return path

    def _accepts(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True

    def _own_copy(self, path: Path) -> Path:
        copy = self.directory / path.name
        shutil.copyfile(path, copy)
        copy.chmod(0o644)
        return copy

    def _write(self) -> None:
        lines = (CONFIGURATION / "mosquitto.conf").read_text()
        replaced = {
            "listener": f"listener {self.port} 127.0.0.1",
            "password_file": f"password_file {self.directory}/passwords",
            "acl_file": f"acl_file {self.acl}",
            "persistence_location": f"persistence_location {self.directory}/",
        }
        if self._tls:
            replaced["listener"] += "".join(f"\n{key} {path}" for key, path in self._tls.items())
        if self.access == "open":
            replaced |= {"allow_anonymous": "allow_anonymous true", "password_file": "", "acl_file": ""}
        for directive, line in replaced.items():
            lines, count = re.subn(rf"(?m)^{directive} .*$", line, lines)
            assert count == 1, f"mosquitto.conf names {directive} {count} times"
        if self._default_limits:
            lines = re.sub(r"(?m)^(max_(queued|inflight)|autosave)_.*$", "", lines)
        if self._queued is not None:
            lines += f"\nmax_queued_messages {self._queued}\n"
        (self.directory / "mosquitto.conf").write_text(lines)
        if self.access == "acl":
            passwords = self.directory / "passwords"
            passwords.write_text("".join(f"{user}:{password}\n" for user, password in self.users.items()))
            subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True, capture_output=True)
            passwords.chmod(0o644)
        self.directory.chmod(0o755)
        chown_all(self.directory, self._owner)


def chown_all(directory: Path, owner: int) -> None:
    """Give a folder and its files to the broker's user."""
    for path in (directory, *directory.iterdir()):
        os.chown(path, owner, -1)


def saving_by_the_second() -> Broker:
    """Return a broker (not started) for thousands of retained messages, set up as docs/performance.md advises.

    The project's configuration has autosave_on_changes: after each retained message all of them are written, which
    takes 8 ms where there are 10,000.
    """
    broker = Broker()
    configuration = broker.directory / "mosquitto.conf"
    text = configuration.read_text().replace("autosave_on_changes true", "autosave_on_changes false")
    configuration.write_text(text)
    return broker

"""One of deploy/docker-compose*.yml, really up: made by deploy/prepare-stack, under names and folders of the test's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import yaml

from tests.deploy.building import ROOT
from tests.support.waiting import eventually, free_port

DEPLOY: Final = ROOT / "deploy"
WITHIN_SECS: Final = 60.0


def compose_command() -> list[str] | None:
    """Return Docker's compose plugin, or the program of its own that Debian has; None without either."""
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    if plugin.returncode == 0:
        return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else None


class Stack:
    """A compose file as users start it; only names, folders, ports and images are the test's.

    `images` are SECRETSD_IMAGE and the like. A context manager: leaving removes containers, volumes and networks.
    """

    def __init__(self, file: str, folder: Path, images: Mapping[str, str]) -> None:
        self.file = DEPLOY / file
        self.folder = folder
        self.port, self.broker_port, self.prometheus_port = free_port(), free_port(), free_port()
        self.project = f"secretsd-test-{os.getpid()}-{self.file.suffixes[0].strip('.')}"
        self.environment = {
            **os.environ,
            **images,
            "JARVIS_CONFIG_DIR": str(folder / "etc"),
            "JARVIS_STATE_DIR": str(folder / "state"),
            "JARVIS_BROKER_DIR": str(folder / "broker"),
            "JARVIS_CLIENTS_DIR": str(folder / "clients"),
            "JARVIS_SECRETS_URL": f"http://127.0.0.1:{self.port}",
            "PROMETHEUS_ADDRESS": f"127.0.0.1:{self.prometheus_port}",
        }
        self.services: dict[str, Any] = yaml.safe_load(self.file.read_text())["services"]
        self._command = compose_command() or []
        self._override = folder / "override.yml"

    def prepare(self, *options: str, bridge: bool = False) -> subprocess.CompletedProcess[str]:
        """Run deploy/prepare-stack; behind a bridge the ports are those of the files, elsewhere free ones."""
        ports = {} if bridge else {"SECRETSD_BIND": f"127.0.0.1:{self.port}", "MOSQUITTO_PORT": str(self.broker_port)}
        return subprocess.run(
            [DEPLOY / "prepare-stack", *options],
            env={**self.environment, **ports},
            capture_output=True,
            text=True,
            check=False,
        )

    def up(self, *services: str, extra: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        """Start `services`, all by default, and wait until the daemon is healthy. `extra` is merged over them."""
        own: dict[str, dict[str, Any]] = {name: {"container_name": self.name(name)} for name in self.services}
        own["secretsd"]["healthcheck"] = {"interval": "1s"}
        for name, more in (extra or {}).items():
            own[name] |= more
        self._override.write_text(yaml.safe_dump({"services": own}))
        self.compose("up", "--detach", "--no-build", *services)
        eventually(lambda: self.state("secretsd")["Health"]["Status"] == "healthy", "healthy", within=WITHIN_SECS)

    def compose(self, *arguments: str) -> str:
        """Run the compose command on these files; return what it printed."""
        files = ["--file", str(self.file), "--file", str(self._override)]
        return _run([*self._command, "--project-name", self.project, *files, *arguments], self.environment)

    def name(self, service: str) -> str:
        """Return the name of a service's container."""
        return f"{self.project}-{service}"

    def state(self, service: str) -> dict[str, Any]:
        """Return what Docker says of a service's state."""
        state: dict[str, Any] = self.inspect(service)["State"]
        return state

    def inspect(self, service: str) -> dict[str, Any]:
        """Return all that Docker says of a service's container."""
        found: dict[str, Any] = json.loads(_run(["docker", "inspect", self.name(service)], self.environment))[0]
        return found

    def exec(self, service: str, *command: str, stdin: str | None = None) -> str:
        """Run a command in a service's container, which has to succeed; return what it printed."""
        return _run(["docker", "exec", "--interactive", self.name(service), *command], self.environment, stdin)

    def secretsctl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run secretsctl in the daemon's container, as the operator does."""
        return self.exec("secretsd", "secretsctl", *arguments, stdin=stdin)

    def said(self, service: str) -> list[dict[str, Any]]:
        """Return the lines of JSON that the sample service printed."""
        done = subprocess.run(["docker", "logs", self.name(service)], capture_output=True, text=True, check=True)
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    def wait_said(self, service: str, **wanted: object) -> dict[str, Any]:
        """Return the first line of the sample service that says `wanted`."""

        def found() -> dict[str, Any] | None:
            lines = (line for line in self.said(service) if wanted.items() <= line.items())
            return next(lines, None)

        line = eventually(found, f"{service} says {wanted}", within=WITHIN_SECS)
        assert line is not None
        return line

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._override.exists():
            self.compose("down", "--volumes", "--timeout", "1")


def _run(command: Sequence[str], environment: Mapping[str, str], stdin: str | None = None) -> str:
    done = subprocess.run(
        command, env=environment, input=stdin if stdin is not None else "", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout

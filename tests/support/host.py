"""A host for an operator's commands: shims of systemctl and its like on PATH, which act on a test's own processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Final, Self

from tests.support.broker import Broker
from tests.support.daemon import COMMANDS, Daemon

_SHIM: Final = f"""#!{sys.executable} -ES
import socket, sys
with socket.socket(socket.AF_UNIX) as asked:
    asked.connect({{address!r}})
    asked.sendall("\\0".join([{{name!r}}, *sys.argv[1:]]).encode())
    asked.shutdown(socket.SHUT_WR)
    status, _, said = b"".join(iter(lambda: asked.recv(65536), b"")).decode().partition("\\n")
sys.stderr.write(said) if int(status) else sys.stdout.write(said)
sys.exit(int(status))
"""
_NAMES: Final = ("systemctl", "journalctl", "systemd-tmpfiles")
_DAEMON: Final = "jarvis-secretsd"


class Host:
    """`daemon` and `broker` under commands of systemd, answered in this process. A context manager.

    Only what an operator's commands here need is answered; anything else fails as an unknown command does.
    """

    def __init__(self, folder: Path, daemon: Daemon, broker: Broker) -> None:
        self.daemon = daemon
        self.broker = broker
        self.shims = folder / "shims"
        self._socket_path = folder / "systemd.sock"
        self._socket = socket.socket(socket.AF_UNIX)
        self._thread = threading.Thread(target=self._answer_all, name="systemd", daemon=True)

    def __enter__(self) -> Self:
        self.shims.mkdir()
        for name in _NAMES:
            shim = self.shims / name
            shim.write_text(_SHIM.format(address=str(self._socket_path), name=name))
            shim.chmod(0o755)
        self._socket.bind(str(self._socket_path))
        self._socket.listen()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def bash(self, script: str, *, given: str, stops: bool, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """Run a script as an operator does; `stops`: at the first command that fails. Both streams are in `stdout`."""
        environment = {
            "PATH": f"{self.shims}:{COMMANDS}:{os.environ['PATH']}",
            "HOME": str(self.shims.parent),
            "LANG": "C.UTF-8",
            "JARVIS_SECRETS_URL": f"http://127.0.0.1:{self.daemon.port}",
            **env,
        }
        return subprocess.run(
            ["bash", "-euo" if stops else "-uo", "pipefail", "-c", script],
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            check=False,
            timeout=60,
        )

    def _answer_all(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                words = b"".join(iter(lambda asked=connection: asked.recv(65536), b"")).decode().split("\0")
                try:
                    said = f"0\n{self._answer(*words)}"
                except Exception as error:  # noqa: BLE001 - whatever fails here is the command's failure
                    said = f"1\n{error}\n"
                connection.sendall(said.encode())

    def _answer(self, name: str, *words: str) -> str:
        match (name, *words):
            case ("systemctl", "stop", "jarvis-secretsd*"):
                self._stop()
            case ("systemctl", "start", unit) if unit == _DAEMON:
                self.daemon.start()
            case ("systemctl", "reload", unit) if unit == _DAEMON:
                self._reload()
            case ("systemctl", "restart", "mosquitto"):
                self.broker.stop()
                self.broker.start()
            case ("journalctl", "-u", unit, "-n", count) if unit == _DAEMON:
                return "".join(line + "\n" for line in self.daemon.output().splitlines()[-int(count) :])
            case ("systemd-tmpfiles", "--create"):
                for folder in (self.daemon.vault_path.parent, self.daemon.audit_path.parent):
                    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            case _:
                raise ValueError(f"{' '.join((name, *words))}: not of this host")
        return ""

    def _stop(self) -> None:
        process = self.daemon.process
        if process is not None and process.poll() is None:
            self.daemon.terminate()

    def _reload(self) -> None:
        self.daemon.follow_policy()

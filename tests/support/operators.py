"""`secretsctl` processes that run beside a test, as an operator or a service's unit has them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.daemon import COMMANDS, Daemon
from tests.support.waiting import PATIENCE_SECS


class Operators:
    """Runs `secretsctl SUBCOMMAND …` beside a test, and ends what is left at its end."""

    def __init__(self, daemon: Daemon, subcommand: str, folder: Path) -> None:
        self._daemon = daemon
        self._subcommand = subcommand
        self._folder = folder
        self._started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._started:
            if process.poll() is None:
                process.terminate()
                process.wait(PATIENCE_SECS)

    def __call__(self, *arguments: str | Path, client: str = "admin", url: str | None = None) -> subprocess.Popen[str]:
        """Start one more, with the daemon's address (or `url`) and key, in a session of its own."""
        environment = {
            "PATH": os.environ["PATH"],
            "JARVIS_SECRETS_URL": url or f"http://127.0.0.1:{self._daemon.port}",
            "JARVIS_CLIENT_ID": client,
            "JARVIS_SECRETS_PUBKEY": str(self._daemon.public_key_path),
        }
        with self._path(len(self._started) + 1).open("w") as said:
            process = subprocess.Popen(
                [COMMANDS / "secretsctl", self._subcommand, *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                text=True,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def said(self, number: int = 1) -> str:
        """Return what the one that was started as the `number`th has said."""
        return self._path(number).read_text()

    def _path(self, number: int) -> Path:
        return self._folder / f"said{number}"

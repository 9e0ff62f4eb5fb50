"""secretsctl run in this process, or as one of its own, against a daemon of tests/unit/cli/fake_daemon.py."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from secretsd.cli.app import root
from tests.unit.cli.fake_daemon import FakeDaemon

COMMAND = Path(sys.executable).parent / "secretsctl"
Ctl = Callable[..., Result]
Typed = Sequence[tuple[str, str]]
Terminal = Callable[..., tuple[int, str]]
Spawn = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("JARVIS_") or name in {"NO_COLOR", "FORCE_COLOR"}:
            monkeypatch.delenv(name)


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with FakeDaemon() as one:
        yield one


@pytest.fixture
def ctl(daemon: FakeDaemon) -> Ctl:
    """Run secretsctl as `admin` of `daemon`; `stdin` is what it reads."""

    def run(*args: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> Result:
        given = {"JARVIS_SECRETS_URL": daemon.url, "JARVIS_CLIENT_ID": "admin", **(env or {})}
        result = CliRunner().invoke(root, args, input=stdin, env=given)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def spawn(daemon: FakeDaemon) -> Iterator[Spawn]:
    """Start the installed secretsctl, as `admin` of `daemon`."""
    started: list[subprocess.Popen[bytes]] = []

    def start(
        *args: str, env: dict[str, str] | None = None, program: Sequence[str | Path] = (COMMAND,), **options: Any
    ) -> subprocess.Popen[bytes]:
        given = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "JARVIS_SECRETS_URL": daemon.url,
            "JARVIS_CLIENT_ID": "admin",
            **(env or {}),
        }
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen([*program, *args], env=given, **(streams | options))
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def terminal(spawn: Spawn) -> Terminal:
    """Run secretsctl on a terminal, answering each prompt of `typed`; return its status and all that was shown."""

    def run(*args: str, typed: Typed = (), env: dict[str, str] | None = None, columns: int = 80) -> tuple[int, str]:
        command = ["/bin/sh", "-c", f'stty cols {columns}; exec "$@"', "sh", str(COMMAND), *args]
        script = f"import os, pty; os._exit(os.waitstatus_to_exitcode(pty.spawn({command!r})))"
        process = spawn(program=[sys.executable, "-c", script], env={"TERM": "xterm", **(env or {})})
        assert process.stdin is not None
        assert process.stdout is not None
        shown = bytearray()
        for prompt, answer in typed:
            while not shown.endswith(prompt.encode()):
                byte = process.stdout.read(1)
                assert byte, bytes(shown)
                shown += byte
            process.stdin.write(answer.encode() + b"\n")
            process.stdin.flush()
        shown += process.stdout.read()
        return process.wait(), shown.decode()

    return run

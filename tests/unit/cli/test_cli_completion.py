"""Completion in the real shells: commands, options and the names of secrets."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from secretsd.cli.app import root
from tests.support.waiting import PATIENCE_SECS
from tests.unit.cli.conftest import COMMAND
from tests.unit.cli.fake_daemon import FakeDaemon


@pytest.fixture
def environment(daemon: FakeDaemon) -> dict[str, str]:
    daemon.plant("postgres_password", "x")
    return {
        "PATH": f"{COMMAND.parent}:/usr/bin:/bin",
        "HOME": "/nonexistent",
        "TERM": "xterm",
        "LANG": "C.UTF-8",
        "JARVIS_SECRETS_URL": daemon.url,
        "JARVIS_CLIENT_ID": "admin",
    }


def needs(shell: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"{shell} isn't installed")


@needs("bash")
@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("secretsctl temp", "template"),
        pytest.param("secretsctl get post", "postgres_password", marks=pytest.mark.slow),
    ],
)
def test_bash(environment: dict[str, str], typed: str, completed: str) -> None:
    script = (
        'eval "$(secretsctl completion bash)"; COMP_WORDS=($1); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); '
        '_secretsctl_completion secretsctl; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    command = ["bash", "--norc", "-c", script, "bash", typed]
    done = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
    assert (done.stdout, done.stderr) == (f"{completed}\n", "")


@needs("fish")
@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("secretsctl run --env DB=", "DB=postgres_password"),
        pytest.param("secretsctl status --ver", "--verify", marks=pytest.mark.slow),
    ],
)
def test_fish(environment: dict[str, str], tmp_path: Path, typed: str, completed: str) -> None:
    command = ["fish", "--no-config", "-c", "secretsctl completion fish | source; complete --do-complete $argv[1]"]
    fresh = {**environment, "HOME": str(tmp_path)}
    done = subprocess.run([*command, typed], env=fresh, capture_output=True, check=True, text=True)
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == [completed]


@needs("zsh")
def test_zsh(environment: dict[str, str], tmp_path: Path) -> None:
    """zsh completes only on a terminal, from a file in a folder of its functions, as install.sh puts it there."""
    script = subprocess.run([COMMAND, "completion", "zsh"], env=environment, capture_output=True, check=True).stdout
    (tmp_path / "_secretsctl").write_bytes(script)
    ours, theirs = pty.openpty()
    shell = subprocess.Popen(
        ["zsh", "-f", "-i"], stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    )
    os.close(theirs)
    try:
        begin = f"PS1=; fpath=({tmp_path} $fpath); autoload -Uz compinit; compinit -D -u; print -r re''ady\n"
        os.write(ours, begin.encode())
        read_until(ours, b"ready")
        os.write(ours, b"secretsctl temp\t")
        read_until(ours, b"template")
        os.write(ours, b"\x15secretsctl get post\t")
        read_until(ours, b"gres_password")
    finally:
        shell.kill()
        shell.wait()
        os.close(ours)


def read_until(terminal: int, wanted: bytes) -> None:
    shown = b""
    while wanted not in shown:
        assert select.select([terminal], [], [], PATIENCE_SECS)[0], shown
        shown += os.read(terminal, 1024)


def test_a_daemon_that_does_not_answer_completes_nothing_and_says_nothing(environment: dict[str, str]) -> None:
    silent = {"COMP_WORDS": "secretsctl get post", "COMP_CWORD": "2", "_SECRETSCTL_COMPLETE": "bash_complete"}
    given = {**environment, "JARVIS_SECRETS_URL": "http://127.0.0.1:1", **silent}
    done = subprocess.run([COMMAND], env=given, capture_output=True, check=False, text=True, timeout=PATIENCE_SECS)
    assert (done.stdout.strip(), done.stderr) == ("", "")


@pytest.mark.parametrize(
    "typed",
    [
        "get post",
        "ls post",
        "schedule --secret post",
        "scan . --only post",
        "scan . --skip post",
        "tail post",
        "why backend read post",
        "run --secret post",
        "rotate post",
    ],
)
def test_names_are_completed_wherever_a_secret_is_asked_for(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    for name in ("JARVIS_SECRETS_URL", "JARVIS_CLIENT_ID"):
        monkeypatch.setenv(name, environment[name])
    *before, begun = typed.split()
    found = ShellComplete(root, {}, "secretsctl", "_SECRETSCTL_COMPLETE").get_completions(before, begun)
    assert [one.value for one in found] == ["postgres_password"]


def test_after_a_command_that_there_is_not_nothing_is_completed_and_nothing_said() -> None:
    assert ShellComplete(root, {}, "secretsctl", "_SECRETSCTL_COMPLETE").get_completions(["histroy"], "post") == []

"""What the process gives up: core dumps, being looked into, new privileges, swap; and how private its files are."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.daemon import Daemon

New = Callable[..., Daemon]
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user to try")
SOMEBODY = 65_533
"""A user of nobody else's."""


def status(daemon: Daemon) -> dict[str, str]:
    assert daemon.process is not None
    lines = Path(f"/proc/{daemon.process.pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


@pytest.fixture
def daemon(new_daemon: New) -> Daemon:
    daemon = new_daemon(env={"SOME_TOKEN": "in the environment"}).start()
    daemon.api.create("x", "the value of x")
    return daemon


def test_it_leaves_no_core_dump(daemon: Daemon) -> None:
    assert daemon.process is not None
    assert resource.prlimit(daemon.process.pid, resource.RLIMIT_CORE) == (0, 0)


def test_it_takes_no_new_privileges(daemon: Daemon) -> None:
    assert status(daemon)["NoNewPrivs"] == "1"


def test_its_memory_is_locked_where_that_is_allowed(daemon: Daemon) -> None:
    can_lock = int(status(daemon)["CapEff"], 16) >> 14 & 1
    if not can_lock:
        pytest.skip("CAP_IPC_LOCK is not ours here, and RLIMIT_MEMLOCK is too small")
    assert int(status(daemon)["VmLck"].split()[0]) > 0


def as_somebody(*command: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["setpriv", f"--reuid={SOMEBODY}", f"--regid={SOMEBODY}", "--clear-groups", *command],
        capture_output=True,
        check=False,
        timeout=20,
    )


@pytest.fixture
def somebodys(new_daemon: New) -> Daemon:
    """A daemon that runs as a user without privileges."""
    identity = ["setpriv", f"--reuid={SOMEBODY}", f"--regid={SOMEBODY}", "--clear-groups"]
    daemon = new_daemon(env={"SOME_TOKEN": "in the environment"}, wrap=identity)
    for path in (daemon.directory, daemon.config_path, daemon.policy_path):
        os.chown(path, SOMEBODY, SOMEBODY)
    return daemon.start()


@AS_ROOT
@pytest.mark.parametrize("what", ["environ", "mem", "maps", "fd", "cwd"])
def test_a_process_of_the_same_user_cannot_look_into_it(somebodys: Daemon, what: str) -> None:
    assert somebodys.process is not None
    look = ["ls", "-l"] if what in ("fd", "cwd") else ["head", "-c1"]
    other = subprocess.Popen(["sleep", "60"], user=SOMEBODY, group=SOMEBODY)
    try:
        if what not in ("mem", "cwd"):
            # The control: of any other process of this user it can.
            assert as_somebody(*look, f"/proc/{other.pid}/{what}").returncode == 0
        refused = as_somebody(*look, f"/proc/{somebodys.process.pid}/{what}")
    finally:
        other.kill()
        other.wait()
    assert refused.returncode != 0
    assert b"Permission denied" in refused.stderr
    assert b"in the environment" not in refused.stdout


@AS_ROOT
def test_a_process_of_the_same_user_cannot_trace_it(somebodys: Daemon) -> None:
    assert somebodys.process is not None
    attach = (
        "import ctypes, sys; libc = ctypes.CDLL(None, use_errno=True); "
        "result = libc.ptrace(16, int(sys.argv[1]), 0, 0); print(result, ctypes.get_errno())"
    )
    tried = as_somebody(sys.executable, "-c", attach, str(somebodys.process.pid))
    assert tried.stdout.split() == [b"-1", b"1"]  # EPERM


@AS_ROOT
def test_without_privileges_it_serves_all_the_same(somebodys: Daemon) -> None:
    somebodys.api.create("x", "v")
    somebodys.api.rotate("x", values={"x": "w"})
    assert somebodys.restart().api.value("x") == "w"
    somebodys.verified_log()


@pytest.mark.parametrize("umask", ["000", "022", "077", "777"])
def test_files_are_private_whatever_the_umask_of_who_starts_it(new_daemon: New, umask: str) -> None:
    daemon = new_daemon(wrap=["sh", "-c", f'umask {umask}; exec "$@"', "sh"]).start()
    daemon.api.create("x", "v")
    rotated = daemon.audit_path.with_name("audit.jsonl.1")
    daemon.audit_path.rename(rotated)
    daemon.api.update("x", "w")
    for folder in (daemon.vault_path.parent, daemon.audit_path.parent):
        assert folder.stat().st_mode & 0o777 == 0o700
        for path in folder.iterdir():
            wanted = 0o644 if path.suffix == ".pub" else 0o600
            assert path.stat().st_mode & 0o777 == wanted, path
    assert daemon.socket_path.stat().st_mode & 0o777 == 0o660


def test_a_crash_leaves_nothing_behind_that_holds_a_value(daemon: Daemon) -> None:
    if shutil.which("prlimit") is None:
        pytest.skip("prlimit is not installed")
    assert daemon.process is not None
    folder = daemon.directory
    os.kill(daemon.process.pid, 11)  # SIGSEGV, as from a bug in an extension
    daemon.process.wait()
    assert [path for path in folder.rglob("core*") if path.is_file()] == []
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert b"the value of x" not in path.read_bytes(), path

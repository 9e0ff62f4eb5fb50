"""secretsctl run: a service that knows nothing of secretsd gets its secrets, and is told of rotations."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.broker import Broker
from tests.support.daemon import Daemon
from tests.support.http import Api
from tests.support.operators import Operators
from tests.support.waiting import PATIENCE_SECS, eventually

Unique = Callable[..., str]

HEAD = "import os, pathlib, signal, sys; told = open(sys.argv[1], 'a', buffering=1); "
SERVICE = HEAD + "told.write(os.environ['DB'] + '\\n'); signal.pause()"
"""A service that notes the value that it was started with."""
READER = HEAD + (
    "read = lambda *_: told.write(pathlib.Path(sys.argv[2]).read_text() + '\\n'); "
    "signal.signal(signal.SIGHUP, read); read(); [signal.pause() for _ in iter(int, 1)]"
)
"""A service that reads a file at its start and at each SIGHUP."""


@pytest.fixture(scope="module")
def daemon(broker: Broker, module_prefix: str) -> Iterator[Daemon]:
    with Daemon(bus=broker.url, prefix=module_prefix) as running:
        yield running.wait_bus()


@pytest.fixture
def api(daemon: Daemon) -> Api:
    return daemon.api


@pytest.fixture
def memory() -> Iterator[Path]:
    """A private folder on a tmpfs."""
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("no /dev/shm that could be written to")
    folder = Path(tempfile.mkdtemp(prefix="sd-run-", dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def told(tmp_path: Path) -> Callable[[], list[str]]:
    """Return what the service has noted in `told`."""
    path = tmp_path / "told"
    return lambda: path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def run(daemon: Daemon, tmp_path: Path) -> Iterator[Operators]:
    """Start `secretsctl run`, by itself as `admin`."""
    with Operators(daemon, "run", tmp_path) as running:
        yield running


def python(code: str, *arguments: str | Path) -> list[str | Path]:
    return ["--", sys.executable, "-c", code, *arguments]


def test_the_child_is_started_anew_with_the_value_of_a_rotation(
    api: Api, run: Operators, tmp_path: Path, told: Callable[[], list[str]], unique: Unique
) -> None:
    name = api.create(unique("password"))["name"]
    first = api.value(name)
    running = run("--env", f"DB={name}", *python(SERVICE, tmp_path / "told"))
    eventually(lambda: told() == [first], "the child has the first value")
    api.rotate(name)
    eventually(lambda: told() == [first, api.value(name)], "a new child has the new value")
    assert running.poll() is None
    assert first not in run.said()
    assert api.value(name) not in run.said()


def test_the_child_may_dump_its_core_as_its_user_has_it(
    api: Api, run: Operators, tmp_path: Path, told: Callable[[], list[str]], unique: Unique
) -> None:
    name = api.create(unique("password"))["name"]
    child = HEAD + (
        "import ctypes, resource; dumpable = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0); "
        "told.write(f'{dumpable} {resource.getrlimit(resource.RLIMIT_CORE)}\\n'); signal.pause()"
    )
    running = run("--env", f"DB={name}", *python(child, tmp_path / "told"))
    limits = resource.prlimit(running.pid, resource.RLIMIT_CORE)
    eventually(lambda: told() == [f"1 {limits}"], "the child has the limits of who runs this")


def test_the_child_is_signalled_after_its_file_has_the_new_value(
    api: Api, run: Operators, memory: Path, tmp_path: Path, told: Callable[[], list[str]], unique: Unique
) -> None:
    name = api.create(unique("password"))["name"]
    first = api.value(name)
    run("--files", memory, "--secret", name, "--signal", "hup", *python(READER, tmp_path / "told", memory / name))
    eventually(lambda: told() == [first], "the child has read the first value")
    api.rotate(name)
    eventually(lambda: told() == [first, api.value(name)], "the same child has read the new value")
    assert (memory / name).stat().st_mode & 0o777 == 0o600


def test_a_child_that_dies_at_once_after_a_rotation_is_reported_and_not_started_again(
    api: Api, run: Operators, tmp_path: Path, told: Callable[[], list[str]], unique: Unique
) -> None:
    name = api.create(unique("password"))["name"]
    first = api.value(name)
    picky = HEAD + "told.write('x\\n'); signal.pause() if os.environ['DB'] == sys.argv[2] else sys.exit(7)"
    running = run("--env", f"DB={name}", *python(picky, tmp_path / "told", first))
    eventually(lambda: told() == ["x"], "the child runs")
    api.rotate(name)
    assert running.wait(PATIENCE_SECS) == 7
    assert told() == ["x", "x"]
    assert f"told of {name} (version 2); it isn't started again" in run.said()
    assert f"secretsctl restore {name} 1" in run.said()


def test_what_changed_while_nobody_ran_is_taken_up_at_the_next_start(
    api: Api, run: Operators, memory: Path, tmp_path: Path, unique: Unique
) -> None:
    start = unique("", start="away")
    name, other = api.create(f"{start}password")["name"], api.create(f"{start}token_old")["name"]
    arguments = ("--files", memory, "--secret", f"{start}*", "--", "true")
    assert run(*arguments).wait(PATIENCE_SECS) == 0
    assert (memory / other).exists()
    api.rotate(name)
    api.delete(f"/secret/{other}").ok(204)
    assert run(*arguments).wait(PATIENCE_SECS) == 0
    assert (memory / name).read_text() == api.value(name)
    assert not (memory / other).exists()
    assert f"changed since the last run: {name} (version 2), {other} (removed)" in run.said(2)
    note = (memory / ".secretsctl-run.json").read_text()
    assert api.value(name) not in note


def test_a_signal_is_passed_on_and_the_status_is_the_child_s(
    api: Api, run: Operators, tmp_path: Path, told: Callable[[], list[str]], unique: Unique
) -> None:
    name = api.create(unique("password"))["name"]
    polite = HEAD + "signal.signal(signal.SIGTERM, lambda *_: sys.exit(9)); told.write('up\\n'); signal.pause()"
    running = run("--env", f"DB={name}", *python(polite, tmp_path / "told"))
    eventually(lambda: told() == ["up"], "the child runs")
    running.send_signal(signal.SIGTERM)
    assert running.wait(PATIENCE_SECS) == 9


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--", "sh", "-c", "exit 3"], 3),
        (["--", "sh", "-c", "kill -KILL $$"], 128 + 9),
        (["--", "no-such-command"], 127),
        (["--", "/etc/hostname"], 126),
        ([], 125),
    ],
)
def test_the_status_tells_the_child_s_end_from_errors_of_run(
    api: Api, run: Operators, unique: Unique, arguments: list[str], status: int
) -> None:
    name = api.create(unique("password"))["name"]
    assert run("--env", f"DB={name}", *arguments).wait(PATIENCE_SECS) == status


def test_nothing_is_started_where_a_secret_can_not_be_had(
    api: Api, run: Operators, tmp_path: Path, unique: Unique
) -> None:
    name = api.create(unique("password"))["name"]
    started = tmp_path / "started"
    assert run("--env", name, "--", "touch", started, client="backend").wait(PATIENCE_SECS) == 125
    assert run("--env", name, "--", "touch", started, url="http://127.0.0.1:1").wait(PATIENCE_SECS) == 125
    assert not started.exists()
    assert "the policy doesn't allow it" in run.said(1)


def test_files_on_a_disk_are_refused(api: Api, run: Operators, tmp_path: Path, unique: Unique) -> None:
    name = api.create(unique("password"))["name"]
    folder = tmp_path / "files"
    found = subprocess.run(["stat", "-fc", "%T", tmp_path], capture_output=True, text=True, check=True)
    if found.stdout.strip() == "tmpfs":
        pytest.skip("the temporary folder is a tmpfs here")
    assert run("--files", folder, "--secret", name, "--", "true").wait(PATIENCE_SECS) == 125
    assert "is on a disk" in run.said()
    assert not list(folder.iterdir())

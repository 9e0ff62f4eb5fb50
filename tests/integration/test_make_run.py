"""What `make run` shows, and that every block of the README works when typed beside it."""

from __future__ import annotations

import itertools
import os
import pty
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.pages import ROOT, Block, Covered
from tests.support.waiting import eventually

README = Covered(ROOT / "README.md")
READY_SECS = 45.0
_numbers = itertools.count(1)
SHELL = {name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name != "MFLAGS"}
"""A new terminal's environment: what this suite's own `make` was told would go before what a test tells another."""
STEPS = ("fetched", "rotated", "announced", "dropped", "refused")


@pytest.fixture(autouse=True)
def hears_of_its_terminal() -> Iterator[None]:
    """A new terminal's programs don't ignore its end, though this suite may have been started with `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


class Run:
    """A `python -m demo` with a folder of its own, in a session of its own."""

    def __init__(self, folder: Path, *, command: Sequence[str] = (sys.executable, "-m", "demo"), **env: str) -> None:
        self.folder = folder
        self.output = folder.with_name(f"{folder.name}-{next(_numbers)}.out")
        with self.output.open("ab") as out:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**SHELL, "RUN_DIR": str(folder), "BUS_URL": "", **env},
                start_new_session=True,
            )

    @property
    def text(self) -> str:
        return self.output.read_text()

    def ready(self) -> str:
        """Wait for the last line of the start; the address in it."""

        def found() -> re.Match[str] | None:
            if self.process.poll() is not None:
                pytest.fail(f"ended with {self.process.returncode}:\n{self.text}")
            return re.search(r"^Ready: (http://\S+)$", self.text, re.MULTILINE)

        match = eventually(found, "Ready:", within=READY_SECS)
        assert match is not None
        return match[1]

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)

    def interrupt(self) -> None:
        """Press Ctrl-C: everything in the foreground hears of it."""
        os.killpg(self.process.pid, signal.SIGINT)
        # make ends with the signal, whatever its recipe answers.
        assert self.process.wait(30) in {0, 130, -signal.SIGINT}, self.text

    def left_behind(self) -> str:
        """The processes that still name this run's folder."""
        return subprocess.run(["pgrep", "-af", self.folder], capture_output=True, text=True, check=False).stdout


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    run = Run(tmp_path_factory.mktemp("shown") / "run")
    try:
        run.ready()
        yield run
    finally:
        run.end(signal.SIGTERM)


def test_each_step_of_the_show_is_told_in_order(run: Run) -> None:
    places = [run.text.find(f"\n  {step} ") for step in STEPS]
    assert -1 not in places
    assert places == sorted(places)
    assert re.search(r"callback ran [\d.]+ ms after the request", run.text)


def test_output_that_is_no_terminal_has_no_colour(run: Run) -> None:
    assert "\x1b" not in run.text


def test_no_token_and_no_value_is_printed(run: Run) -> None:
    for client in ("admin", "backend"):
        assert (run.folder / f"{client}.token").read_text().strip() not in run.text
    assert "hello from the vault" not in run.text


def test_a_second_run_in_the_same_folder_says_how_to_run_beside_it(run: Run) -> None:
    second = Run(run.folder)
    assert second.process.wait(30) == 1
    assert "RUN_DIR=" in second.text
    assert "Traceback" not in second.text


def test_a_run_beside_it_takes_ports_of_its_own(run: Run, tmp_path: Path) -> None:
    beside = Run(tmp_path / "beside")
    try:
        assert beside.ready() != run.ready()
    finally:
        assert beside.end() == 0


def typed(script: str, **env: str) -> str:
    """Run a script in a shell that stops at the first command that fails; return what it printed."""
    done = subprocess.run(
        ["sh", "-euc", script],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=SHELL | env,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@README.by("try")
def test_the_readme_s_first_commands_work(block: Block, tmp_path: Path) -> None:
    run, test = [line.partition("#")[0].strip() for line in block.text.splitlines()]
    shown = Run(tmp_path / "run", command=run.split())
    shown.ready()
    shown.interrupt()
    assert shown.left_behind() == ""
    # The suite can't hold itself: here one file of it, as `make test` runs all; .ci/run types it as it stands.
    assert "passed" in typed(test, PYTEST_ARGS="tests/unit/test_clock.py -p no:cacheprovider", WORKERS="1")


@README.by("tour")
def test_the_readme_s_tour_works_when_typed(run: Run, block: Block) -> None:
    assert "hello again" in typed(block.text.replace(".run/", f"{run.folder}/"))


@README.by("python")
def test_the_readme_s_python_works_when_run(run: Run, block: Block, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(f"reconnect = print\n{block.text}\nassert len(password) > 8\n")
    typed(f". {run.folder}/env && {sys.executable} {program}")


def test_every_block_of_the_readme_is_run() -> None:
    assert README.left() == []


def test_every_command_that_is_offered_next_works(run: Run) -> None:
    offered = run.text[run.text.index("Try next") : run.text.index("\nReady:")]
    lines = [line.split("  # ")[0].strip() for line in offered.splitlines()[1:] if line.strip()]
    # The two that listen for ever are given a second; they end with the status of `timeout`.
    listeners = ("secretsctl tail", "mosquitto_sub")
    script = "\n".join(f"timeout 2 {line} || [ $? -eq 124 ]" if line.startswith(listeners) else line for line in lines)
    typed(script)


def test_what_is_done_beside_it_is_told_as_it_happens(run: Run) -> None:
    before = len(run.text)
    rotate = f". {run.folder}/env && secretsctl rotate postgres_password"
    subprocess.run(["sh", "-c", rotate], check=True, capture_output=True, timeout=30)
    eventually(lambda: "live service" in run.text[before:], "the live service's line")
    assert re.search(r"secret\.rotated +postgres_password", run.text[before:])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_run_ends_with_0_and_all_that_it_started_and_starts_again_where_it_was(
    tmp_path: Path, number: signal.Signals
) -> None:
    first = Run(tmp_path / "run")
    first.ready()
    assert first.end(number) == 0
    assert first.left_behind() == ""

    again = Run(tmp_path / "run")
    again.ready()
    assert again.end(number) == 0
    assert again.left_behind() == ""
    assert "Traceback" not in again.text
    assert "POST /rotate: version 2," in first.text
    assert "POST /rotate: version 3," in again.text


def test_a_terminal_that_is_closed_ends_it_in_order(tmp_path: Path) -> None:
    ours, its = pty.openpty()
    name = os.ttyname(its)
    # The first terminal that the leader of a session opens is the session's.
    command = ("sh", "-c", f'exec "$0" -m demo <{name} >{name} 2>&1', sys.executable)
    run = Run(tmp_path / "run", command=command)
    shown = b""
    while b"Ready: " not in shown:
        assert select.select([ours], [], [], READY_SECS)[0], shown.decode()
        shown += os.read(ours, 65536)
    os.close(its)
    os.close(ours)
    assert run.process.wait(30) == 0
    assert run.left_behind() == ""


def test_a_broker_of_yours_is_left_as_it_was_found(run: Run, tmp_path: Path) -> None:
    run.ready()
    url = typed(f'. {run.folder}/env && printf %s "$JARVIS_MQTT_URL"')

    def kept() -> str:
        listen = ["mosquitto_sub", "-L", f"{url}/#", "--retained-only", "-W", "3", "-F", "%t %p"]
        return subprocess.run(listen, capture_output=True, text=True, check=False, timeout=60).stdout

    guest = Run(tmp_path / "run", BUS_URL=url)
    guest.ready()
    typed(f". {guest.folder}/env && secretsctl rm greeting --yes")
    during = kept()
    assert "jarvis-tryout/secretsd/secret/jwt_signing_key/state " in during
    assert guest.end() == 0
    after = kept()
    assert "jarvis/secretsd/checkpoint/tryout " in after
    assert "jarvis-tryout" not in after


def test_without_mosquitto_it_runs_with_a_broker_in_pure_python(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", BROKER="amqtt")
    run.ready()
    places = [run.text.find(f"\n  {step} ") for step in STEPS]
    assert -1 not in places
    assert places == sorted(places)
    assert "MQTT 3.1.1" in (tmp_path / "run" / "secretsd.log").read_text()
    assert run.end() == 0
    assert run.left_behind() == ""


def test_ctrl_c_while_it_starts_ends_it_without_a_traceback(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    eventually((tmp_path / "run" / "config.toml").exists, "the daemon is about to start")
    assert run.end() == 0
    assert run.left_behind() == ""
    assert "Traceback" not in run.text


def test_a_daemon_that_dies_is_reported_with_its_last_words_and_what_to_do(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.ready()
    os.kill(int((tmp_path / "run" / "secretsd.pid").read_text()), signal.SIGKILL)
    assert run.process.wait(30) == 1
    assert "secretsd ended by itself" in run.text
    assert "run again" in run.text
    assert run.left_behind() == ""


def test_a_broker_that_does_not_answer_is_named(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", BUS_URL="mqtt://127.0.0.1:9")
    assert run.process.wait(30) == 1
    assert "mqtt://127.0.0.1:9" in run.text
    assert "Is BUS_URL right?" in run.text

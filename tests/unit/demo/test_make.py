import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo import make

AT_REST = "Name:\tmake\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nSigCgt:\t0000000000014003\n"
IN_HANDLER = "Name:\tmake\nSigBlk:\t0000000000000002\nSigIgn:\t0000000000000000\nSigCgt:\t0000000000014001\n"


def test_a_make_that_waits_for_its_recipe_was_not_interrupted() -> None:
    assert not make.was_interrupted(AT_REST)


def test_a_make_in_its_handler_was_interrupted() -> None:
    assert make.was_interrupted(IN_HANDLER)


@pytest.fixture
def waiting_make(tmp_path: Path) -> Iterator[int]:
    """A make that waits for its recipe, alone in a session."""
    (tmp_path / "Makefile").write_text("wait:\n\t@echo started; exec sleep 60\n")
    parent = subprocess.Popen(["make", "-C", tmp_path, "-s"], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "started\n"
    yield parent.pid
    os.killpg(parent.pid, signal.SIGKILL)
    parent.communicate(timeout=10)


async def test_a_real_make_that_is_interrupted_alone_is_noticed(waiting_make: int) -> None:
    noticed = asyncio.Event()
    following = asyncio.create_task(make.follow(Path(f"/proc/{waiting_make}/status"), noticed.set))
    os.kill(waiting_make, signal.SIGINT)
    async with asyncio.timeout(10):
        await noticed.wait()
    await following


async def test_a_make_that_is_gone_stops_nothing(tmp_path: Path) -> None:
    await make.follow(tmp_path / "status", lambda: pytest.fail("nobody was interrupted"))

"""The end of a try-out, however often it is asked for."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demo import make, tryout
from demo.place import Place
from demo.telling import Teller


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """What the signals did before: an end leaves them ignored, as it is the process's last."""
    before = {number: signal.getsignal(number) for number in tryout.ENDS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


async def test_an_end_that_is_asked_for_twice_is_told_once_and_not_cut_short(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    in_order = asyncio.Event()

    async def running(_teller: Teller, _place: Place) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            in_order.set()

    async def interrupted_twice(_status: Path, stop: Callable[[], object]) -> None:
        stop()
        await asyncio.sleep(0)
        stop()

    monkeypatch.setattr(tryout, "tryout", running)
    monkeypatch.setattr(make, "our_make", lambda: Path("status"))
    monkeypatch.setattr(make, "follow", interrupted_twice)
    await tryout.until_told(Teller(), Place(Path("run")))
    assert in_order.is_set()
    assert capsys.readouterr().out.count("Ending …") == 1


async def test_nohup_keeps_it_alive_when_its_terminal_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = []

    async def running(_teller: Teller, _place: Place) -> None:
        for number in (signal.SIGHUP, signal.SIGTERM):
            os.kill(os.getpid(), number)
            await asyncio.sleep(0)
            heard.append(number)
        await asyncio.Event().wait()

    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    monkeypatch.setattr(tryout, "tryout", running)
    monkeypatch.setattr(make, "our_make", lambda: None)
    await tryout.until_told(Teller(), Place(Path("run")))
    assert heard[:1] == [signal.SIGHUP]


@pytest.mark.parametrize("folder", ["/proc/nowhere", "/dev/null", "/dev/null/below"])
def test_a_folder_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: str
) -> None:
    monkeypatch.setenv("RUN_DIR", folder)
    assert tryout.main() == 1
    said = capsys.readouterr().err
    assert f"{folder} can't be used: " in said
    assert "RUN_DIR=" in said

"""What is said when a broker of yours can't be left as it was found."""

from pathlib import Path

import pytest
from secretsd_bus import BusSettings

from demo.leaving import take_away
from demo.place import Place
from demo.telling import Teller


async def test_what_stays_on_a_broker_that_is_gone_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gone = BusSettings(url="mqtt://127.0.0.1:9", topic_prefix="jarvis-tryout/secretsd")
    await take_away(Teller(), Place(tmp_path), gone)
    assert "stay on your broker, under jarvis-tryout/secretsd/: can't connect" in capsys.readouterr().err

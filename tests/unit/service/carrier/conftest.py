"""A service whose rotations end on a shelf."""

from __future__ import annotations

import importlib
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.rotators import install
from tests.unit.service.carrier.shelf import FIRST, NAME, POLICY, SHELF, made
from tests.unit.support.core import Bench


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    folder = tmp_path / "shelf"
    folder.mkdir()
    install(folder, SHELF, shelf="Shelf")
    monkeypatch.syspath_prepend(str(folder))
    yield importlib.import_module("shelf_rotators")
    del sys.modules["shelf_rotators"]


@pytest.fixture
async def bench(tmp_path: Path, shelf: Any) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path, policy=POLICY)
    bench.carrier.start()
    await made(bench, NAME)
    await made(bench, "root_password")
    shelf.taken[NAME] = FIRST.encode()
    yield bench
    await bench.close()

"""The tutorial as a newcomer goes through it: each command in order, and what it shows is what is printed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.support.pages import ROOT, blocks
from tests.support.reader import Reader
from tests.support.waiting import free_port

PAGE = ROOT / "docs" / "tutorial.md"


@pytest.mark.skipif(shutil.which("age-keygen") is None, reason="age is not installed")
def test_the_tutorial_works_as_it_stands(tmp_path: Path) -> None:
    home, private = tmp_path / "home", tmp_path / "private"
    for folder in (home, private):
        folder.mkdir()
    ports = {port: str(free_port()) for port in ("8081", "1883")}
    # Only the ports differ: `init` is told of them, since others may use those of the page.
    init = f"init --bind 127.0.0.1:{ports['8081']} --bus-url mqtt://127.0.0.1:{ports['1883']}"
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"}
    with Reader(ROOT, private, environment, {**ports, "secretsctl init": f"secretsctl {init}"}) as reader:
        reader.follow(blocks(PAGE))
    assert not (home / "secrets-tutorial").exists()

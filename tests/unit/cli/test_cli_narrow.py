"""A terminal too narrow for a table: no name is cut or left out."""

from __future__ import annotations

import click
import pytest

from tests.unit.cli.conftest import Terminal
from tests.unit.cli.fake_daemon import FakeDaemon

LONG = "browserbase_production_api_key"


@pytest.mark.parametrize("columns", [12, 30, 80])
def test_a_listing_shows_each_name_whole(terminal: Terminal, daemon: FakeDaemon, columns: int) -> None:
    daemon.plant(LONG, "v")
    status, shown = terminal("ls", columns=columns)
    assert (status, shown.split().count(LONG)) == (0, 1), shown
    assert "EXPIRES" in shown
    assert "\x1b[32mactive\x1b[0m" in shown


@pytest.mark.parametrize("columns", [12, 20])
def test_what_is_known_of_a_secret_keeps_its_labels(terminal: Terminal, daemon: FakeDaemon, columns: int) -> None:
    daemon.plant(LONG, "v")
    status, shown = terminal("info", LONG, columns=columns)
    assert (status, shown.split().count(LONG)) == (0, 1), shown
    assert "generation" in shown


def test_a_last_column_that_has_room_is_folded(terminal: Terminal) -> None:
    status, shown = terminal("doctor", "--list", columns=60)
    assert status == 0
    assert all(len(line.rstrip()) <= 60 for line in click.unstyle(shown).splitlines()), shown

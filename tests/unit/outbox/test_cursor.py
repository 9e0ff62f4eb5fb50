from __future__ import annotations

from pathlib import Path

import pytest

from secretsd.outbox.cursor import Cursor, load, save
from tests.unit.support.disk import PowerCut, spy


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vault.json.bus"


def test_what_was_saved_is_loaded(path: Path) -> None:
    cursor = Cursor("log", session=7, changes=5, audit=3)
    save(path, cursor)
    assert load(path, "log") == cursor
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_very_first_connection_is_owed_nothing_older(path: Path) -> None:
    assert load(path, "log") == Cursor("log", session=0, changes=None, audit=None)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage",
        b"\xff",
        b"[]",
        b"{}",
        b'{"log_id":"\xff"}',
        b'{"log_id":"log","session":"7"}',
        b'{"log_id":"log","format":2}',
        b"{" * 100_000,
    ],
)
def test_a_damaged_file_costs_repetitions_and_no_event(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    cursor = load(path, "log")
    assert (cursor.log_id, cursor.changes, cursor.audit) == ("log", 0, 0)


def test_a_new_log_begins_anew_and_sessions_go_on(path: Path) -> None:
    save(path, Cursor("old", session=7, changes=500, audit=300))
    assert load(path, "new") == Cursor("new", session=7, changes=None, audit=None)


def test_a_power_cut_leaves_the_cursor_before(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(path, Cursor("log", session=1))
    spy(monkeypatch, "replace").cut_power()
    with pytest.raises(PowerCut):
        save(path, Cursor("log", session=2))
    assert load(path, "log").session == 1

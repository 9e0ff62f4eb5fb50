from __future__ import annotations

from pathlib import Path

import pytest

from secretsd.outbox.cursor import Cursor, begin, load, save
from tests.unit.support.disk import PowerCut, spy

NOW_MS = 1_795_000_000_123


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vault.json.bus"


def test_what_was_saved_is_loaded(path: Path) -> None:
    cursor = Cursor("log", session=7, changes=5, audit=3)
    save(path, cursor)
    assert load(path, "log", NOW_MS) == cursor
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_very_first_connection_is_owed_nothing_older(path: Path) -> None:
    begin(path, "log")
    assert load(path, "log", NOW_MS) == Cursor("log", session=0, changes=None, audit=None)


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
    cursor = load(path, "log", NOW_MS)
    assert (cursor.log_id, cursor.changes, cursor.audit) == ("log", 0, 0)


def test_a_lost_file_costs_repetitions_and_no_event(path: Path) -> None:
    cursor = load(path, "log", NOW_MS)
    assert (cursor.log_id, cursor.changes, cursor.audit) == ("log", 0, 0)


def test_after_a_loss_no_session_is_used_twice(path: Path) -> None:
    """Not even where a connection was tried every second since the file was there last."""
    assert load(path, "log", NOW_MS).session == NOW_MS // 1000
    path.write_bytes(b"garbage")
    assert load(path, "log", NOW_MS).session == NOW_MS // 1000


def test_of_a_log_that_follows_a_lost_one_everything_is_owed_and_sessions_go_on(path: Path) -> None:
    save(path, Cursor("old", session=7, changes=500, audit=300))
    assert load(path, "new", NOW_MS) == Cursor("new", session=7, changes=0, audit=0)


def test_a_new_vault_is_owed_nothing_and_goes_on_from_the_sessions_of_an_older_one(path: Path) -> None:
    save(path, Cursor("old", session=7, changes=500, audit=300))
    begin(path, "new")
    assert load(path, "new", NOW_MS) == Cursor("new", session=7, changes=None, audit=None)
    save(path, Cursor("old", session=7))
    assert load(path, "new", NOW_MS) == Cursor("new", session=7, changes=None, audit=None)


def test_a_power_cut_leaves_the_cursor_before(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(path, Cursor("log", session=1))
    spy(monkeypatch, "replace").cut_power()
    with pytest.raises(PowerCut):
        save(path, Cursor("log", session=2))
    assert load(path, "log", NOW_MS).session == 1

"""rotate, restore, rm, ls and info."""

from __future__ import annotations

import json
from typing import Any

import pytest

from secretsd.cli import carried
from tests.unit.cli.conftest import Ctl, Terminal
from tests.unit.cli.fake_daemon import FakeDaemon


def test_rotate_sends_all_names_in_one_request(daemon: FakeDaemon, ctl: Ctl) -> None:
    daemon.plant("one", "1")
    daemon.plant("two", "2")
    result = ctl("rotate", "one", "two", "one", "--grace", "1h", "--urgent", "--reason", "leaked")
    assert result.exit_code == 0
    assert [line.split(":")[0] for line in result.stdout.splitlines()] == ["rotated one", "rotated two"]
    body = daemon.calls("POST", "/rotate")[0].body
    assert body == {"names": ["one", "two"], "grace_period": "1h", "urgent": True, "reason": "leaked"}


def test_rotate_takes_the_value_that_another_issued(daemon: FakeDaemon, ctl: Ctl) -> None:
    daemon.plant("brave_api_key", "old")
    assert ctl("rotate", "brave_api_key", "--value-file", "-", stdin=b"pl4nted\n").exit_code == 0
    assert daemon.value("brave_api_key") == "pl4nted"


def test_rotate_takes_bytes_that_are_no_text(daemon: FakeDaemon, ctl: Ctl) -> None:
    daemon.plant("blob", "old")
    assert ctl("rotate", "blob", "--value-file", "-", stdin=b"\xff\xfe").exit_code == 0
    assert daemon.secrets["blob"].values[2] == ("//4=", "base64")


def test_rotate_takes_one_value_for_one_name_only(daemon: FakeDaemon, ctl: Ctl) -> None:
    assert ctl("rotate", "one", "two", "--value-file", "-", stdin=b"x").exit_code == 2
    assert daemon.seen == []


def test_rotate_suggests_the_name_that_was_meant(daemon: FakeDaemon, ctl: Ctl) -> None:
    daemon.plant("postgres_password", "x")
    result = ctl("rotate", "postgre_password")
    assert result.exit_code == 1
    assert "did you mean postgres_password?" in result.stderr


def test_rotate_names_the_one_of_several_that_is_in_the_way(daemon: FakeDaemon, ctl: Ctl) -> None:
    daemon.plant("one", "x")
    result = ctl("rotate", "one", "missing", "three")
    assert result.exit_code == 1
    assert "error: missing: Do something about not-found. Nothing was rotated." in result.stderr


def test_restore_brings_an_old_value_back(daemon: FakeDaemon, ctl: Ctl) -> None:
    daemon.plant("note", "good")
    daemon.plant("note", "bad")
    result = ctl("restore", "note", "1")
    assert result.stdout.startswith("restored note: version 3")
    assert daemon.value("note") == "good"


def test_rm_deletes_what_it_is_told_to(daemon: FakeDaemon, ctl: Ctl) -> None:
    for name in ("one", "two", "three"):
        daemon.plant(name, "x")
    result = ctl("rm", "one", "two", "--yes")
    assert (result.exit_code, result.stdout) == (0, "deleted one\ndeleted two\n")
    assert list(daemon.secrets) == ["three"]


def test_rm_without_a_person_to_ask_needs_yes(daemon: FakeDaemon, ctl: Ctl) -> None:
    daemon.plant("one", "x")
    assert ctl("rm", "one", stdin=b"y\n").exit_code == 2
    assert list(daemon.secrets) == ["one"]


@pytest.mark.parametrize(("answer", "status", "left"), [("n", 1, ["one"]), ("y", 0, [])])
def test_rm_asks_a_person(daemon: FakeDaemon, terminal: Terminal, answer: str, status: int, left: list[str]) -> None:
    daemon.plant("one", "x")
    ended, shown = terminal("rm", "one", typed=[("[y/N]: ", answer)])
    assert ended == status, shown
    assert list(daemon.secrets) == left


def test_rm_tells_what_was_deleted_before_a_refusal(daemon: FakeDaemon, ctl: Ctl) -> None:
    daemon.plant("one", "x")
    result = ctl("rm", "one", "missing", "--yes", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {"deleted": ["one"]}


def test_ls_lists_by_name_without_values(daemon: FakeDaemon, ctl: Ctl) -> None:
    daemon.plant("zeta", "pl4nted")
    daemon.plant("alpha", "pl4nted", status="expiring", expires_at="2030-01-01T00:00:00.000Z")
    lines = ctl("ls").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", "alpha", "zeta"]
    assert "expiring" in lines[1]
    assert "never" in lines[2]
    assert daemon.calls("GET", "/secret/") == []


def test_ls_in_a_pipe_keeps_each_secret_on_a_line(daemon: FakeDaemon, ctl: Ctl) -> None:
    name = "a" * 128
    daemon.plant(name, "old")
    daemon.plant(name, "new")
    lines = ctl("ls", env={"COLUMNS": "40"}).stdout.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith(name + " ")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["*_key"], ["b_key", "c_key"]),
        (["?_key", "--status", "expired"], ["c_key"]),
        (["--sort", "expiry"], ["c_key", "a_token", "b_key"]),
        (["[ab]*"], []),
    ],
)
def test_ls_selects_and_sorts(daemon: FakeDaemon, ctl: Ctl, options: list[str], expected: list[str]) -> None:
    daemon.plant("a_token", "x", expires_at="2030-01-01T00:00:00.000Z")
    daemon.plant("b_key", "x")
    daemon.plant("c_key", "x", status="expired", expires_at="2020-01-01T00:00:00.000Z")
    found = json.loads(ctl("ls", "--json", *options).stdout)["secrets"]
    assert [one["name"] for one in found] == expected


def test_ls_on_a_terminal_has_colours_unless_no_color(daemon: FakeDaemon, terminal: Terminal) -> None:
    daemon.plant("one", "x", status="expired")
    assert "\x1b[1;31mexpired" in terminal("ls")[1]
    assert "\x1b[1;31m" not in terminal("ls", env={"NO_COLOR": "1"})[1]


def test_info_fetches_no_value(daemon: FakeDaemon, ctl: Ctl) -> None:
    daemon.plant("note", "pl4nted")
    daemon.plant("note", "pl4nted")
    result = ctl("info", "note")
    assert daemon.kid("note") in result.stdout
    assert daemon.kid("note", 1) in result.stdout
    assert "pl4nted" not in result.stdout
    assert [seen.path for seen in daemon.seen] == ["/secrets"]
    assert json.loads(ctl("--json", "info", "note").stdout)["version"] == 2


def test_info_of_an_unknown_name_suggests_one(daemon: FakeDaemon, ctl: Ctl) -> None:
    daemon.plant("home_assistant_token", "x")
    result = ctl("info", "homeassistant_token")
    assert result.exit_code == 1
    assert "did you mean home_assistant_token?" in result.stderr


def test_what_the_daemon_says_is_never_taken_for_markup_or_for_escapes(daemon: FakeDaemon, ctl: Ctl) -> None:
    daemon.plant("note", "x", type="external", rotation="manual", expires_at="[bold]\x1b[31mred")
    shown = ctl("ls").stdout
    assert "[bold]" in shown
    assert "\x1b" not in shown


PENDING: dict[str, Any] = {
    "version": 2,
    "step": "set",
    "since": "2026-11-01T00:00:00.000Z",
    "attempts": 6,
    "next_attempt": "2031-01-15T00:00:00.000Z",
    "failure": "set: [red]down",
    "failing": True,
}


def test_a_rotation_that_is_known_to_fail_is_told_with_its_reason_and_is_no_success(
    daemon: FakeDaemon, ctl: Ctl
) -> None:
    daemon.plant("db_password", "x", pending=PENDING)
    result = ctl("rotate", "db_password")
    assert result.exit_code == 1
    assert result.stdout.startswith("not rotated yet, db_password: version 2 is on its way since 2026-11-01")
    assert "6 failed, the last one for: set: [red]down" in result.stdout
    assert "rotation fails" in ctl("ls").stdout
    assert "set: [red]down" in ctl("info", "db_password").stdout
    assert ctl("restore", "db_password", "1").exit_code == 1


def test_a_tidying_up_that_fails_is_not_called_a_failing_rotation(daemon: FakeDaemon, ctl: Ctl) -> None:
    daemon.plant("db_password", "x", pending={**PENDING, "step": "finish"})
    shown = ctl("ls").stdout
    assert "tidying up fails" in shown
    assert "rotation fails" not in shown


def test_a_rotation_that_is_on_its_way_is_waited_for(
    daemon: FakeDaemon, ctl: Ctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = daemon.plant("db_password", "x", pending={**PENDING, "failing": False, "failure": None, "attempts": 0})
    assert ctl("rotate", "db_password", "--no-wait").stdout.startswith("not rotated yet")
    assert daemon.calls("GET", "/secrets") == []
    assert "rotating" in ctl("ls").stdout
    monkeypatch.setattr(carried.time, "sleep", lambda _: held.facts.pop("pending", None))
    result = ctl("rotate", "db_password")
    assert result.exit_code == 0
    assert result.stdout.startswith("rotated db_password: version")


def test_a_rotation_is_given_up_by_name(daemon: FakeDaemon, ctl: Ctl) -> None:
    daemon.plant("db_password", "x", pending=PENDING)
    assert ctl("rotate", "--cancel", "db_password").stdout.startswith("cancelled db_password: version 1")
    assert ctl("rotate", "--cancel", "db_password", "--urgent").exit_code == 2

"""The commands around a template's file: how they are executed, and what is shown of what they print."""

from __future__ import annotations

from pathlib import Path

import pytest

from secretsd.cli.rendering.commands import Order, Outcome, execute, presentable
from secretsd.cli.running.child import CannotFind, CannotStart


def test_words_are_split_as_a_shell_does_without_one() -> None:
    order = Order("check 'a b' --file={} $HOME")
    assert order.words(Path("/x y")) == ["check", "a b", "--file=/x y", "$HOME"]
    assert order.names_file
    assert not Order("nginx -t").names_file


def test_a_shell_gets_the_file_s_name_as_one_word() -> None:
    assert Order("check {} | cat", shell=True).words(Path("/x; y")) == ["/bin/sh", "-c", "check '/x; y' | cat"]


def test_a_program_that_is_not_there_is_noticed_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(CannotFind):
        Order("no-such-program-here").find()
    (tmp_path / "plain").touch()
    with pytest.raises(CannotStart):
        Order(str(tmp_path / "plain")).find()


async def test_what_it_prints_is_kept_and_our_token_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JARVIS_CLIENT_TOKEN", "token-of-ours")
    outcome = await execute(Order('echo "$JARVIS_CLIENT_TOKEN" there >&2; exit 3', shell=True), None, 10)
    assert outcome == Outcome(3, " there\n")


async def test_a_command_that_takes_too_long_is_ended_with_all_that_it_started() -> None:
    outcome = await execute(Order("sleep 100 | sleep 100", shell=True), None, 0.05)
    assert outcome.status is None
    assert not outcome.ok


async def test_what_it_leaves_in_the_background_is_not_waited_for() -> None:
    assert (await execute(Order("sleep 2 &", shell=True), None, 10)).ok


async def test_a_program_that_went_away_has_the_status_that_shells_give() -> None:
    assert (await execute(Order("/no/such/program"), None, 10)).status == 127


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        ('unknown directive "hunter2" in /etc/nginx.conf:3', "unknown directive [hidden] in /etc/nginx.conf:3"),
        ("near unter", "near [hidden]"),
        ("base64 aHVudGVyMg== is odd", "base64 [hidden] is odd"),
        ("directive add_header is not allowed", "directive add_header is not allowed"),
        ("pin ab; is short", "pin [hidden] is short"),
    ],
)
def test_words_with_a_piece_of_a_value_are_hidden(printed: str, shown: str) -> None:
    sources = ["add_header X {{ secret('a') }} {{ secret('a') | b64 }} {{ secret('b') }};"]
    assert presentable(printed, sources, [b"add_header X hunter2 aHVudGVyMg== ab;"]) == [shown]


async def test_of_much_that_it_prints_the_end_is_kept() -> None:
    outcome = await execute(Order("seq 50000; echo the reason; exit 1", shell=True), None, 10)
    assert presentable(outcome.printed, [], [])[-2:] == ["50000", "the reason"]
    assert outcome.printed.split()[0] != "1"


async def test_a_value_that_the_cut_goes_through_leaves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "printed"
    file.write_text("hunter2 " + "y " * 32_766)  # "er2" would be left of the last 64 KiB
    outcome = await execute(Order("cat {}"), file, 10)
    assert set(outcome.printed.split()) == {"y"}

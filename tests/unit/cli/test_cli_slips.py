"""A slip in a command's name is a usage error that says what may have been meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cli.conftest import Ctl
from tests.unit.cli.fake_daemon import FakeDaemon


def test_a_mistyped_command_brings_the_one_that_comes_near(ctl: Ctl) -> None:
    result = ctl("statsu")
    assert result.exit_code == 2
    assert "there is no command 'statsu'; did you mean status?" in result.stderr


def test_what_comes_near_nothing_is_refused_without_a_guess(ctl: Ctl) -> None:
    result = ctl("xyzzy")
    assert result.exit_code == 2
    assert "did you mean" not in result.stderr


@pytest.mark.parametrize("group", ["audit", "backup", "broker", "key", "policy", "recovery", "vault"])
def test_the_help_of_a_group_cuts_no_sentence(ctl: Ctl, group: str) -> None:
    listed = ctl(group, "--help").stdout.partition("Commands:")[2]
    assert listed.strip()
    assert "..." not in listed


@pytest.mark.parametrize(
    "args",
    [("restore", "a", "x"), ("tail", "--count", "x"), ("schedule", "--days", "x"), ("scan", ".", "--min-length", "x")],
)
def test_what_is_no_number_is_said_to_be_none(ctl: Ctl, args: tuple[str, ...]) -> None:
    result = ctl(*args)
    assert result.exit_code == 2
    assert "'x' is not a valid whole number." in result.stderr


def test_an_empty_passphrase_is_not_called_a_value(ctl: Ctl) -> None:
    result = ctl("key", "rotate", "passphrase")
    assert result.exit_code == 2
    assert "the passphrase is empty" in result.stderr


def test_a_file_without_variables_leaves_nothing_to_do(ctl: Ctl, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# nothing\n")
    result = ctl("import-env", str(tmp_path / ".env"))
    assert result.exit_code == 0
    assert "nothing to do\n" in result.stdout


@pytest.mark.parametrize("name", ["hup", "HUP", "SIGHUP", "sighup"])
def test_a_signal_has_its_name_as_kill_takes_it(ctl: Ctl, name: str) -> None:
    result = ctl("run", "--all", "--signal", name, "--", "true")
    assert result.exit_code == 125
    assert "--signal needs --files" in result.stderr


@pytest.mark.parametrize(
    ("args", "call", "refusal", "hint"),
    [
        (("rotate", "a"), "POST /rotate", (422, "value-required"), "secretsctl rotate NAME --value-file FILE"),
        (("get", "a", "--version", "7"), "GET /secret/a", (404, "version-not-found"), "secretsctl info NAME"),
        (("restore", "a", "7"), "POST /secret/a/restore", (404, "version-not-found"), "secretsctl info NAME"),
    ],
)
def test_what_the_daemon_misses_is_hinted_at_as_a_command(
    ctl: Ctl, daemon: FakeDaemon, args: tuple[str, ...], call: str, refusal: tuple[int, str], hint: str
) -> None:
    daemon.plant("a", "v")
    daemon.refusals[call] = [refusal]
    result = ctl(*args)
    assert result.exit_code == 1
    assert hint in result.stderr.partition("hint: ")[2]

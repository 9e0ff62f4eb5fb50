"""A slip in a command's name is a usage error that says what may have been meant."""

from __future__ import annotations

from tests.unit.cli.conftest import Ctl


def test_a_mistyped_command_brings_the_one_that_comes_near(ctl: Ctl) -> None:
    result = ctl("statsu")
    assert result.exit_code == 2
    assert "there is no command 'statsu'; did you mean status?" in result.stderr


def test_what_comes_near_nothing_is_refused_without_a_guess(ctl: Ctl) -> None:
    result = ctl("xyzzy")
    assert result.exit_code == 2
    assert "did you mean" not in result.stderr

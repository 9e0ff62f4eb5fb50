"""secretsctl run: which secrets go where, and what is refused before anything is started."""

from __future__ import annotations

import pytest

from secretsd.cli.running.choice import BadChoice, Choice, Plan, environment, parse_variable, plan
from secretsd.cli.running.folder import Difference
from secretsd.cli.running.supervisor import AT_ONCE_SECS, obituary

READABLE = ["app_db.password", "app_token", "ld_preload", "9lives"]


@pytest.mark.parametrize(
    ("text", "pair"),
    [("DB=app_token", ("DB", "app_token")), ("app_db.password", ("APP_DB_PASSWORD", "app_db.password"))],
)
def test_a_variable_is_named_or_named_after_its_secret(text: str, pair: tuple[str, str]) -> None:
    assert parse_variable(text) == pair


@pytest.mark.parametrize("text", ["=x", "1X=app", "A B=app", "DB=", "DB=s3cr3t value", "9lives"])
def test_what_is_no_variable_or_no_secret_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(BadChoice) as refused:
        parse_variable(text)
    assert "s3cr3t" not in str(refused.value)


def test_globs_become_variables_in_upper_case_behind_the_prefix() -> None:
    chosen = plan(Choice(globs=("app_*",), prefix="MY_"), READABLE)
    assert chosen.variables == {"MY_APP_DB_PASSWORD": "app_db.password", "MY_APP_TOKEN": "app_token"}


def test_globs_become_files_and_named_ones_stay_variables() -> None:
    chosen = plan(Choice(variables=(("T", "app_token"),), globs=("app_db*",), as_files=True), READABLE)
    assert chosen == Plan({"T": "app_token"}, ("app_db.password",))
    assert chosen.secrets == ("app_db.password", "app_token")


def test_a_secret_with_a_variable_of_its_own_gets_no_second_one() -> None:
    assert plan(Choice((("T", "app_token"),), ("app_token",)), READABLE).variables == {"T": "app_token"}


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (Choice(globs=("other_*",)), "matches other_"),
        (Choice(globs=("app_tokne",)), "matches app_tokne; did you mean app_token"),
        (Choice(globs=("ld_*",)), "decides what programs run"),
        (Choice(globs=("9*",)), "makes no variable's name"),
        (Choice(variables=(("T", "a"), ("T", "b"))), "would both be T"),
    ],
)
def test_a_choice_that_makes_no_sense_is_refused(choice: Choice, words: str) -> None:
    with pytest.raises(BadChoice, match=words):
        plan(choice, READABLE)


def test_a_steering_variable_is_possible_where_it_is_named() -> None:
    assert plan(Choice(variables=(("LD_PRELOAD", "ld_preload"),)), []).variables == {"LD_PRELOAD": "ld_preload"}


def test_only_a_changed_variable_needs_a_restart() -> None:
    both = Plan({"T": "app_token"}, ("cert",))
    assert both.needs_restart(["cert", "app_token"])
    assert not both.needs_restart(["cert"])


def test_the_environment_is_ours_without_our_token() -> None:
    base = {b"PATH": b"/bin", b"JARVIS_CLIENT_TOKEN": b"ours", b"DB": b"old"}
    assert environment(base, {"DB": b"\xff"}) == {b"PATH": b"/bin", b"DB": b"\xff"}


def test_a_nul_byte_fits_no_variable() -> None:
    with pytest.raises(BadChoice, match="--files"):
        environment({}, {"DB": b"a\0b"})


def test_an_end_is_reported_only_soon_after_a_change_and_with_an_error() -> None:
    changed = [Difference("db", 1, 2)]
    said = obituary("app", 1, changed, 0.3)
    assert said is not None
    assert "status 1 0.3 s after it was told of db (version 2)" in said.message
    assert said.hint is not None
    assert "secretsctl restore db 1" in said.hint
    assert obituary("app", 0, changed, 0.3) is None
    assert obituary("app", 1, [], 0.3) is None
    assert obituary("app", 1, changed, AT_ONCE_SECS + 1) is None

"""From a .env file and a table to a plan: nothing is asked, nothing is guessed about ${…}."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from dotenv import dotenv_values

from secretsd.cli.errors import Failed
from secretsd.cli.moving import table
from secretsd.cli.moving.envfile import EnvFile, parse
from secretsd.cli.moving.plan import Choice, looks_secret, make_plan, secret_name
from secretsd.crypto.sensitive import Sensitive

ALL = table.parse("* keep", "here")


def envfile(text: str) -> EnvFile:
    return EnvFile(Path(".env"), Sensitive(text.encode()), parse(text))


def planned(text: str, choice: Choice | None = None, rules: table.Table = ALL) -> dict[str, str]:
    """Return what is taken, or why not, by variable (or secret, where there is none)."""
    return {
        one.key or one.name: one.value.reveal().decode()
        if one.action == "keep" and one.value is not None
        else f"- {one.action} {one.reason}".rstrip()
        for one in make_plan(envfile(text), rules, choice or Choice())
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=first\nA=second\n", {"A": "second"}),
        ("A=1\na=2\n", {"A": "1", "a": "- leave A has the name a already"}),
        ("a-b.c=1\n", {"a-b.c": "1"}),
        ("export A='x y' # c\n", {"A": "x y"}),
        ('A="x\ny"\n', {"A": "x\ny"}),
        (f"A={'x' * 65_537}\n", {"A": "- leave over 64 KiB"}),
        ("'___'=1\n", {"___": "- leave no secret can have this name: give it another in --map"}),
        ("A=1\n= oops\n", {"A": "1", "": "- leave line 2: not understood, and services skip it too: is a quote open?"}),
        (
            'A=1\n\nB="open\nC=2\nD="x"\nE=3\n',
            {
                "A": "1",
                "": "- leave lines 3 to 5: not understood, and services skip it too: is a quote open?",
                "E": "3",
            },
        ),
        ("A='1\r\n2'\r\nB=\"1\r2\\r\\n\"\r\nC=3\r\n", {"A": "1\n2", "B": "1\n2\r\n", "C": "3"}),
        ("A\nB=\n", {"A": "- leave empty", "B": "- leave empty"}),
        ("", {}),
    ],
)
def test_the_plan_for_odd_lines(text: str, expected: dict[str, str]) -> None:
    assert planned(text) == expected


def test_a_reference_in_a_secret_is_nobodys_guess() -> None:
    with pytest.raises(Failed, match=r"value of B \(line 2\)") as failed:
        planned("A=1\nB=pl4nted${A}\n")
    assert "pl4nted" not in failed.value.message
    assert planned("A=1\nB=p${A}q\n", Choice(expand=True)) == {"A": "1", "B": "p1q"}
    assert planned("A=1\nB=p${A}q\n", Choice(expand=False)) == {"A": "1", "B": "p${A}q"}


def test_a_reference_in_what_stays_is_no_matter() -> None:
    rules = table.parse("A keep", "here")
    assert planned("A=1\nB=${NOWHERE}\n", rules=rules) == {"A": "1", "B": "- leave"}
    assert planned("A=1\nB=${NOWHERE}\n", Choice(expand=True), rules) == {"A": "1", "B": "- leave"}


def test_a_name_that_no_line_before_sets_is_no_empty_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL_ONLY", "the operator's own")
    with pytest.raises(Failed, match="line 1: B refers to a name that no line before it sets"):
        planned("B=${SHELL_ONLY}\n", Choice(expand=True))
    assert planned("B=${SHELL_ONLY:-d}\n", Choice(expand=True)) == {"B": "d"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("FOO=bar\nB=x${FOO}\nFOO=baz\n", "xbar"),
        ("B=a\nB=${B}:b\n", "a:b"),
        ("B=${NOWHERE}\nB=b\n", "b"),
        ("X=1\nFOO=${X}2\nB=${FOO}3\nFOO=baz\n", "123"),
    ],
)
def test_an_expansion_sees_what_the_lines_before_have_set_though_others_set_it_anew(text: str, value: str) -> None:
    expanded = {"B": value}
    assert planned(text, Choice(expand=True), table.parse("B keep", "here")).items() >= expanded.items()
    assert dotenv_values(stream=io.StringIO(text)).items() >= expanded.items()


def test_a_name_that_is_set_by_a_loose_end_is_not_set() -> None:
    with pytest.raises(Failed, match="line 2: B refers"):
        planned("FOO=${NOWHERE}\nB=${FOO}\nFOO=baz\n", Choice(expand=True))


def test_an_expansion_follows_what_it_refers_to() -> None:
    rules = table.parse("C keep", "here")
    assert planned("A=1\nB=${A}2\nC=${B}3\n", Choice(expand=True), rules)["C"] == "123"


def test_the_first_line_of_the_table_that_matches_counts_whatever_the_case() -> None:
    rules = table.parse("a_token leave\n*_TOKEN keep\nJ generate jwt_signing_key\n- random extra", "here")
    assert planned("A_TOKEN=1\nb_token=2\nJ=3\nK=4\n", rules=rules) == {
        "A_TOKEN": "- leave",
        "b_token": "2",
        "J": "- generate",
        "K": "- leave",
        "extra": "- random",
    }


def test_a_variable_to_be_generated_needs_no_value() -> None:
    assert planned("J=\n", rules=table.parse("J generate jwt_signing_key", "here")) == {"J": "- generate"}


def test_what_stays_and_looks_like_a_secret_is_pointed_out() -> None:
    assert looks_secret("postgres://jarvis:geheim@db/x")
    assert looks_secret("sk-proj-0123456789abcdefghij")
    assert not looks_secret("http://homeassistant.local:8123")
    assert not looks_secret("/var/lib/jarvis/data/models/large")
    assert "looks like a secret" in planned("U=amqp://a:b@c\n", rules=table.parse("", "here"))["U"]


@pytest.mark.parametrize(
    ("key", "name"), [("POSTGRES_PASSWORD", "postgres_password"), ("_PRIVATE", "private"), ("A B", "a_b"), ("Ä", "")]
)
def test_a_variables_name_becomes_a_secrets_name(key: str, name: str) -> None:
    assert secret_name(key) == name


def test_the_built_in_table_knows_an_old_installation() -> None:
    text = "".join(
        f"{key}=x\n"
        for key in (
            "JWT_SECRET_KEY", "POSTGRES_PASSWORD", "POSTGRES_USER", "POSTGRES_DB", "HOME_ASSISTANT_TOKEN",
            "HOME_ASSISTANT_URL", "BRAVE_API_KEY", "ACCESS_TOKEN_EXPIRE_MINUTES", "DB_PASSWORD_FILE", "LOG_LEVEL",
        )
    )  # fmt: skip
    steps = {one.key: (one.action, one.name) for one in make_plan(envfile(text), table.builtin(), Choice())}
    assert steps == {
        "JWT_SECRET_KEY": ("generate", "jwt_signing_key"),
        "POSTGRES_PASSWORD": ("keep", "postgres_password"),
        "POSTGRES_USER": ("leave", ""),
        "POSTGRES_DB": ("leave", ""),
        "HOME_ASSISTANT_TOKEN": ("keep", "home_assistant_token"),
        "HOME_ASSISTANT_URL": ("keep", "home_assistant_url"),
        "BRAVE_API_KEY": ("keep", "brave_api_key"),
        "ACCESS_TOKEN_EXPIRE_MINUTES": ("leave", ""),
        "DB_PASSWORD_FILE": ("leave", ""),
        "LOG_LEVEL": ("leave", ""),
    }


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("A", "found 1 words"),
        ("A keep a generic more", "found 5 words"),
        ("A hunter2 a", "no action; allowed are keep, generate, random, leave"),
        ("hunter2=x keep", "no variable's name or glob"),
        ("A keep hunter2! ", "no secret's name"),
        ("A keep a hunter2", "no type; allowed are"),
        ("A leave hunter2", "has no secret's name"),
        ("- keep hunter2", "is for a secret to generate"),
        ("- generate -", "is for a secret to generate"),
        ("*_KEY keep hunter2", "each needs a name"),
        ("A generate a external", "never generated"),
    ],
)
def test_a_mistake_in_a_table_is_named_by_its_line_and_not_quoted(line: str, says: str) -> None:
    with pytest.raises(Failed) as failed:
        table.parse(f"# a comment\n\n{line}\n", "own.map")
    assert failed.value.message.startswith("own.map, line 3: ")
    assert says in failed.value.message
    assert "hunter2" not in failed.value.message + str(failed.value.hint)

"""What the policy becomes in Mosquitto's ACL."""

from __future__ import annotations

from pathlib import Path

import pytest

from secretsd.cli.mosquitto.acl import User, block, users
from secretsd.config import Config, load
from secretsd.policy import parse

EVERYBODYS = (
    "read p/checkpoint/+", "read p/status/+", "read p/keys/+", "read p/audit/audit/key_rotated",
)  # fmt: skip


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "config.toml").write_text('[bus]\ntopic_prefix = "p"\n[homeassistant]\ndiscovery_prefix = "ha"\n')
    return load(tmp_path / "config.toml", {})


def found(config: Config, client: str, *names: str, homeassistant: str | None = None) -> dict[str, tuple[str, ...]]:
    policy = parse(f"clients:\n  c: {{{client}}}\n".encode())
    return {one.name: one.rights for one in users(config, policy, names, daemon="d", homeassistant=homeassistant)}


def of_client(config: Config, client: str, *names: str) -> tuple[str, ...]:
    rights = found(config, client, *names)["c"]
    assert rights[:4] == EVERYBODYS
    return rights[4:]


def test_only_the_daemon_writes_and_it_reads_its_own(config: Config) -> None:
    rights = found(config, 'allow: ["*"], can: [read, write, rotate, delete, audit]')
    assert rights["d"] == ("readwrite p/#", "write ha/#", "read ha/status")
    assert not [right for right in rights["c"] if "write" in right]


def test_who_may_read_a_secret_may_read_its_topics(config: Config) -> None:
    assert of_client(config, "allow: [a, b]", "b", "other") == ("read p/secret/a/+", "read p/secret/b/+")


def test_a_glob_stands_for_the_secrets_that_exist_and_deny_beats_it(config: Config) -> None:
    assert of_client(config, 'allow: ["db_*"], deny: ["*_root"]', "db_a", "db_root", "web") == ("read p/secret/db_a/+",)


def test_who_may_read_all_gets_one_line_and_one_for_each_denied_name(config: Config) -> None:
    assert of_client(config, 'allow: ["*"], deny: [a], can: [read]', "a", "b") == (
        "deny p/secret/a/#", "read p/secret/+/+",
    )  # fmt: skip


def test_a_denied_glob_is_never_left_to_names_that_do_not_exist_yet(config: Config) -> None:
    assert of_client(config, 'allow: ["*"], deny: ["root_*"], can: [read]', "a", "root_a") == ("read p/secret/a/+",)


def test_who_may_not_read_gets_no_secrets_topic(config: Config) -> None:
    assert of_client(config, "allow: [a], can: [write]", "a") == ()


def test_who_may_audit_may_read_the_audits_topics(config: Config) -> None:
    assert of_client(config, "allow: [], can: [audit]") == ("read p/audit/#",)


def test_home_assistant_reads_its_discovery_and_says_only_that_it_is_there(config: Config) -> None:
    rights = found(config, "allow: [a]", homeassistant="home")["home"]
    assert [right for right in rights if right.startswith("write")] == ["write ha/status"]
    assert {"read ha/#", "read p/secret/+/+", "read p/audit/access/+"} <= set(rights)


def test_a_client_that_is_home_assistant_too_is_one_user(config: Config) -> None:
    everyone = found(config, "allow: [a]", homeassistant="c")
    assert set(everyone) == {"c", "d"}
    assert {"read p/secret/a/+", "write ha/status"} <= set(everyone["c"])
    assert len(set(everyone["c"])) == len(everyone["c"])


def test_without_discovery_the_daemon_has_no_right_there(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[homeassistant]\ndiscovery = false\n")
    rights = found(load(tmp_path / "config.toml", {}), "allow: [a]")
    assert rights["d"] == ("readwrite jarvis/secretsd/#",)


def test_the_file_says_for_each_user_what_it_is_there_for() -> None:
    text = block([User("a", "the first", ("read x",)), User("b", "the second", ())])
    assert text == "# the first\nuser a\ntopic read x\n\n# the second\nuser b\n"

"""policy.yaml: what it may hold, and how mistakes are told."""

from __future__ import annotations

import hashlib
import os
import re
import textwrap
from pathlib import Path

import pytest
from msgspec.structs import replace

from secretsd.config import Config
from secretsd.config import load as load_config
from secretsd.errors import EXIT_CONFIG, PolicyError
from secretsd.policy import TokenProof, UidProof, load, parse
from secretsd.policy.rules import BUILT_IN

OLD_INSTALLATION = """
default_deny: true

clients:
  # Admin client - full access for management
  admin:
    allow: ["*"]
    deny: []

  backend:
    allow:
      - jwt_signing_key
      - postgres_password
    deny: []
"""

DIGEST = hashlib.sha256(b"a token").hexdigest()
HOUR = 3_600_000


@pytest.fixture
def config(tmp_path: Path) -> Config:
    file = tmp_path / "config.toml"
    file.touch()
    return load_config(file, {})


def refusal(text: str | bytes) -> str:
    with pytest.raises(PolicyError) as caught:
        parse(text if isinstance(text, bytes) else text.encode())
    assert caught.value.exit_status == EXIT_CONFIG
    return str(caught.value)


def client(members: str) -> str:
    return f"clients:\n  backend: {{{members}}}\n"


def test_the_old_installations_policy_is_taken_as_it_is() -> None:
    policy = parse(OLD_INSTALLATION.encode())
    assert policy.clients["admin"].can == {"read", "write", "rotate", "delete", "audit"}
    assert policy.clients["backend"].can == {"read"}
    assert policy.clients["backend"].allow.patterns == ("jwt_signing_key", "postgres_password")
    assert policy.clients["backend"].auth == ()


def test_the_hash_is_that_of_the_bytes_of_the_file() -> None:
    content = OLD_INSTALLATION.encode()
    assert parse(content).sha256 == hashlib.sha256(content).hexdigest()


def test_a_client_named_by_the_header_alone_is_warned_about() -> None:
    assert any("clients.backend has no auth" in one for one in parse(OLD_INSTALLATION.encode()).warnings)
    assert parse(client("allow: [a], auth: [{uid: 1}]").encode()).warnings == ()


def test_everything_by_default_for_an_allow_of_star_is_warned_about() -> None:
    warnings = parse(OLD_INSTALLATION.encode()).warnings
    assert [one for one in warnings if "may do everything" in one] == [warnings[0]]
    assert not any("may do everything" in one for one in parse(client('allow: ["*"], can: [read]').encode()).warnings)


@pytest.mark.parametrize("allow", ['["*", a]', '["a*"]', '["**"]', "[]"])
def test_only_an_allow_of_exactly_star_defaults_to_everything(allow: str) -> None:
    assert parse(client(f"allow: {allow}").encode()).clients["backend"].can == {"read"}


def test_an_explicit_empty_can_allows_nothing() -> None:
    assert parse(client('allow: ["*"], can: []').encode()).clients["backend"].can == frozenset()


def test_proofs_are_read() -> None:
    text = client(
        f'allow: [a], auth: [{{token_sha256: "{DIGEST.upper()}", not_after: "1970-01-01T01:00:00+00:00"}}, '
        f"{{token_sha256: {'1' * 64}, not_after: 1970-01-01T02:00:00.5Z}}, {{uid: 0}}, {{uid: 4294967294}}]"
    )
    assert parse(text.encode()).clients["backend"].auth == (
        TokenProof(bytes.fromhex(DIGEST), HOUR),
        TokenProof(bytes.fromhex("1" * 64), 2 * HOUR + 500),
        UidProof(0),
        UidProof(4294967294),
    )


def test_a_token_shared_by_clients_is_warned_about() -> None:
    entry = f'{{allow: [x], auth: [{{token_sha256: "{DIGEST}"}}]}}'
    warnings = parse(f"clients: {{a: {entry}, b: {entry}}}".encode()).warnings
    assert [one for one in warnings if "clients a, b share a token" in one]


def test_nothing_under_a_list_is_an_empty_list() -> None:
    rule = parse(b"clients:\n  a:\n    allow:\n    deny:\n").clients["a"]
    assert (rule.allow.patterns, rule.deny.patterns) == ((), ())


def test_a_policy_without_clients_is_warned_about() -> None:
    assert "nobody may do anything" in parse(b"default_deny: true\n").warnings[0]


@pytest.mark.parametrize("word", ["false", "no", "off", "False"])
def test_default_deny_false_is_refused(word: str) -> None:
    assert "line 2: default_deny" in refusal(f"\ndefault_deny: {word}\n")


@pytest.mark.parametrize(
    "text",
    [
        "clients: {}\nclients: {}\n",
        "clients:\n  a: {allow: [x]}\n  a: {allow: [y]}\n",
        "clients:\n  a:\n    deny: [x]\n    allow: [x]\n    deny: []\n",
        "clients:\n  a:\n    auth:\n      - {uid: 1, uid: 2}\n",
        "secrets:\n  x: {type: generic}\n  x: {type: password}\n",
        'secrets:\n  x: {type: generic}\n  "x": {type: password}\n',
        "secrets:\n  x: {jwks: false, jwks: true}\n",
    ],
)
def test_doubled_keys_are_refused_at_every_level_with_their_line(text: str) -> None:
    last = max(1, len(text.splitlines()))
    message = refusal(text)
    assert "is there twice" in message
    assert f"line {last}: " in message


@pytest.mark.parametrize(
    ("text", "suggestion"),
    [
        ("client: {}", "clients"),
        (client("alow: [a]"), "allow"),
        (client("capabilities: [read]"), "can"),
        (client("auth: [{token: abc}]"), "token_sha256"),
        ("secrets: {x: {rotation_periods: 3d}}", "rotation_period"),
    ],
)
def test_an_unknown_key_is_refused_with_what_is_allowed(text: str, suggestion: str) -> None:
    assert suggestion in refusal(text).split("unknown key")[1]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("clients:\n  a:\n    allow: [b\n", 4),
        ("clients:\n  a: &x {allow: [b]}\n  c: *x\n", 2),
        ("clients:\n  a: {allow: *x}\n", 2),
        ("clients:\n" + "[" * 100_000, 2),
        ("clients: {}\n---\nclients: {}\n", 2),
    ],
)
def test_what_is_no_plain_yaml_is_refused_with_its_line(text: str, line: int) -> None:
    assert refusal(text).startswith(f"policy.yaml, line {line}: ")


@pytest.mark.parametrize("content", [b"", b"# nothing\n", b"---\n"])
def test_an_empty_file_is_no_policy(content: bytes) -> None:
    refusal(content)


def test_bytes_that_are_no_text_are_refused() -> None:
    assert "line 2: not UTF-8" in refusal(b"clients:\n  \xff: {}\n")
    assert "characters" in refusal(b"clients: \x00\n")
    assert "1 MiB" in refusal(b"#" * (1024 * 1024 + 1))


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "clients: []",
        "clients: {on: {}}",
        "clients: {1: {}}",
        "clients: {a: }",
        "clients: {a: [x]}",
        "clients: {a b: {}}",
        "clients: {secretsd: {}}",
        "clients: {<<: {a: {}}}",
        "clients: !!python/object/apply:os.system [id]",
        client("allow: a"),
        client("allow: [1]"),
        client("allow: [yes]"),
        client("allow: ['a[0-9]']"),
        client("allow: ['']"),
        client("deny: [['a']]"),
        client("can: read"),
        client("can: [reed]"),
        client("can: "),
        client("can: [1]"),
        client("auth: "),
        client("auth: {uid: 1}"),
        client("auth: [1001]"),
        client("auth: [{}]"),
        client("auth: [{uid: -1}]"),
        client("auth: [{uid: 010}]"),
        client("auth: [{uid: '1001'}]"),
        client("auth: [{uid: 4294967295}]"),
        client("auth: [{uid: 1, not_after: 2027-01-01T00:00:00Z}]"),
        client("auth: [{not_after: 2027-01-01T00:00:00Z}]"),
        client(f"auth: [{{uid: 1, token_sha256: '{DIGEST}'}}]"),
        client(f"auth: [{{token_sha256: '{DIGEST[1:]}'}}]"),
        client(f"auth: [{{token_sha256: '{DIGEST}', not_after: 2027-01-01}}]"),
        client(f"auth: [{{token_sha256: '{DIGEST}', not_after: '2027-01-01T00:00:00'}}]"),
        client(f"auth: [{{token_sha256: '{DIGEST}', not_after: '2027-02-30T00:00:00Z'}}]"),
        client(f"auth: [{{token_sha256: '{DIGEST}', not_after: never}}]"),
        "secrets: []",
        "secrets: {x: password}",
        "secrets: {x y: {}}",
        "secrets: {x: {type: secret}}",
        "secrets: {x: {rotation: automatic}}",
        "secrets: {x: {rotation: yes}}",
        "secrets: {x: {rotation_period: 90}}",
        "secrets: {x: {rotation_period: 0s}}",
        "secrets: {x: {grace_period: 5 d}}",
        "secrets: {x: {rotation_days: 0}}",
        "secrets: {x: {rotation_days: 90d}}",
        "secrets: {x: {grace_days: 36501}}",
        "secrets: {x: {rotation_days: 3, rotation_period: 3d}}",
        "secrets: {x: {jwks: 1}}",
        client("consumer: 1"),
        client("consumer: no_one"),
        "secrets: {x: {grace: until-all-moved}}",
        "secrets: {x: {grace: until-converged, grace_period: never}}",
        "secrets: {x: {grace: until-converged, grace_days: 0}}",
        "secrets: {x: {type: password, jwks: true}}",
    ],
)
def test_what_does_not_fit_is_refused_with_its_line(text: str) -> None:
    assert "\n  line " in refusal(text)


@pytest.mark.parametrize("nothing", [b"", b"\n"])
def test_the_hash_of_an_empty_token_is_refused(nothing: bytes) -> None:
    assert "empty token" in refusal(client(f"auth: [{{token_sha256: '{hashlib.sha256(nothing).hexdigest()}'}}]"))


def test_a_token_put_in_place_of_its_hash_is_not_repeated() -> None:
    for members in (
        "token_sha256: s3kr1t-t0ken",
        "token: s3kr1t-t0ken",
        "token_sha256: [s3kr1t-t0ken]",
        "uid: s3kr1t-t0ken",
    ):
        assert "s3kr1t" not in refusal(client(f"auth: [{{{members}}}]"))


def test_all_mistakes_are_told_together() -> None:
    message = refusal("default_deny: false\nclients:\n  a: {allow: [1]}\n  b: {can: [reed]}\nsecrets: {x: {type: y}}\n")
    assert [line[2:8] for line in message.splitlines()[1:]] == ["line 1", "line 3", "line 4", "line 5"]


def test_a_rule_of_the_file_says_what_it_says() -> None:
    rule = parse(
        b"secrets:\n  session_*: {type: generic, rotation: auto, rotation_period: 12h, grace_period: never}\n"
        b"  db: {rotation_days: 30, grace_days: 0}\n"
    ).rules
    assert (rule[0].type, rule[0].rotation, rule[0].rotation_ms, rule[0].grace_ms) == (
        "generic",
        "auto",
        12 * HOUR,
        None,
    )
    assert (rule[1].type, rule[1].rotation_ms, rule[1].grace_ms) == (None, 30 * 24 * HOUR, 0)


def test_a_rule_and_a_client_say_how_a_grace_ends() -> None:
    policy = parse(
        b"clients:\n  a: {consumer: false}\n  b: {consumer: true}\n  c: {}\n"
        b"secrets:\n  x: {grace: until-converged}\n  y: {grace: until-converged, grace_period: 1s}\n"
        b"  z: {grace: period}\n"
    )
    assert [policy.clients[name].consumer for name in "abc"] == [False, True, True]
    assert [policy.rule_for(name).converges for name in ("x", "y", "z", "other")] == [True, True, False, False]
    assert policy.rule_for("y").grace_ms == 1000


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ("x: {jwks: true}", "secrets.x: jwks: true publishes signing keys only"),
        ("db_password: {jwks: true}", "secrets.db_password: jwks: true publishes signing keys only"),
        ("x: {rotation: auto, rotation_period: never}", "secrets.x: rotation: auto has no effect"),
        ("jwt_signing_key: {jwks: true, rotation: auto}", None),
        ('"jwt_*": {jwks: true, rotation: auto}', None),
        ('app_jwt: {jwks: true}\n  "*_jwt": {type: jwt_signing_key}', None),
        ("x: {rotation: auto, rotation_period: 1d}", None),
        ("x: {rotation: auto, rotation_schedule: '@daily'}", None),
    ],
)
def test_what_a_rule_says_without_effect_is_warned_about(rules: str, said: str | None) -> None:
    warnings = parse(f"clients: {{a: {{auth: [{{uid: 1}}]}}}}\nsecrets:\n  {rules}\n".encode()).warnings
    told = [one for one in warnings if "jwks: true publishes" in one or "no effect" in one]
    assert [said is not None and one.startswith(said) for one in told] == ([] if said is None else [True])


def test_a_rule_that_takes_the_place_of_a_built_in_one_is_warned_about() -> None:
    warnings = parse(b"clients: {}\nsecrets: {jwt_signing_key: {rotation_period: 30d}}\n").warnings
    assert any("secrets.jwt_signing_key" in one and "rotation: auto, jwks: true" in one for one in warnings)


def test_an_external_secret_that_a_rule_lets_rotate_is_warned_about() -> None:
    for rules in ("{x: {type: external, rotation: auto}}", "{brave_api_key: {rotation: auto}}"):
        assert any("external" in one for one in parse(f"clients: {{}}\nsecrets: {rules}\n".encode()).warnings)


def test_loading_names_the_file(tmp_path: Path, config: Config) -> None:
    path = tmp_path / "policy.yaml"
    with pytest.raises(PolicyError, match=r"policy\.yaml doesn't exist.*secretsctl init"):
        load(path, config)
    with pytest.raises(PolicyError, match="can't be read"):
        load(tmp_path, config)
    path.write_text(OLD_INSTALLATION, encoding="utf-8")
    assert set(load(path, config).clients) == {"admin", "backend"}
    path.write_text("clients: 1\n", encoding="utf-8")
    with pytest.raises(PolicyError) as caught:
        load(path, config)
    assert str(path) in str(caught.value)


def test_a_pipe_is_no_policy_and_is_not_waited_for(tmp_path: Path, config: Config) -> None:
    path = tmp_path / "policy.yaml"
    os.mkfifo(path)
    with pytest.raises(PolicyError, match="can't be read: not a regular file"):
        load(path, config)


def test_a_handed_over_policy_is_read_and_called_by_the_files_name(tmp_path: Path, config: Config) -> None:
    path, handed_over = tmp_path / "policy.yaml", tmp_path / "secretsd-policy"
    handed_over.write_text(OLD_INSTALLATION, encoding="utf-8")
    config = replace(config, policy_credential=handed_over)
    assert set(load(path, config).clients) == {"admin", "backend"}
    handed_over.write_text("clients: 1\n", encoding="utf-8")
    with pytest.raises(PolicyError, match=str(path)):
        load(path, config)


def test_the_documentations_example_and_built_in_rules_are_true() -> None:
    page = (Path(__file__).parents[3] / "docs/policy.md").read_text(encoding="utf-8")
    example, built_in, *more = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert parse(example.encode()).warnings == ()
    assert parse(f"secrets:\n{textwrap.indent(built_in, '  ')}".encode()).rules == BUILT_IN * 2
    for other in more:
        said = parse(f"clients: {{a: {{}}}}\n{other}".encode()).warnings
        assert not [one for one in said if one.startswith("secrets.")]


@pytest.mark.parametrize(
    ("rule", "lost"),
    [
        ("app_url: {type: password}", "built-in rule *_url and doesn't repeat its rotation_period: never"),
        ("app_url: {rotation: manual}", "built-in rule *_url and doesn't repeat its rotation_period: never"),
        ('"*_url": {type: external}', "built-in rule *_url and doesn't repeat its rotation_period: never"),
        ("disk_encryption_key: {rotation_period: 90d}", "*_encryption_key and doesn't repeat its grace_period: never"),
        ("jwt_signing_key: {rotation_period: 90d}", "doesn't repeat its rotation: auto, jwks: true"),
        ("app_url: {type: password, rotation_period: never}", None),
        ("db_password: {rotation_period: 90d}", None),
        ('"app_*": {type: password}', None),
    ],
)
def test_what_a_built_in_rule_said_and_the_one_in_its_place_does_not_is_warned_about(
    rule: str, lost: str | None
) -> None:
    said = [one for one in parse(f"clients: {{a: {{}}}}\nsecrets:\n  {rule}\n".encode()).warnings if "built-in" in one]
    assert len(said) == (lost is not None)
    assert lost is None or lost in said[0]

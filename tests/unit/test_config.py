"""config.toml: what it may say, what it means, and how mistakes are told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from secretsd.config import Address, Config, load
from secretsd.errors import EXIT_CONFIG, ConfigError

DAY = 86_400_000

OLD_INSTALLATION = """
[server]
bind_addr = "127.0.0.1:8081"
allow_unix_socket = false

[paths]
vault_path = "/opt/jarvis/secrets/vault.json"
master_key_path = "/opt/jarvis/secrets/master.key"
audit_path = "/opt/jarvis/audit/audit.jsonl"

[security]
rotation_days = 90
grace_days = 14
require_client_id_header = true
deny_network_remote = true
rbac_policy_path = "/etc/jarvis-secretsd/policy.yaml"

[crypto]
aead = "aes-gcm-256"
jwt_sign_algo = "ed25519"
kdf = "argon2id"

[logging]
level = "info"
json = false
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def read(file: Path, text: str, *, rust_log: str | None = None, hostname: str = "nuc") -> Config:
    file.write_text(text, encoding="utf-8")
    return load(file, {} if rust_log is None else {"RUST_LOG": rust_log}, hostname=hostname)


def refusal(file: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(file, text)
    return str(caught.value)


def test_an_empty_file_means_what_the_old_installation_wrote_out(file: Path) -> None:
    assert read(file, "") == read(file, OLD_INSTALLATION)


def test_the_defaults_are_those_of_the_contract(file: Path) -> None:
    config = read(file, "")
    assert config.server.bind_addr == Address("127.0.0.1", 8081)
    assert config.server.allow_unix_socket is False
    assert config.server.unix_socket_path == Path("/run/jarvis-secretsd/secretsd.sock")
    assert config.server.allowed_hosts == ()
    assert config.server.tls is False
    assert config.paths.vault_path == Path("/opt/jarvis/secrets/vault.json")
    assert config.security.rotation_ms == 90 * DAY
    assert config.security.grace_ms == 14 * DAY
    assert config.security.require_client_id_header is True
    assert config.security.deny_network_remote is True
    assert config.security.require_client_auth is False
    assert config.bus.enabled is True
    assert config.bus.url == "mqtt://127.0.0.1:1883"
    assert config.bus.topic_prefix == "jarvis/secretsd"
    assert config.bus.username is None
    assert config.bus.password_file is None
    assert config.bus.audit == "all"
    assert (config.bus.checkpoint_secs, config.bus.spread_ms, config.bus.replay_max_ms) == (10, 200, 7 * DAY)
    assert config.homeassistant.discovery is True
    assert config.homeassistant.discovery_prefix == "homeassistant"
    assert (config.homeassistant.secrets, config.homeassistant.secrets_most) == (("*",), 100)
    assert config.source == file
    assert config.warnings == ()


def test_an_unknown_key_is_refused_with_its_nearest_neighbour(file: Path) -> None:
    text = refusal(file, '[server]\nbind_adress = "127.0.0.1:1"\n')
    assert str(file) in text
    assert 'server.bind_adress: unknown key "bind_adress"; did you mean bind_addr?' in text
    assert "unix_socket_path" in text


def test_a_key_in_the_wrong_section_is_sent_to_the_right_one(file: Path) -> None:
    assert "grace_days belongs into the section [security]" in refusal(file, "[server]\ngrace_days = 3\n")
    assert '"level": this key belongs into the section [logging]' in refusal(file, 'level = "info"\n')


def test_an_unknown_section_is_refused_with_its_nearest_neighbour(file: Path) -> None:
    assert "did you mean [homeassistant]?" in refusal(file, "[home_assistant]\ndiscovery = true\n")


def test_broken_syntax_is_told_with_its_line(file: Path) -> None:
    assert f"{file}, line 3, column" in refusal(file, "[server]\n\nbind_addr = \n")


def test_a_doubled_key_is_broken_syntax(file: Path) -> None:
    assert "line 3" in refusal(file, "[logging]\njson = true\njson = false\n")


def test_all_mistakes_are_told_together(file: Path) -> None:
    text = refusal(
        file,
        '[security]\nrotation_days = "ninety"\n[logging]\njson = 1\nlevle = "info"\n[bus]\nspread_ms = -1\n',
    )
    assert 'security.rotation_days: found "ninety" (a string); allowed: a whole number from 1 to 36500' in text
    assert "logging.json: found 1 (an integer); allowed: true or false" in text
    assert "logging.levle: unknown key" in text
    assert "bus.spread_ms: found -1 (an integer); allowed: a whole number from 0 to 60000" in text


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("[bus]\npassword_file = 918273645\n", "918273645"),
        ('[bus]\npassword = "918273645"\n', "918273645"),
        ('[bus]\nurl = "mqtt://user:918273645@host"\n', "918273645"),
        ("[bus]\nurl = 918273645\n", "918273645"),
        ('[bus]\nusername = ["918273645"]\n', "918273645"),
        ("[server]\ntls_key = 918273645\n", "918273645"),
    ],
)
def test_what_could_be_a_credential_is_not_repeated(file: Path, text: str, secret: str) -> None:
    assert secret not in refusal(file, text)


@pytest.mark.parametrize(
    "line",
    [
        'server.bind_addr = "8081"',
        'server.bind_addr = "127.0.0.1"',
        'server.bind_addr = "127.0.0.1:65536"',
        'server.bind_addr = "::1:8081"',
        'server.bind_addr = "[127.0.0.1]:8081"',
        'server.bind_addr = "vault.lan:8081"',
        "server.bind_addr = 8081",
        'server.allow_unix_socket = "true"',
        'server.unix_socket_path = ""',
        f'server.unix_socket_path = "/run/{"x" * 103}"',
        'server.allowed_hosts = "vault.lan"',
        'server.allowed_hosts = ["http://vault.lan"]',
        'server.allowed_hosts = ["vault.lan:80"]',
        'server.allowed_hosts = ["[vault.lan]"]',
        'paths.vault_path = ""',
        'paths.vault_path = "~/vault.json"',
        'paths.vault_path = "a\\u0000b"',
        'paths.vault_path = "/"',
        'paths.audit_path = "/opt/jarvis/secrets/vault.json"',
        "security.rotation_days = 0",
        "security.rotation_days = 1.5",
        "security.rotation_days = true",
        "security.grace_days = -1",
        "security.grace_days = 36501",
        'security.rotation_period = "90"',
        'security.rotation_period = "0s"',
        "security.rotation_period = 90",
        'crypto.aead = "chacha20"',
        'crypto.jwt_sign_algo = "rs256"',
        'crypto.kdf = "scrypt"',
        'logging.level = "verbose"',
        'bus.url = "http://127.0.0.1:1883"',
        'bus.topic_prefix = "jarvis/#"',
        'bus.topic_prefix = "/jarvis"',
        'bus.node = "my host"',
        "bus.node = 0",
        'bus.audit = "some"',
        "bus.checkpoint_secs = 0",
        "bus.checkpoint_secs = 3601",
        "bus.spread_ms = 60001",
        'bus.replay_max = "a week"',
        'bus.password_file = "/etc/password"',
        'homeassistant.discovery_prefix = ""',
        'homeassistant.secrets = "*"',
        'homeassistant.secrets = ["a b"]',
        "homeassistant.secrets = [1]",
        "homeassistant.secrets_most = -1",
        "homeassistant.secrets_most = true",
        "server = 1",
        "logging.json = 2026-11-23",
    ],
)
def test_what_does_not_fit_is_refused_under_its_key(file: Path, line: str) -> None:
    section = re.split(r"[. ]", line, maxsplit=1)[0]
    assert re.search(rf"^  {section}[.:\w]* ", refusal(file, line + "\n"), re.MULTILINE)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('url = "http://x"', "bus.url: write the broker's url as mqtt://HOST:PORT"),
        ('url = "mqtt://me:hunter2@x"', "bus.url: the broker's url holds no credentials"),
        ('password_file = "/p"', "bus.password_file: password_file needs a username"),
        ('url = "mqtts://x"\ncert_file = "/c"', "bus.cert_file: cert_file and key_file come together"),
        ('ca_file = "/c"', "bus.ca_file: ca_file, cert_file and key_file are for TLS"),
    ],
)
def test_what_is_wrong_with_the_way_to_the_broker_is_told_under_the_key_at_fault(
    file: Path, lines: str, said: str
) -> None:
    complaint = refusal(file, f"[bus]\n{lines}\n")
    assert said in complaint
    assert "hunter2" not in complaint


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:0", Address("127.0.0.1", 0)),
        ("127.8.8.8:80", Address("127.8.8.8", 80)),
        ("[::1]:8081", Address("::1", 8081)),
        ("localhost:8081", Address("127.0.0.1", 8081)),
    ],
)
def test_addresses_of_this_machine_are_taken(file: Path, text: str, address: Address) -> None:
    found = read(file, f'server.bind_addr = "{text}"\n').server.bind_addr
    assert found == address
    assert found.is_loopback


def test_an_address_is_written_as_it_is_read() -> None:
    assert (str(Address("::1", 1)), str(Address("127.0.0.1", 2))) == ("[::1]:1", "127.0.0.1:2")


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "192.168.1.5", "[fd00::1]"])
def test_listening_to_the_network_needs_tls_and_the_word_for_it(file: Path, host: str) -> None:
    text = refusal(file, f'server.bind_addr = "{host}:8081"\n')
    assert "tls_cert and tls_key" in text
    assert "security.deny_network_remote" in text
    config = read(
        file,
        f'[server]\nbind_addr = "{host}:8081"\ntls_cert = "c.pem"\ntls_key = "k.pem"\n'
        "[security]\ndeny_network_remote = false\n",
    )
    assert config.server.tls


def test_tls_needs_both_of_its_files(file: Path) -> None:
    assert "server.tls_key: " in refusal(file, '[server]\ntls_cert = "c.pem"\n')
    assert "server.tls_cert: " in refusal(file, '[server]\ntls_key = "k.pem"\n')
    assert "server.tls_client_ca: " in refusal(file, '[server]\ntls_client_ca = "ca.pem"\n')


def test_one_file_under_two_spellings_is_one_file(file: Path) -> None:
    said = refusal(file, '[paths]\nvault_path = "v/vault.json"\nmaster_key_path = "v/../v/vault.json"\n')
    assert "paths.master_key_path: vault_path names the same file" in said


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ('"http://vault.lan"', 'member 2, "http://vault.lan", is none of them'),
        ('"vault.lan:80"', 'member 2, "vault.lan:80", is none of them'),
        ("7", "member 2, an integer, is none of them"),
        ('"http://me:hunter2@vault.lan"', "member 2, a string, is none of them"),
    ],
)
def test_the_allowed_host_that_is_none_is_named(file: Path, wrong: str, told: str) -> None:
    said = refusal(file, f'server.allowed_hosts = ["vault.lan", {wrong}]\n')
    assert "host names or IP addresses without scheme and port" in said
    assert told in said
    assert "hunter2" not in said


def test_relative_paths_start_at_the_folder_of_the_file(file: Path) -> None:
    config = read(file, '[paths]\nvault_path = "state/vault.json"\n[server]\ntls_cert = "c"\ntls_key = "/k"\n')
    assert config.paths.vault_path == file.parent / "state/vault.json"
    assert config.server.tls_cert == file.parent / "c"
    assert config.server.tls_key == Path("/k")


def test_a_path_given_relative_to_the_working_folder_becomes_absolute(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("", encoding="utf-8")
    monkeypatch.chdir(file.parent)
    assert load(Path("config.toml"), {}).source == file


def test_empty_optional_paths_and_names_mean_none(file: Path) -> None:
    config = read(file, '[server]\ntls_cert = ""\ntls_key = ""\n[bus]\nusername = ""\nca_file = ""\n')
    assert config.server.tls_cert is None
    assert (config.bus.username, config.bus.ca_file) == (None, None)


def test_periods_may_be_written_as_durations(file: Path) -> None:
    security = read(file, '[security]\nrotation_period = "12h"\ngrace_period = "never"\n').security
    assert (security.rotation_ms, security.grace_ms) == (DAY // 2, None)
    assert read(file, '[security]\nrotation_period = "never"\ngrace_days = 0\n').security.rotation_ms is None


def test_a_period_in_both_forms_is_refused(file: Path) -> None:
    text = refusal(file, '[security]\nrotation_days = 90\nrotation_period = "90d"\n')
    assert "security.rotation_period: rotation_days says the same; keep one of the two" in text


def test_allowed_hosts_are_compared_in_lower_case(file: Path) -> None:
    hosts = read(file, '[server]\nallowed_hosts = ["Vault.LAN", "192.168.1.5", "vault.lan.", "fd00::1", "[FD00::1]"]\n')
    assert hosts.server.allowed_hosts == ("vault.lan", "192.168.1.5", "fd00::1")


@pytest.mark.parametrize(
    ("hostname", "node"),
    [
        ("nuc", "nuc"),
        ("nuc.example.org", "nuc.example.org"),
        ("-my host!", "my-host-"),
        ("äö", "node"),
        ("", "node"),
    ],
)
def test_the_node_defaults_to_the_host_cleaned_to_a_name(file: Path, hostname: str, node: str) -> None:
    assert read(file, "", hostname=hostname).bus.node == node
    assert read(file, 'bus.node = "attic"\n', hostname=hostname).bus.node == "attic"


def test_the_bus_settings_carry_the_credentials_files(file: Path) -> None:
    settings = read(
        file,
        '[bus]\nurl = "mqtts://broker:8884"\nusername = "secretsd"\npassword_file = "pw"\nca_file = "/ca"\n',
    ).bus.settings()
    assert (settings.host, settings.port, settings.tls) == ("broker", 8884, True)
    assert settings.username == "secretsd"
    assert settings.password_file == file.parent / "pw"
    assert settings.ca_file == Path("/ca")


@pytest.mark.parametrize(
    ("value", "level"),
    [
        ("warn", "warn"),
        ("WARN", "warn"),
        ("info,hyper=debug", "info"),
        ("error,jarvis_secretsd=debug", "debug"),
        ("jarvis_secretsd=trace,error", "trace"),
        ("jarvis_secretsd::api=debug", "debug"),
        ("jarvis_secretsd", "trace"),
        ("off", "off"),
        ("debug/some.*regex,with=comma", "debug"),
        ("hyper=debug", "error"),
        (" info , hyper = debug ", "info"),
        ("", "error"),
        (",,", "error"),
    ],
)
def test_rust_log_overrides_the_level(file: Path, value: str, level: str) -> None:
    config = read(file, 'logging.level = "error"\n', rust_log=value)
    assert config.logging.level == level
    assert config.warnings == ()


@pytest.mark.parametrize("value", ["verbose", "jarvis_secretsd=loud", "=debug", "a b=info", "info=", "hyper"])
def test_a_rust_log_without_sense_is_ignored_with_a_warning(file: Path, value: str) -> None:
    config = read(file, 'logging.level = "error"\n', rust_log=value)
    assert config.logging.level == "error"
    assert len(config.warnings) == 1
    assert "RUST_LOG" in config.warnings[0]


def test_warning_is_another_word_for_warn(file: Path) -> None:
    assert read(file, 'logging.level = "warning"\n').logging.level == "warn"


def test_a_missing_file_says_what_to_do(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"doesn't exist.*secretsctl init") as caught:
        load(file, {})
    assert caught.value.exit_status == EXIT_CONFIG == 78


def test_what_is_no_readable_text_file_is_refused(file: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read"):
        load(file.parent, {})
    file.write_bytes(b"[server]\n# \xff\n")
    with pytest.raises(ConfigError, match="line 2: not UTF-8"):
        load(file, {})
    file.write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(ConfigError, match="1 MiB"):
        load(file, {})


def test_deep_nesting_is_refused_and_not_crashed_on(file: Path) -> None:
    assert str(file) in refusal(file, "a = " + "[" * 100_000)


def test_a_config_cannot_be_changed(file: Path) -> None:
    config = read(file, "")
    with pytest.raises(AttributeError):
        config.bus.spread_ms = 1  # type: ignore[misc]  # what is shown to fail


def test_the_defaults_in_the_documentation_are_the_defaults(file: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/configuration.md").read_text(encoding="utf-8")
    written = re.search(r"```toml\n(.*?)```", page, re.DOTALL)
    assert written is not None
    assert read(file, written[1]) == read(file, "")


# Handed over by the service manager


def test_a_handed_over_configuration_is_read_instead_of_the_file_and_goes_by_its_name(file: Path) -> None:
    handed_over = file.parent / "credentials"
    handed_over.mkdir()
    (handed_over / "secretsd-config").write_text('[server]\ntls_cert = "c.pem"\ntls_key = "k.pem"\n')
    config = load(file, {"CREDENTIALS_DIRECTORY": str(handed_over)}, hostname="nuc")
    assert (config.source, config.server.tls_cert) == (file, file.parent / "c.pem")
    (handed_over / "secretsd-config").write_text("[")
    with pytest.raises(ConfigError, match=rf"{file}, line 1"):
        load(file, {"CREDENTIALS_DIRECTORY": str(handed_over)})


@pytest.mark.parametrize(
    ("section", "key"),
    [("server", "tls_cert"), ("server", "tls_key"), ("server", "tls_client_ca"), ("bus", "password_file"),
     ("bus", "ca_file"), ("bus", "cert_file"), ("bus", "key_file")],
)  # fmt: skip
def test_a_credential_stands_in_for_the_file_that_a_key_names(file: Path, section: str, key: str) -> None:
    handed_over = file.parent / f"secretsd-{section}.{key}"
    handed_over.write_text("x")
    file.write_text(
        '[server]\ntls_cert = "a"\ntls_key = "b"\ntls_client_ca = "c"\n[bus]\nurl = "mqtts://h"\nusername = "u"\n'
        'password_file = "d"\nca_file = "e"\ncert_file = "f"\nkey_file = "g"\n'
    )
    config = load(file, {"CREDENTIALS_DIRECTORY": str(file.parent)}, hostname="nuc")
    assert getattr(getattr(config, section), key) == handed_over
    assert getattr(getattr(load(file, {}, hostname="nuc"), section), key) != handed_over


def test_a_handed_over_policy_is_what_is_read(file: Path) -> None:
    policy = file.parent / "secretsd-policy"
    policy.write_text("clients: {}")
    assert read(file, "").policy_file == Path("/etc/jarvis-secretsd/policy.yaml")
    config = load(file, {"CREDENTIALS_DIRECTORY": str(file.parent)})
    assert (config.policy_file, config.security.rbac_policy_path.parent) == (policy, Path("/etc/jarvis-secretsd"))

"""Settings that would let one file of an installation be written over another."""

from __future__ import annotations

from pathlib import Path

import pytest

from secretsd import config as configuration
from secretsd.config import Config
from secretsd.daemon.collisions import kept_for, refuse_collisions
from secretsd.daemon.firststart import StateFiles
from secretsd.errors import ConfigError
from tests.unit.support.core import configured

VAULT, KEY, AUDIT = "paths.vault_path", "paths.master_key_path", "paths.audit_path"


def with_settings(folder: Path, **changes: str) -> Config:
    """Write a configuration whose settings are the usual ones but for `changes`, `section__key`; return it."""
    settings = {
        "paths__vault_path": "v/vault.json",
        "paths__master_key_path": "v/master.key",
        "paths__audit_path": "v/audit.jsonl",
    } | changes
    lines = [f'{name.replace("__", ".")} = "{value}"' for name, value in settings.items()]
    file = folder / "config.toml"
    file.write_text("\n".join([*lines, ""]))
    return configuration.load(file, {}, hostname="pi")


@pytest.mark.parametrize(
    ("setting", "value", "other"),
    [
        (AUDIT, "v/audit.sign.key", AUDIT),
        (AUDIT, "v/audit.sign.pub", AUDIT),
        (AUDIT, "v/audit.keys.json", AUDIT),
        (AUDIT, "v/vault.json.bus", VAULT),
        (AUDIT, "v/.secretsd.reserve", VAULT),
        (AUDIT, "v/master.key.recovery", KEY),
        (AUDIT, "v/master.key.replaced-1", KEY),
        (KEY, "v/audit.sign.key", AUDIT),
        (KEY, "v/audit.seen.json", AUDIT),
        (KEY, "v/audit.jsonl.1", AUDIT),
        (KEY, "v/audit.jsonl-20261123.gz", AUDIT),
        (KEY, "v/audit.jsonl.torn-120", AUDIT),
        (KEY, "v/vault.json.lock", VAULT),
        (KEY, "v/vault.json.new", VAULT),
        (KEY, "v/x/../vault.json.first-start", VAULT),
        (KEY, "v/vault.json/master.key", VAULT),
        (KEY, "v/.restore/master.key", VAULT),
        (VAULT, "v/audit.pruned.json", AUDIT),
        (VAULT, "config.toml", "--config"),
        ("security.rbac_policy_path", "v/audit.sign.pub", AUDIT),
        ("bus.ca_file", "v/vault.json", VAULT),
    ],
)
def test_a_file_that_would_be_written_over_is_refused_with_both_settings(
    tmp_path: Path, setting: str, value: str, other: str
) -> None:
    changes = {setting.replace(".", "__"): value}
    if setting.startswith("bus."):
        changes["bus__url"] = "mqtts://broker"
    with pytest.raises(ConfigError) as refused:
        refuse_collisions(with_settings(tmp_path, **changes))
    first, *complaints = str(refused.value).splitlines()
    assert str(tmp_path / "config.toml") in first
    assert any(setting in complaint and other in complaint for complaint in complaints)
    assert not (tmp_path / "v").exists()


def test_a_folder_under_two_names_is_one_folder(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    (tmp_path / "link").symlink_to("v")
    with pytest.raises(ConfigError, match=r"master_key_path.*audit_path"):
        refuse_collisions(with_settings(tmp_path, paths__master_key_path="link/audit.sign.key"))


def test_a_socket_in_place_of_a_file_is_refused_where_there_is_one(tmp_path: Path) -> None:
    config = with_settings(tmp_path, server__unix_socket_path="v/audit.sign.pub")
    refuse_collisions(config)
    file = config.source
    file.write_text(file.read_text() + "server.allow_unix_socket = true\n")
    with pytest.raises(ConfigError, match=r"server\.unix_socket_path.*paths\.audit_path"):
        refuse_collisions(configuration.load(file, {}))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"paths__vault_path": "v/state", "paths__master_key_path": "v/state.key", "paths__audit_path": "v/state.log"},
        {"paths__audit_path": "other/vault.json.bus"},
        {"server__tls_cert": "both.pem", "server__tls_key": "both.pem"},
    ],
)
def test_names_that_only_look_alike_are_taken(tmp_path: Path, changes: dict[str, str]) -> None:
    refuse_collisions(with_settings(tmp_path, **changes))


def test_every_file_of_the_state_is_compared(tmp_path: Path) -> None:
    state = StateFiles(configured(tmp_path))
    compared = {path for paths in kept_for(state).values() for path in paths}
    assert {path for path in vars(state).values() if isinstance(path, Path)} <= compared

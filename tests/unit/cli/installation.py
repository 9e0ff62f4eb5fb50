"""An installation on disk for the doctor to look at: configuration, policy, and the state of a first start."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from secretsd import config
from secretsd.cli.checks import CHECKS, run
from secretsd.cli.checks.context import Context, Foreign
from secretsd.cli.checks.finding import Finding
from secretsd.cli.options import Settings
from secretsd.daemon.firststart import StateFiles, create_state
from tests.support.daemon import toml
from tests.support.waiting import free_port

TOKEN_SHA256 = "ab" * 32
NODE = "testnode"
GOOD_POLICY: dict[str, Any] = {
    "default_deny": True,
    "clients": {
        "admin": {"allow": ["*"], "can": ["read", "write", "rotate"], "auth": [{"token_sha256": TOKEN_SHA256}]},
        "backend": {"allow": ["postgres_password"], "auth": [{"uid": 1001}]},
    },
}


class Installation:
    """Files in `folder` as the daemon would leave them; nothing runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config_path = folder / "etc" / "config.toml"
        self.policy_path = folder / "etc" / "policy.yaml"
        self.config_path.parent.mkdir(mode=0o755)
        self.config: dict[str, dict[str, Any]] = {
            "server": {"bind_addr": f"127.0.0.1:{free_port()}"},
            "paths": {
                "vault_path": str(folder / "secrets" / "vault.json"),
                "master_key_path": str(folder / "secrets" / "master.key"),
                "audit_path": str(folder / "audit" / "audit.jsonl"),
            },
            "security": {"rbac_policy_path": str(self.policy_path)},
            "bus": {"enabled": False, "topic_prefix": "test/doctor", "node": NODE},
        }
        self.configure({})
        self.write_policy(GOOD_POLICY)

    @property
    def state(self) -> StateFiles:
        """Where the state lies."""
        return StateFiles(config.load(self.config_path))

    def configure(self, changes: Mapping[str, Mapping[str, Any]]) -> None:
        """Merge `changes` into config.toml."""
        for name, table in changes.items():
            self.config[name] = self.config.get(name, {}) | dict(table)
        self.config_path.write_text(toml(self.config))

    def write_policy(self, policy: Mapping[str, Any] | str) -> None:
        """Replace policy.yaml."""
        text = policy if isinstance(policy, str) else yaml.safe_dump(copy.deepcopy(dict(policy)), sort_keys=False)
        self.policy_path.write_text(text)

    def start_first(self) -> Installation:
        """Make keys, vault and log, as the first start does."""
        create_state(config.load(self.config_path), None)
        return self

    def look(
        self,
        name: str,
        *,
        url: str | None = None,
        client: str | None = None,
        foreign: Foreign | None = None,
        **roots: Any,
    ) -> Finding:
        """Make one check."""
        check = next(check for check in CHECKS if check.name == name)
        with Context(self.config_path, Settings(url=url, client=client), foreign=foreign, **roots) as context:
            return run(check, context)

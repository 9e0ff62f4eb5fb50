"""A real Mosquitto whose accounts are those of its dynamic security plugin."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.broker import Broker, _Container, chown_all

PLUGINS: Final = (
    *Path("/usr/lib").glob("*/mosquitto_dynamic_security.so"),
    *Path("/usr/lib").glob("mosquitto_dynamic_security.so"),
    *Path("/usr/local/lib").glob("mosquitto_dynamic_security.so"),
)
IN_THE_IMAGE: Final = "/usr/lib/mosquitto_dynamic_security.so"
ADMIN: Final = "dynsec-admin"
ADMIN_PASSWORD: Final = "the administrator's first password"

ALL_TOPICS: Final = [
    {"acltype": kind, "topic": "#", "allow": True}
    for kind in ("publishClientSend", "publishClientReceive", "subscribePattern", "unsubscribePattern")
]
"""What a role `everything` allows; topics that begin with `$` are not among them."""


class DynsecBroker(Broker):
    """A broker with an administrator (`ADMIN`) and `accounts`, who may use every topic but the plugin's."""

    def __init__(self, accounts: Mapping[str, str] | None = None, *, tls: Mapping[str, Path] | None = None) -> None:
        self.accounts = dict(accounts or {})
        super().__init__(tls=tls)

    def admin_file(self) -> Path:
        """Return the plugin's file, which holds no clear password."""
        return self.directory / "dynamic-security.json"

    def _write(self) -> None:
        super()._write()
        plugin = IN_THE_IMAGE if isinstance(self._runner, _Container) else next((str(one) for one in PLUGINS), None)
        if plugin is None:
            pytest.skip("Mosquitto's dynamic security plugin is not installed")
        path = self.directory / "mosquitto.conf"
        text = re.sub(r"(?m)^allow_anonymous .*$", "allow_anonymous false", path.read_text())
        path.write_text(f"plugin {plugin}\nplugin_opt_config_file {self.admin_file()}\n{text}")
        subprocess.run(
            ["mosquitto_ctrl", "dynsec", "init", str(self.admin_file()), ADMIN, ADMIN_PASSWORD],
            check=True,
            capture_output=True,
        )
        self.admin_file().write_text(json.dumps(self._with_accounts(json.loads(self.admin_file().read_text()))))
        self.admin_file().chmod(0o600)
        chown_all(self.directory, self._owner)

    def _with_accounts(self, document: dict[str, Any]) -> dict[str, Any]:
        """Return the plugin's document with our accounts; their hashes are made by the plugin's own format."""
        document["roles"].append({"rolename": "everything", "acls": ALL_TOPICS})
        for name, password in self.accounts.items():
            document["clients"].append(
                {"username": name, "roles": [{"rolename": "everything"}], **password_members(password)}
            )
        return document


def password_members(password: str) -> dict[str, Any]:
    """Return how the plugin keeps a password: PBKDF2 with SHA-512."""
    salt = os.urandom(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, 101)
    return {"password": base64.b64encode(digest).decode(), "salt": base64.b64encode(salt).decode(), "iterations": 101}

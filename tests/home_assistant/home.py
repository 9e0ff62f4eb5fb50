"""A real Home Assistant, headless: its configuration folder, its process, and its REST API."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import yaml

from tests.support.waiting import eventually, free_port

BLUEPRINTS = Path(__file__).resolve().parents[2] / "clients" / "home-assistant"
FOLDER = "jarvis-secretsd"
START_SECS = 120.0
PATIENCE_SECS = 120.0
_USER, _TOKEN, _KEY = "1" * 32, "2" * 32, "3" * 128

# The interface for people isn't installed; without one by this name Home Assistant starts in its recovery mode.
_NO_FRONTEND = {
    "manifest.json": json.dumps({"domain": "frontend", "name": "None", "version": "1.0.0", "codeowners": []}),
    "__init__.py": "async def async_setup(hass, config):\n    return True\n",
}


class Home:
    """Home Assistant with MQTT, the project's blueprints, and the automations that it is given."""

    def __init__(self, hass: Path, broker_port: int) -> None:
        self._hass = hass
        self.directory = Path(tempfile.mkdtemp(prefix="home-"))
        self.port = free_port()
        self._broker_port = broker_port
        self._process: subprocess.Popen[bytes] | None = None
        self._write(
            "configuration.yaml", yaml.safe_dump(self._configuration()) + "automation: !include automations.yaml\n"
        )
        self._write("automations.yaml", "[]\n")
        for name, content in _NO_FRONTEND.items():
            self._write(f"custom_components/frontend/{name}", content)
        self._store("core.config_entries", {"entries": [self._mqtt()]})
        self._store("auth", self._auth())
        shutil.copytree(BLUEPRINTS, self.directory / "blueprints" / "automation" / FOLDER)

    # Its files

    def automations(self, automations: list[dict[str, Any]]) -> None:
        """Write the automations; a running Home Assistant is told to read them."""
        self._write("automations.yaml", yaml.safe_dump(automations))
        if self._process is not None:
            self.call("automation/reload")
            for automation in automations:
                eventually(
                    lambda a=automation: self.state(f"automation.{a['id']}"), f"the automation {automation['id']}"
                )  # type: ignore[misc]

    @property
    def log(self) -> str:
        """What it wrote about itself."""
        path = self.directory / "home-assistant.log"
        return path.read_text() if path.exists() else ""

    def stored(self, name: str) -> Any:
        """Return the data of one of its own files, written some seconds after a change."""
        return json.loads((self.directory / ".storage" / name).read_text())["data"]

    # Its process

    def start(self) -> Self:
        """Start it and wait until it has started whole."""
        with (self.directory / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [str(self._hass), "-c", str(self.directory), "--skip-pip"], stdout=output, stderr=output
            )
        eventually(self._runs, "Home Assistant runs", within=START_SECS)
        return self

    def stop(self) -> None:
        """End it in order: it keeps what its entities last were."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)
        self._process = None

    def restart(self) -> None:
        """End it in order and start it again."""
        self.stop()
        self.start()

    def close(self) -> None:
        """End it and remove its folder."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    # Its API

    def states(self) -> dict[str, dict[str, Any]]:
        """Return all states by entity id."""
        answer = self._request("GET", "states")
        return {state["entity_id"]: state for state in answer}

    def state(self, entity: str) -> dict[str, Any] | None:
        """Return one entity's state, None when there is none."""
        return self._request("GET", f"states/{entity}")  # type: ignore[no-any-return]

    def call(self, service: str, **data: Any) -> None:
        """Call a service (`automation/reload`)."""
        assert self._request("POST", f"services/{service}", data) is not None, f"no service {service}"

    def wait_state(self, entity: str, state: str, **attributes: Any) -> dict[str, Any]:
        """Return an entity's state once it is `state` and has these attributes."""

        def there() -> dict[str, Any]:
            found = self.state(entity)
            assert found is not None, f"no {entity}"
            seen = {name: found["attributes"].get(name) for name in attributes}
            assert (found["state"], seen) == (state, attributes), found
            return found

        return eventually(there, f"{entity} is {state} {attributes}", within=PATIENCE_SECS)

    def wait_available(self, entity: str) -> None:
        """Wait until there is an entity which can have a state, that is: which has been discovered since the start."""

        def there() -> bool:
            found = self.state(entity)
            return found is not None and found["state"] != "unavailable"

        eventually(there, f"{entity} is available", within=PATIENCE_SECS)

    def _runs(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.directory / "output").read_text()[-4000:] + self.log[-4000:]
        configuration = self._request("GET", "config")
        # While it starts, its web server answers before its API is there.
        assert configuration is not None, "no API yet"
        return bool(configuration["state"] == "RUNNING")

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            headers = {"Authorization": f"Bearer {_long_lived_token()}", "Content-Type": "application/json"}
            connection.request(method, f"/api/{path}", None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            content = answer.read()
            if answer.status == 404:
                return None
            assert answer.status in {200, 201}, (answer.status, content)
            return json.loads(content)
        finally:
            connection.close()

    def _write(self, name: str, content: str) -> None:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    def _store(self, name: str, data: Mapping[str, Any]) -> None:
        stored = {"version": 1, "minor_version": 1, "key": name, "data": data}
        self._write(f".storage/{name}", json.dumps(stored))

    def _configuration(self) -> dict[str, Any]:
        return {
            "homeassistant": {"name": "Home", "time_zone": "UTC", "unit_system": "metric", "country": "DE"},
            "http": {"server_host": "127.0.0.1", "server_port": self.port},
            "api": None,
            "logger": {"default": "warning"},
        }

    def _mqtt(self) -> dict[str, Any]:
        return {
            "entry_id": "4" * 32,
            "version": 1,
            "minor_version": 1,
            "domain": "mqtt",
            "title": "broker",
            "data": {"broker": "127.0.0.1", "port": self._broker_port, "discovery": True},
            "options": {},
            "pref_disable_new_entities": False,
            "pref_disable_polling": False,
            "source": "user",
            "unique_id": None,
            "disabled_by": None,
        }

    def _auth(self) -> dict[str, Any]:
        group = {"id": "system-admin", "name": "Administrators"}
        user = {
            "id": _USER, "group_ids": ["system-admin"], "is_owner": True, "is_active": True, "name": "tests",
            "system_generated": False, "local_only": False,
        }  # fmt: skip
        token = {
            "id": _TOKEN, "user_id": _USER, "client_id": None, "client_name": "tests", "client_icon": None,
            "token_type": "long_lived_access_token", "created_at": datetime.now(UTC).isoformat(),
            "access_token_expiration": 315360000.0, "token": "5" * 128, "jwt_key": _KEY, "last_used_at": None,
            "last_used_ip": None, "expire_at": None, "credential_id": None, "version": "2024.3.3",
        }  # fmt: skip
        return {"users": [user], "groups": [group], "credentials": [], "refresh_tokens": [token]}


def _long_lived_token() -> str:
    now = int(time.time())
    parts = [{"alg": "HS256", "typ": "JWT"}, {"iss": _TOKEN, "iat": now - 60, "exp": now + 3600}]
    signed = b".".join(_b64(json.dumps(part).encode()) for part in parts)
    return (signed + b"." + _b64(hmac.new(_KEY.encode(), signed, hashlib.sha256).digest())).decode()


def _b64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")

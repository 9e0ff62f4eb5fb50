"""What the compose files say, without starting anything."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.deploy.building import ROOT

FILES = sorted((ROOT / "deploy").glob("docker-compose*.yml"))
SERVICES = [
    pytest.param(service, id=f"{file.name}-{name}")
    for file in FILES
    for name, service in yaml.safe_load(file.read_text())["services"].items()
]


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_is_hardened(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["logging"] == {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}}
    assert not {"cap_add", "privileged", "devices", "pid", "ports"} & service.keys()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_service_but_the_daemon_gets_the_state(file: Any) -> None:
    for name, service in yaml.safe_load(file.read_text())["services"].items():
        mounted = [volume for volume in service.get("volumes", []) if ":/opt/jarvis/" in volume]
        assert (name == "secretsd") == bool(mounted), name


@pytest.mark.parametrize("name", ["docker-compose.yml", "docker-compose.prod.yml"])
def test_the_daemon_keeps_what_the_old_files_gave_it(name: str) -> None:
    daemon = yaml.safe_load((ROOT / "deploy" / name).read_text())["services"]["secretsd"]
    assert daemon["network_mode"] == "host"
    assert daemon["volumes"] == [
        "${JARVIS_CONFIG_DIR:-/etc/jarvis-secretsd}:/etc/jarvis-secretsd:ro",
        "${JARVIS_STATE_DIR:-/opt/jarvis}/secrets:/opt/jarvis/secrets",
        "${JARVIS_STATE_DIR:-/opt/jarvis}/audit:/opt/jarvis/audit",
    ]
    prod = "prod" in name
    assert daemon["container_name"] == ("jarvis-secretsd-prod" if prod else "jarvis-secretsd")
    assert daemon["restart"] == ("always" if prod else "unless-stopped")
    assert daemon["environment"]["RUST_LOG"] == ("warn" if prod else "info")
    assert daemon["healthcheck"]["interval"] == "30s"
    assert daemon["healthcheck"]["timeout"] == "10s"
    assert daemon["healthcheck"]["retries"] == (5 if prod else 3)

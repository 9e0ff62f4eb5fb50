"""deploy/docker-compose.yml, really up: daemon, broker, a service and Prometheus on the host's network."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.stack import WITHIN_SECS, Stack, compose_command
from tests.support import log as audit_log
from tests.support.tap import Tap
from tests.support.waiting import eventually

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def stack(
    secretsd_image: str, sample_image: str, broker_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    if compose_command() is None:
        pytest.skip("neither docker compose nor docker-compose is installed")
    images = {"SECRETSD_IMAGE": secretsd_image, "SAMPLE_IMAGE": sample_image, "MOSQUITTO_IMAGE": broker_image}
    with Stack("docker-compose.yml", tmp_path_factory.mktemp("stack"), images) as one:
        prepared = one.prepare()
        assert prepared.returncode == 0, prepared.stderr
        one.up("secretsd", "mosquitto", "backend")
        yield one


@pytest.fixture
def tap(stack: Stack) -> Iterator[Tap]:
    keys = audit_log.keyring(stack.folder / "state" / "audit" / "audit.sign.pub")
    password = stack.folder / "etc" / "mqtt-admin.password"
    url = f"mqtt://127.0.0.1:{stack.broker_port}"
    with Tap(url, "jarvis/secretsd", keys, username="admin", password_file=password) as one:
        yield one


def test_the_service_gets_its_secret_and_is_told_of_a_rotation(stack: Stack, tap: Tap) -> None:
    stack.secretsctl("put", "postgres_password", stdin="the first")
    stack.wait_said("backend", what="fetched", version=1)
    stack.secretsctl("rotate", "postgres_password")
    tap.wait_topic("jarvis/secretsd/secret/postgres_password/rotated")
    stack.wait_said("backend", what="changed", version=2)
    assert json.loads(stack.secretsctl("status", "--json"))["health"]["bus"] == "connected"


def test_no_value_is_in_any_containers_log(stack: Stack) -> None:
    value = stack.secretsctl("get", "postgres_password")
    for service in ("secretsd", "mosquitto", "backend"):
        assert value not in stack.compose("logs", service)


@pytest.mark.parametrize("service", ["secretsd", "mosquitto", "backend"])
def test_every_container_is_confined(stack: Stack, service: str) -> None:
    found = stack.inspect(service)
    host = found["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert not host["Privileged"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["NetworkMode"] == "host"
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}
    status = Path(f"/proc/{found['State']['Pid']}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert 0 not in map(int, fields["Uid"].split())
    assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0


def test_a_restart_of_daemon_and_broker_keeps_all_and_the_service_follows(stack: Stack) -> None:
    before = json.loads(stack.secretsctl("info", "postgres_password", "--json"))["version"]
    stack.compose("restart", "secretsd", "mosquitto")
    eventually(lambda: stack.state("secretsd")["Health"]["Status"] == "healthy", "healthy again", within=WITHIN_SECS)
    assert json.loads(stack.secretsctl("info", "postgres_password", "--json"))["version"] == before
    stack.secretsctl("rotate", "postgres_password")
    stack.wait_said("backend", what="changed", version=before + 1)


def test_prometheus_scrapes_the_daemon(stack: Stack, prometheus_image: str) -> None:
    settings = stack.folder / "prometheus.yml"
    text = (stack.file.parent / "prometheus.yml").read_text()
    settings.write_text(text.replace("127.0.0.1:8081", f"127.0.0.1:{stack.port}").replace("15s", "1s"))
    settings.chmod(0o644)
    stack.environment["PROMETHEUS_IMAGE"] = prometheus_image
    stack.up("prometheus", extra={"prometheus": {"volumes": [f"{settings}:/etc/prometheus/prometheus.yml:ro"]}})

    def up() -> bool:
        url = f"http://127.0.0.1:{stack.prometheus_port}/api/v1/query?query=up"
        with urllib.request.urlopen(url, timeout=5) as answer:
            results = json.load(answer)["data"]["result"]
        return [one["value"][1] for one in results] == ["1"]

    eventually(up, "Prometheus says that the daemon is up", within=WITHIN_SECS)


def test_what_is_there_is_not_set_up_again(stack: Stack) -> None:
    policy = (stack.folder / "etc" / "policy.yaml").read_bytes()
    again = stack.prepare()
    assert again.returncode == 1
    assert f"{stack.folder / 'etc'} is not empty" in again.stderr
    assert (stack.folder / "etc" / "policy.yaml").read_bytes() == policy

"""deploy/docker-compose.bridge.yml, really up: each service behind a Unix socket of its own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.deploy.stack import Stack, compose_command

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(600)]

ASK = """
import http.client, json, socket, sys
class Own(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX); self.sock.connect(sys.argv[1])
asked = Own("localhost")
asked.request("GET", "/secret/" + sys.argv[3], headers={"X-Jarvis-Client": sys.argv[2]})
answer = asked.getresponse()
print(json.dumps([answer.status, json.loads(answer.read()).get("type")]))
"""


@pytest.fixture(scope="module")
def stack(
    secretsd_image: str, sample_image: str, broker_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    if compose_command() is None:
        pytest.skip("neither docker compose nor docker-compose is installed")
    images = {"SECRETSD_IMAGE": secretsd_image, "SAMPLE_IMAGE": sample_image, "MOSQUITTO_IMAGE": broker_image}
    with Stack("docker-compose.bridge.yml", tmp_path_factory.mktemp("bridge"), images) as one:
        prepared = one.prepare("--bridge", bridge=True)
        assert prepared.returncode == 0, prepared.stderr
        one.up("secretsd", "mosquitto", "backend", "reports")
        yield one


def ask(stack: Stack, service: str, client: str, secret: str, *, root: bool = False) -> list[object]:
    """Return status and problem of a GET as `client`, asked from within a service's container."""
    socket = f"/run/jarvis-secretsd/{service}/secretsd.sock"
    who = ["--user", "0:0"] if root else []
    command = [
        "docker",
        "exec",
        *who,
        stack.name(service),
        "/opt/service/bin/python3",
        "-c",
        ASK,
        socket,
        client,
        secret,
    ]
    answer: list[object] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return answer


def test_each_service_gets_its_secret_through_its_own_socket_with_no_token(stack: Stack) -> None:
    stack.secretsctl("put", "postgres_password", stdin="of the backend")
    stack.secretsctl("put", "reports_api_key", stdin="of the reports")
    stack.wait_said("backend", what="fetched", name="postgres_password")
    stack.wait_said("reports", what="fetched", name="reports_api_key")
    reads = [json.loads(line) for line in (stack.folder / "state" / "audit" / "audit.jsonl").read_text().splitlines()]
    proofs = {(one["data"]["client"], one["data"]["auth"]) for one in reads if one["type"].endswith("secret.read")}
    assert proofs == {("backend", "socket"), ("reports", "socket")}


def test_the_service_on_the_bus_is_told_of_a_rotation(stack: Stack) -> None:
    stack.secretsctl("rotate", "postgres_password")
    stack.wait_said("backend", what="changed", version=2)


@pytest.mark.parametrize("client", ["backend", "admin"])
def test_a_service_can_be_nobody_else_through_its_socket(stack: Stack, client: str) -> None:
    assert ask(stack, "reports", "reports", "reports_api_key")[0] == 200
    assert ask(stack, "reports", client, "postgres_password") == [401, "bad-credential"]
    assert ask(stack, "reports", "reports", "postgres_password") == [403, "forbidden"]


def test_a_service_sees_no_socket_but_its_own_and_cannot_replace_it(stack: Stack) -> None:
    assert stack.exec("reports", "ls", "/run/jarvis-secretsd").split() == ["reports"]
    done = subprocess.run(
        ["docker", "exec", stack.name("reports"), "rm", "/run/jarvis-secretsd/reports/secretsd.sock"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert ask(stack, "reports", "reports", "reports_api_key")[0] == 200


def test_a_service_that_becomes_root_in_its_container_is_still_only_itself(stack: Stack) -> None:
    assert ask(stack, "reports", "reports", "reports_api_key", root=True)[0] == 200
    for other in ("admin", "backend"):
        assert ask(stack, "reports", other, "postgres_password", root=True) == [401, "bad-credential"]


def test_nobody_in_the_network_reaches_the_daemons_port(stack: Stack) -> None:
    connect = "import socket, sys; socket.create_connection((sys.argv[1], 8081), 5)"
    for address in ("secretsd", "127.0.0.1"):
        command = ["docker", "exec", stack.name("backend"), "/opt/service/bin/python3", "-c", connect, address]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "ConnectionRefusedError" in done.stderr, done.stderr


def test_after_a_restart_of_the_daemon_the_services_find_their_sockets_again(stack: Stack) -> None:
    stack.compose("restart", "secretsd")
    stack.up("secretsd", "mosquitto", "backend", "reports")
    assert ask(stack, "reports", "reports", "reports_api_key")[0] == 200
    stack.secretsctl("rotate", "postgres_password")
    stack.wait_said("backend", what="changed", version=3)

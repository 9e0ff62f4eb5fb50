"""The daemon's image, hardened as the compose files harden it: what it may do, and what outlives it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import log as audit_log
from tests.support.daemon import OPEN_POLICY, toml
from tests.support.http import Api, tcp
from tests.support.waiting import eventually, free_port

os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(600)]  # the first one makes the images

UID = 10001
WITHIN_SECS = 30.0


class Contained:
    """One daemon in a container on the host's network, its folders on the host."""

    def __init__(self, image: str, folder: Path) -> None:
        from testcontainers.core.container import DockerContainer

        self.folder = folder
        self.port = free_port()
        for name in ("etc", "secrets", "audit"):
            (folder / name).mkdir(mode=0o700)
        config: dict[str, dict[str, Any]] = {
            "server": {"bind_addr": f"127.0.0.1:{self.port}"},
            "bus": {"enabled": False},
        }
        (folder / "etc" / "config.toml").write_text(toml(config))
        (folder / "etc" / "policy.yaml").write_text(yaml.safe_dump(OPEN_POLICY))
        subprocess.run(["chown", "-R", f"{UID}:{UID}", str(folder)], check=True)
        self._container = (
            DockerContainer(image)
            .with_kwargs(
                network_mode="host",
                read_only=True,
                cap_drop=["ALL"],
                security_opt=["no-new-privileges:true"],
                healthcheck={"interval": 500_000_000, "timeout": 5_000_000_000, "retries": 1},
            )
            .with_volume_mapping(str(folder / "etc"), "/etc/jarvis-secretsd", "ro")
            .with_volume_mapping(str(folder / "secrets"), "/opt/jarvis/secrets", "rw")
            .with_volume_mapping(str(folder / "audit"), "/opt/jarvis/audit", "rw")
        )

    @property
    def docker(self) -> Any:
        """The container as docker-py has it, with what Docker knows now."""
        wrapped = self._container.get_wrapped_container()
        wrapped.reload()
        return wrapped

    @property
    def api(self) -> Api:
        return tcp(self.port)

    def start(self) -> None:
        self._container.start()
        self.wait_health("healthy")

    def wait_health(self, state: str) -> None:
        def health() -> object:
            return self.docker.attrs["State"]["Health"]["Status"] == state

        eventually(health, f"Docker calls the container {state}", within=WITHIN_SECS)

    def run(self, *command: str) -> tuple[int, str]:
        """Run a command in the container; return its status and what it printed."""
        done = self.docker.exec_run(list(command))
        return done.exit_code, done.output.decode()

    def verified_log(self) -> list[Any]:
        """Return the log's events after verifying all of it, from outside."""
        audit = self.folder / "audit"
        return audit_log.verify_log([audit / "audit.jsonl"], audit_log.keyring(audit / "audit.sign.pub"))

    def remove(self) -> None:
        self._container.stop(force=True)


@pytest.fixture(scope="module")
def contained(secretsd_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contained]:
    one = Contained(secretsd_image, tmp_path_factory.mktemp("contained"))
    try:
        one.start()
        yield one
    finally:
        one.remove()


def test_it_serves_on_the_hosts_loopback_and_docker_calls_it_healthy(contained: Contained) -> None:
    contained.api.create("served", "a value")
    assert contained.api.value("served") == "a value"
    assert contained.run("secretsctl", "health")[0] == 0


def test_it_is_not_root_and_has_no_capability_and_can_get_none(contained: Contained) -> None:
    status = dict(
        line.split(":\t", 1) for line in contained.run("cat", "/proc/1/status")[1].splitlines() if ":\t" in line
    )
    assert status["Uid"].split() == [str(UID)] * 4
    assert status["Gid"].split() == [str(UID)] * 4
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[kind], 16) == 0, kind
    assert status["NoNewPrivs"].strip() == "1"
    assert status["Seccomp"].strip() == "2"


@pytest.mark.parametrize(
    "path", ["/x", "/opt/secretsd/x", "/tmp/x", "/etc/jarvis-secretsd/x", "/run/jarvis-secretsd/x"]
)
def test_only_the_state_can_be_written(contained: Contained, path: str) -> None:
    status, said = contained.run("touch", path)
    assert status != 0
    assert "Read-only file system" in said


def test_the_state_is_the_daemons_alone(contained: Contained) -> None:
    for name in ("secrets/vault.json", "secrets/master.key", "audit/audit.jsonl", "audit/audit.sign.key"):
        status = (contained.folder / name).stat()
        assert (status.st_uid, status.st_mode & 0o777) == (UID, 0o600), name


def test_the_image_holds_neither_pip_nor_a_way_to_fetch_more(contained: Contained) -> None:
    status, said = contained.run("python3", "-m", "pip", "--version")
    assert (status, "No module named pip" in said) == (1, True), said
    found = contained.run("sh", "-c", "command -v pip curl wget gcc; true")[1]
    assert found == ""


def test_the_health_check_leaves_nothing_in_the_log(contained: Contained) -> None:
    before = len(contained.verified_log())
    checks = len(contained.docker.attrs["State"]["Health"]["Log"])
    assert checks > 0
    assert contained.run("secretsctl", "health")[0] == 0
    assert len(contained.verified_log()) == before


def test_what_is_wrong_with_the_configuration_is_in_the_containers_log(secretsd_image: str) -> None:
    done = subprocess.run(
        ["docker", "run", "--rm", "--network", "none", "--read-only", secretsd_image],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 78
    assert "/etc/jarvis-secretsd/config.toml" in done.stderr


def test_docker_stop_under_load_loses_nothing_that_was_acknowledged(contained: Contained) -> None:
    acknowledged: dict[str, str] = {}
    enough = threading.Event()

    def write(writer: int) -> None:
        number = 0
        try:
            while True:
                name, number = f"load_{writer}_{number}", number + 1
                contained.api.create(name, f"value of {name}")
                acknowledged[name] = f"value of {name}"
                if len(acknowledged) > 100:
                    enough.set()
        except (OSError, AssertionError, ValueError):
            return  # it stops: what isn't acknowledged may be there or not

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    assert enough.wait(WITHIN_SECS)
    contained.docker.stop()
    for thread in threads:
        thread.join()
    assert contained.docker.attrs["State"]["ExitCode"] == 0
    assert contained.verified_log()[-1].type == "daemon.stopped"

    contained.docker.start()
    contained.wait_health("healthy")
    for name, value in acknowledged.items():
        assert contained.api.value(name) == value
    contained.verified_log()


def test_a_new_container_goes_on_with_the_vault_of_the_old_one(contained: Contained) -> None:
    contained.api.create("kept", "over an upgrade")
    position = contained.api.get("/secret/kept").position
    contained.remove()
    contained.start()
    answer = contained.api.get("/secret/kept")
    assert answer.ok()["value"] == "over an upgrade"
    assert answer.position == position


def test_docker_calls_it_unhealthy_while_it_does_not_answer(contained: Contained) -> None:
    daemon = contained.docker.attrs["State"]["Pid"]
    os.kill(daemon, signal.SIGSTOP)
    try:
        contained.wait_health("unhealthy")
    finally:
        os.kill(daemon, signal.SIGCONT)
    contained.wait_health("healthy")


def test_a_folder_that_is_not_mounted_any_more_does_not_become_an_empty_vault(
    contained: Contained, secretsd_image: str
) -> None:
    contained.docker.stop()
    mounts = [
        "-v",
        f"{contained.folder}/etc:/etc/jarvis-secretsd:ro",
        "-v",
        f"{contained.folder}/audit:/opt/jarvis/audit",
    ]
    done = subprocess.run(
        ["docker", "run", "--rm", "--network", "none", *mounts, secretsd_image],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 78
    assert "master.key" in done.stderr
    contained.docker.start()
    contained.wait_health("healthy")
    assert json.loads((contained.folder / "secrets" / "vault.json").read_bytes())["secrets"]

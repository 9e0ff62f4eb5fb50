"""The unit in a booted systemd: sandboxed, reloaded, killed, watched over, rotated; what was acknowledged stays."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

from tests.deploy.host.machine import Machine
from tests.deploy.host.wheels import ROOT
from tests.support.waiting import eventually

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(600)]

UNIT = "jarvis-secretsd.service"
SOCKETS = ("jarvis-secretsd.socket", "jarvis-secretsd-http.socket")
URL = "http://127.0.0.1:8081"
SOCKET = "/run/jarvis-secretsd/secretsd.sock"
TOKEN = "/etc/jarvis-secretsd/tokens/admin.token"
POLICY = "/etc/jarvis-secretsd/policy.yaml"
DOCS = ROOT / "docs" / "systemd.md"
SERVICE_UID = 4711
CTL = f"JARVIS_CLIENT_ID=admin JARVIS_CLIENT_TOKEN_FILE={TOKEN} secretsctl"


@pytest.fixture(scope="module")
def machine(wheels: Path) -> Iterator[Machine]:
    """A machine on which the installer was run, with settings that root alone may read, as the old permissions.sh."""
    with Machine() as booted:
        booted.bring_checkout(wheels)
        booted.bring(Path(__file__).with_name("load.py"), "/src/load.py")
        booted.run("sh /src/deploy/install.sh --wheels /wheels -- --no-bus")
        booted.run("chown -R root:root /etc/jarvis-secretsd && chmod 0400 /etc/jarvis-secretsd/*.*")
        booted.run(f"printf first | {CTL} put x")
        yield booted


def main_pid(machine: Machine) -> int:
    return int(machine.show(UNIT, "MainPID"))


def restarts(machine: Machine) -> int:
    return int(machine.show(UNIT, "NRestarts"))


def serves(machine: Machine) -> bool:
    return machine.succeeds(f"curl -sf --max-time 5 {URL}/healthz")


def as_service(machine: Machine, name: str, *options: str) -> dict[str, Any]:
    """Return the answer to a service that has nothing but its uid."""
    asked = f"curl -s {' '.join(options)} -H 'X-Jarvis-Client: tester' {name}"
    answer = machine.run(f"setpriv --reuid {SERVICE_UID} --regid {SERVICE_UID} --clear-groups {asked}")
    return dict(json.loads(answer))


@contextmanager
def policy(machine: Machine, text: str) -> Iterator[None]:
    """Change the policy's file for a while; whoever wants it in force reloads."""
    machine.run(f"cp -p {POLICY} /root/policy.yaml")
    machine.run(f"cat >> {POLICY}", stdin=text)
    try:
        yield
    finally:
        machine.run(f"cat /root/policy.yaml > {POLICY}; systemctl reset-failed; systemctl reload-or-restart {UNIT}")


class Load:
    """Requests in a row, from inside the machine; `result` is what they came to."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.result: dict[str, Any] = {}
        machine.run("rm -f /tmp/stop /tmp/stop.going")
        self.process: subprocess.Popen[str] = machine.spawn(f"python3 /src/load.py 127.0.0.1:8081 x {TOKEN} /tmp/stop")

    def __enter__(self) -> Self:
        eventually(lambda: self.machine.succeeds("test -e /tmp/stop.going"), "the load is on")
        return self

    def __exit__(self, *_: object) -> None:
        self.machine.run("touch /tmp/stop")
        out, _ = self.process.communicate(timeout=90)
        self.result = json.loads(out)

    def is_all_there(self) -> None:
        """See that the last acknowledged value is served, and that each answer has its line in a chain that holds."""
        verified = self.machine.run(f"{CTL} audit verify --json")
        assert json.loads(verified)["ok"], verified
        assert self.machine.run(f"{CTL} get x") == self.result["written"]
        log = self.machine.run("zcat -f /opt/jarvis/audit/audit.jsonl*")
        reads = set(re.findall(r'"request_id":"([^"]+)"', log))
        names = [line for line in log.splitlines() if '"secret.updated"' in line or ".secret.updated" in line]
        answered = set(self.result["acknowledged"])
        assert len(names) >= len(answered - reads), "each acknowledged write has its line"
        assert len(answered & reads) >= len(answered) // 2 - 1, "each answered read has its line"


def test_it_runs_as_a_user_of_its_own_that_can_do_nothing_else(machine: Machine) -> None:
    status = machine.run(f"cat /proc/{main_pid(machine)}/status")
    uid = machine.run("id -u jarvis-secretsd").strip()
    found = dict(re.findall(r"^(\w+):\s+(.*)$", status, re.MULTILINE))
    assert found["Uid"].split() == [uid] * 4
    assert {found["CapPrm"], found["CapEff"], found["CapBnd"], found["CapAmb"]} == {"0" * 16}
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")
    mounts = machine.run(f"cat /proc/{main_pid(machine)}/mountinfo")
    options = {fields[4]: fields[5] for fields in map(str.split, mounts.splitlines())}
    assert options["/"].startswith("ro,")
    assert options["/opt/jarvis/secrets"].startswith("rw,")
    assert options["/opt/jarvis/audit"].startswith("rw,")


def test_settings_that_root_alone_may_read_are_enough(machine: Machine) -> None:
    assert machine.run("stat -c '%U %a' /etc/jarvis-secretsd /etc/jarvis-secretsd/policy.yaml").split() == [
        "root", "700", "root", "400"
    ]  # fmt: skip
    assert not machine.succeeds(f"setpriv --reuid jarvis-secretsd --clear-groups cat {POLICY}")
    machine.run(f"systemctl restart {UNIT}")
    assert serves(machine)


def test_the_installed_units_verify_and_are_exposed_below_two(machine: Machine) -> None:
    assert machine.run(f"systemd-analyze verify --man=no {UNIT} {' '.join(SOCKETS)}") == ""
    machine.run(f"systemd-analyze security --threshold=20 --no-pager {UNIT}")


def test_the_sandbox_lets_it_reach_a_broker_on_this_machine(machine: Machine) -> None:
    listener = machine.spawn(
        "python3 -c 'import socket; s = socket.create_server((\"127.0.0.1\", 1883)); print(s.accept()[0].recv(99))'"
    )
    settings = "/etc/jarvis-secretsd/config.toml"
    machine.run(f"sed -i '/^.bus/,/^.home/s/^enabled = false/enabled = true/' {settings}; systemctl restart {UNIT}")
    out, _ = listener.communicate(timeout=60)
    assert "MQTT" in out
    machine.run(f"sed -i '/^.bus/,/^.home/s/^enabled = true/enabled = false/' {settings}; systemctl restart {UNIT}")


def test_a_changed_policy_is_in_force_when_the_reload_is_over(machine: Machine) -> None:
    tester = f"  tester: {{allow: [x], can: [read], auth: [{{uid: {SERVICE_UID}}}]}}\n"
    text = machine.run(f"cat {POLICY}")
    machine.run(f"cp -p {POLICY} /root/before.yaml")
    machine.run(f"cat > {POLICY}", stdin=text.replace("clients:\n", f"clients:\n{tester}", 1))
    assert as_service(machine, f"{URL}/secret/x")["type"] == "unknown-client"
    machine.run(f"systemctl reload {UNIT}")
    eventually(lambda: "value" in as_service(machine, f"{URL}/secret/x"), "the uid proves the service, on TCP")
    machine.run(f"setfacl -m u:{SERVICE_UID}:rw {SOCKET} 2>/dev/null || chmod 0666 {SOCKET}")
    assert "value" in as_service(machine, "http://localhost/secret/x", "--unix-socket", SOCKET)
    assert machine.run("stat -c %a /run/credentials/jarvis-secretsd.service/secretsd-policy").strip() == "400"
    machine.run(f"chmod 0660 {SOCKET}; cat /root/before.yaml > {POLICY}; systemctl reload {UNIT}")


def test_a_policy_with_a_mistake_fails_the_reload_and_the_old_one_stays(machine: Machine) -> None:
    with policy(machine, "nonsense: 1\n"):
        machine.run(f"systemctl reload {UNIT}", status=1)
        assert machine.show(UNIT, "StatusText") == "Reload refused, the old policy stays: see the log"
        assert 'unknown key "nonsense"' in machine.run(f"journalctl -u {UNIT} -o cat")
        assert machine.run(f"{CTL} get x") == machine.run(f"{CTL} get x --version 1")
        assert "policy.rejected" in machine.run("cat /opt/jarvis/audit/audit.jsonl")


def test_settings_that_are_gone_fail_the_reload_and_nothing_is_taken_over(machine: Machine) -> None:
    before = machine.run("sha256sum /run/credentials/jarvis-secretsd.service/*")
    machine.run(f"mv {POLICY} {POLICY}.away; systemctl reload {UNIT}", status=1)
    machine.run(f"mv {POLICY}.away {POLICY}")
    assert machine.run("sha256sum /run/credentials/jarvis-secretsd.service/*") == before
    assert serves(machine)


def test_a_killed_daemon_comes_back_by_itself_and_nothing_acknowledged_is_lost(machine: Machine) -> None:
    pid, count = main_pid(machine), restarts(machine)
    with Load(machine) as load:
        machine.run(f"kill -KILL {pid}")
        eventually(lambda: main_pid(machine) not in {0, pid}, "systemd starts another")
        eventually(lambda: serves(machine), "which serves")
    assert restarts(machine) == count + 1
    assert load.result["refused"] == 0
    load.is_all_there()


def test_a_hung_daemon_is_replaced_by_the_watchdog(machine: Machine) -> None:
    machine.write(f"/etc/systemd/system/{UNIT}.d/test.conf", "[Service]\nWatchdogSec=2\n")
    machine.run(f"systemctl daemon-reload && systemctl restart {UNIT}")
    try:
        pid, count = main_pid(machine), restarts(machine)
        machine.run(f"kill -STOP {pid}")
        eventually(lambda: main_pid(machine) not in {0, pid}, "the watchdog ends it, systemd starts another", within=40)
        eventually(lambda: serves(machine), "which serves")
        assert restarts(machine) == count + 1
        assert "Watchdog timeout" in machine.run(f"journalctl -u {UNIT} -o cat")
    finally:
        machine.run(f"rm /etc/systemd/system/{UNIT}.d/test.conf; systemctl daemon-reload; systemctl restart {UNIT}")


def test_a_restart_refuses_nobody(machine: Machine) -> None:
    inode = machine.run(f"stat -c %i {SOCKET}")
    with Load(machine) as load:
        for _ in range(2):
            machine.run(f"systemctl restart {UNIT}")
    assert load.result["refused"] == 0
    assert machine.run(f"stat -c %i {SOCKET}") == inode
    load.is_all_there()


def test_while_it_is_stopped_nobody_else_gets_the_port(machine: Machine) -> None:
    machine.run(f"systemctl stop {UNIT}")
    taken = machine.run("python3 -c 'import socket; socket.socket().bind((\"127.0.0.1\", 8081))'", status=1)
    assert "Address already in use" in taken
    assert serves(machine), "the first to ask starts it"
    machine.run(f"systemctl stop 'jarvis-secretsd*'; systemctl is-active {UNIT}", status=3)
    assert not machine.succeeds(f"curl -s --max-time 5 {URL}/healthz")
    machine.run(f"systemctl start {UNIT}")
    assert machine.run(f"systemctl is-active {' '.join(SOCKETS)}").split() == ["active", "active"]


def test_a_configuration_with_a_mistake_is_not_tried_again_and_again(machine: Machine) -> None:
    with policy(machine, "nonsense: 1\n"):
        machine.run(
            f"systemctl stop 'jarvis-secretsd*'; systemctl reset-failed {UNIT}; systemctl start {UNIT}", status=1
        )
        assert machine.show(UNIT, "ExecMainStatus") == "78"
        assert (machine.show(UNIT, "ActiveState"), restarts(machine)) == ("failed", 0)
    assert serves(machine)


def test_the_real_logrotate_loses_nothing_under_load(machine: Machine) -> None:
    with Load(machine) as load:
        for _ in range(3):
            # The names of rotated files end with the second; each has to have its own.
            machine.run(
                "logrotate --force /etc/logrotate.d/jarvis-secretsd; s=$(date +%s); "
                "until [ $(date +%s) != $s ]; do :; done"
            )
    assert load.result["refused"] == load.result["broken"] == 0
    files = machine.run("stat -c '%U %a %n' /opt/jarvis/audit/audit.jsonl*").splitlines()
    assert len(files) == 4
    assert all(line.startswith("jarvis-secretsd 600 ") for line in files), files
    load.is_all_there()


def test_a_passphrase_that_comes_later_becomes_a_credential_as_documented(machine: Machine) -> None:
    """As doctor's fix, docs/keys.md and docs/systemd.md say, on a machine that had none."""
    (command,) = re.findall(r"(?m)^systemd-creds encrypt .*?/secretsd-passphrase", DOCS.read_text())
    before = machine.run(f"{CTL} get x")
    machine.run(f"{CTL} key rotate passphrase --passphrase-file -", stdin="correct horse\n")
    machine.run(command, stdin="correct horse\n")
    machine.run(f"systemctl restart {UNIT}")
    assert "1 ok, 0 warnings" in machine.run(f"{CTL} doctor --only keys")
    assert machine.run(f"{CTL} get x") == before

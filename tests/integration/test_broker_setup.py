"""secretsctl broker setup at a real Mosquitto: each user reads what it may and nothing else, only the daemon writes."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from secretsd_bus import BusRejected, BusSettings

from secretsd.cli.checks.listening import can_connect, connected
from tests.support.daemon import COMMANDS, NODE, Daemon
from tests.support.tap import Tap
from tests.support.tls import make_server_certificate
from tests.support.waiting import eventually, free_port

SECRETS = ("db_a", "db_root", "jwt_signing_key", "other")
POLICY: dict[str, Any] = {
    "default_deny": True,
    "clients": {
        "admin": {"allow": ["*"], "can": ["read", "write", "rotate", "delete", "audit"]},
        "backend": {"allow": ["jwt_signing_key", "db_*"], "deny": ["db_root"]},
        "most": {"allow": ["*"], "deny": ["db_root"], "can": ["read"]},
        "auditor": {"allow": [], "can": ["audit"]},
        "writer": {"allow": ["*"], "can": ["write"]},
    },
}
READS: dict[str, Callable[[str], bool]] = {
    "backend": lambda topic: topic.startswith(("secret/db_a/", "secret/jwt_signing_key/")),
    "most": lambda topic: topic.startswith("secret/") and not topic.startswith("secret/db_root/"),
    "auditor": lambda topic: topic.startswith("audit/"),
    "writer": lambda topic: False,
}


class Setup:
    """A daemon's folder, the folders of a Mosquitto as Debian has them, and the broker that runs on these."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="setup-"))
        self.folder.chmod(0o755)  # the broker becomes a user of its own
        self.port = free_port()
        (self.folder / "conf.d").mkdir()
        data = self.folder / "data"
        data.mkdir(mode=0o777)
        data.chmod(0o777)
        self.main = self.folder / "mosquitto.conf"
        self.main.write_text(f"persistence true\npersistence_location {data}/\ninclude_dir {self.folder}/conf.d\n")
        self.daemon = Daemon(bus=f"mqtt://127.0.0.1:{self.port}", policy=POLICY)
        self.passwords = self.daemon.directory / "mqtt"
        self.broker: subprocess.Popen[bytes] | None = None

    def run(self, *options: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run the command."""
        ended = subprocess.run(
            [COMMANDS / "secretsctl", "broker", "setup", "--config", self.daemon.config_path,
             "--listener-file", self.folder / "conf.d/jarvis.conf", "--dir", self.folder / "jarvis", *options],
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert ended.returncode == status, ended.stdout + ended.stderr
        for file in [*self.passwords.glob("*"), self.daemon.directory / "mqtt.password"]:
            assert not file.exists() or file.read_text().strip() not in ended.stdout + ended.stderr
        return ended

    def result(self, *options: str) -> Any:
        """Run the command for its JSON."""
        return json.loads(self.run("--json", *options).stdout)

    def start_broker(self) -> None:
        """Start Mosquitto on what was written."""
        program = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program, "these tests need `mosquitto`"
        with (self.folder / "log").open("ab") as log:
            self.broker = subprocess.Popen([program, "-c", str(self.main)], stdout=log, stderr=log)
        eventually(self._accepts, "the broker accepts connections")

    def reload_broker(self) -> None:
        """Have Mosquitto read passwords and ACL again."""
        assert self.broker is not None
        self.broker.send_signal(signal.SIGHUP)

    def _accepts(self) -> bool:
        assert self.broker is not None
        assert self.broker.poll() is None, (self.folder / "log").read_text()
        with socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True

    def as_(self, user: str) -> BusSettings:
        """Return the broker as a user sees it."""
        file = self.daemon.directory / "mqtt.password" if user == "secretsd" else self.passwords / f"{user}.password"
        return BusSettings(url=f"mqtt://127.0.0.1:{self.port}", username=user, password_file=file)

    def login(self, user: str) -> bool:
        """Tell whether a user's password file opens the broker."""
        return asyncio.run(can_connect(self.as_(user))) is None

    def says(self, user: str, topic: str) -> bool:
        """Tell whether a user may publish there."""

        async def say() -> bool:
            async with connected(self.as_(user)) as ear:
                return await ear.say(topic)

        return asyncio.run(say())

    def tap(self, user: str) -> Tap:
        """Listen to everything under the prefix as a user."""
        return self.daemon.tap(username=user, password_file=self.as_(user).password_file)

    def close(self) -> None:
        """End it all."""
        self.daemon.close()
        if self.broker is not None:
            self.broker.kill()
            self.broker.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture
def place() -> Iterator[Setup]:
    """Folders, nothing set up."""
    made = Setup()
    yield made
    made.close()


@pytest.fixture(scope="module")
def running() -> Iterator[Setup]:
    """All set up as the command says, and running; tests leave the files as they are."""
    made = Setup()
    try:
        made.daemon.start()
        for name in SECRETS:
            made.daemon.api.create(name, type="jwt_signing_key" if name.startswith("jwt") else "generic")
        made.run()
        made.start_broker()
        login = {"username": "secretsd", "password_file": str(made.daemon.directory / "mqtt.password")}
        made.daemon.configure({"bus": login})
        made.daemon.restart().wait_bus()
        yield made
    finally:
        made.close()


def test_each_user_reads_what_the_policy_lets_it_and_nothing_else(running: Setup) -> None:
    taps = {user: running.tap(user) for user in POLICY["clients"]}
    for one in taps.values():
        one.__enter__()
    try:
        running.daemon.api.rotate(*SECRETS)
        running.daemon.api.secret("other")
        running.daemon.api.as_("nobody").get("/secret/other").refused(401, "unknown-client")
        admin = taps["admin"]
        for name in SECRETS:
            admin.wait_topic(admin.topics.secret_event(name, "rotated"))
        read = admin.wait_topic(admin.topics.audit("access", "failed"))
        assert read.event is not None
        after = read.event.sequence or 0
        # The checkpoint that every user may read ends what is compared: what came before it would have come too.
        for one in taps.values():
            one.wait(
                lambda heard: heard.event is not None and heard.event.data.get("sequence", -1) >= after
                and heard.topic.endswith(f"checkpoint/{NODE}"),
                "a later checkpoint",
            )  # fmt: skip
        prefix = running.daemon.prefix + "/"
        everything = {heard.topic.removeprefix(prefix) for heard in admin.heard}
        assert {topic.split("/")[0] for topic in everything} >= {"secret", "audit", "checkpoint", "status", "keys"}
        for user, may in READS.items():
            heard = {one.topic.removeprefix(prefix) for one in taps[user].heard}
            common = {topic for topic in everything if topic.startswith(("checkpoint/", "status/", "keys/"))}
            assert heard == common | {topic for topic in everything if may(topic)}, user
    finally:
        for one in taps.values():
            one.__exit__(None, None, None)


@pytest.mark.parametrize("user", POLICY["clients"])
def test_no_client_writes_anything(running: Setup, user: str) -> None:
    prefix = running.daemon.prefix
    for topic in (
        f"{prefix}/checkpoint/{NODE}", f"{prefix}/secret/db_a/rotated", f"{prefix}/audit/access/denied",
        f"{prefix}/doctor/canary/x", "homeassistant/sensor/x/config", "elsewhere",
    ):  # fmt: skip
        assert not running.says(user, topic), topic


def test_the_daemons_user_writes_under_its_prefix_and_the_discovery_and_nowhere_else(running: Setup) -> None:
    prefix = running.daemon.prefix
    for topic in (f"{prefix}/doctor/canary/x", f"{prefix}/secret/x/canary", "homeassistant/sensor/canary/x"):
        assert running.says("secretsd", topic), topic
    assert not running.says("secretsd", "elsewhere")
    assert running.daemon.api.health()["bus"] == "connected"


def test_nobody_else_is_let_in(running: Setup) -> None:
    error = asyncio.run(can_connect(BusSettings(url=f"mqtt://127.0.0.1:{running.port}")))
    assert isinstance(error, BusRejected)


def doctor(running: Setup, *checks: str) -> dict[str, dict[str, Any]]:
    """Return what the doctor finds."""
    ended = subprocess.run(
        [COMMANDS / "secretsctl", "doctor", "--json", "--config", running.daemon.config_path,
         *(f"--only={name}" for name in checks),
         "--foreign-user", "writer", "--foreign-password-file", running.as_("writer").password_file],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return {one["name"]: one for one in json.loads(ended.stdout)["checks"]}


def test_the_doctor_finds_nothing_to_complain_about(running: Setup) -> None:
    found = doctor(running, "broker-login", "canary-anonymous", "canary-foreign", "canary-clients", "bus")
    assert {one["status"] for one in found.values()} == {"ok"}, found


def test_the_doctor_names_a_client_that_can_more_than_the_policy_says(running: Setup) -> None:
    acl = running.folder / "jarvis/acl"
    before = acl.read_text()
    prefix = running.daemon.prefix
    more = f"user backend\ntopic read {prefix}/secret/#\nuser writer\ntopic write {prefix}/audit/#\n"
    acl.write_text(before + more)
    try:
        running.reload_broker()
        eventually(lambda: running.says("writer", f"{prefix}/audit/x/y"), "the broker has read the ACL")
        found = doctor(running, "canary-clients")["canary-clients"]
        assert found["status"] == "failure"
        assert "backend can read what the policy doesn't let it (secret/…)" in found["found"]
        assert "writer can write under the prefix" in found["found"]
    finally:
        acl.write_text(before)
        running.reload_broker()
        eventually(lambda: not running.says("writer", f"{prefix}/audit/x/y"), "the broker has read the ACL")


def test_a_second_run_changes_nothing_and_keeps_all_passwords(running: Setup) -> None:
    files = [
        *(running.folder / "jarvis").iterdir(),
        *running.passwords.iterdir(),
        running.folder / "conf.d/jarvis.conf",
    ]
    before = {path: path.read_bytes() for path in files}
    said = running.result()
    assert {one["state"] for one in said["files"]} == {"unchanged"}
    assert {one["password"] for one in said["users"]} == {"kept"}
    assert said["next"] == []
    assert {path: path.read_bytes() for path in files} == before


def test_passwords_and_rights_are_their_owners_alone(running: Setup) -> None:
    for path in (*running.passwords.iterdir(), *(running.folder / "jarvis").iterdir()):
        assert path.stat().st_mode & 0o777 == 0o600, path
    assert running.passwords.stat().st_mode & 0o777 == 0o700


def test_a_password_that_was_handed_over_written_or_renewed_is_what_counts(place: Setup) -> None:
    place.run()
    place.start_broker()
    handed = place.as_("backend")
    kept = handed.read_password()
    (place.passwords / "backend.password").unlink()
    own = place.passwords / "most.password"
    own.write_text("of my own choosing\n")
    renewed = place.as_("writer").read_password()
    said = {one["name"]: one["password"] for one in place.result("--renew", "writer")["users"]}
    assert (said["backend"], said["most"], said["writer"], said["admin"]) == ("kept", "kept", "renewed", "kept")
    assert not (place.passwords / "backend.password").exists()
    assert place.as_("writer").read_password() != renewed
    place.reload_broker()
    eventually(lambda: place.login("most"), "the password of one's own choosing opens the broker")
    assert place.login("writer")
    (place.passwords / "backend.password").write_text(kept or "")
    assert place.login("backend")


def test_a_new_secret_is_heard_of_after_another_run_and_a_reload(running: Setup) -> None:
    running.daemon.api.create("db_new", "v")
    said = running.result()
    assert "systemctl reload mosquitto" in said["next"]
    running.reload_broker()
    topic = f"{running.daemon.prefix}/secret/db_new/state"

    def heard() -> bool:
        async def listen() -> bool:
            async with connected(running.as_("backend")) as ear:
                await ear.listen([topic])
                return await ear.hears(topic, 0.5)

        return asyncio.run(listen())

    eventually(heard, "the client hears of the new secret")


def test_over_tls_it_is_the_certificate_that_was_given(place: Setup) -> None:
    files = make_server_certificate(place.folder)
    files["keyfile"].chmod(0o644)  # the broker reads it as a user of its own
    place.daemon.configure({"bus": {"url": f"mqtts://127.0.0.1:{place.port}", "ca_file": str(files["cafile"])}})
    live = place.folder / "live.pem"  # as certbot names a certificate: after a renewal another file is behind it
    live.symlink_to(files["certfile"])
    place.run("--broker-cert", str(live), "--broker-key", str(files["keyfile"]))
    assert f"\ncertfile {live}\n" in (place.folder / "conf.d/jarvis.conf").read_text()
    place.start_broker()
    over = replace(place.as_("backend"), url=f"mqtts://127.0.0.1:{place.port}", ca_file=files["cafile"])
    assert asyncio.run(can_connect(over)) is None
    assert not place.login("backend")
    assert {one["state"] for one in place.result()["files"]} == {"unchanged"}


def test_a_reload_reads_the_configuration_again(place: Setup) -> None:
    place.run()
    place.start_broker()
    conf, log = place.folder / "conf.d/jarvis.conf", place.folder / "log"
    conf.write_text(conf.read_text() + "log_type information\n")

    def reloads_in_words() -> bool:
        place.reload_broker()
        return "Reloading config" in log.read_text()

    eventually(reloads_in_words, "the broker logs what it is told to by now")
    assert "Unable to open" not in log.read_text()


def test_a_dry_run_writes_nothing_and_shows_rights_but_no_password(place: Setup) -> None:
    before = sorted(place.folder.rglob("*"))
    said = place.run("--dry-run").stdout
    assert "+user backend" in said
    assert "$7$" not in said
    assert sorted(place.folder.rglob("*")) == before
    assert not place.passwords.exists()


def test_what_stands_outside_of_the_marks_is_kept_and_foreign_files_are_refused(place: Setup) -> None:
    place.run()
    acl, conf = place.folder / "jarvis/acl", place.folder / "conf.d/jarvis.conf"
    acl.write_text(acl.read_text() + "user zigbee\ntopic readwrite zigbee/#\n")
    conf.write_text(conf.read_text() + "log_dest stdout\n")
    for _ in range(2):
        place.run("--homeassistant-user", "home")
        assert acl.read_text().count("user zigbee\ntopic readwrite zigbee/#\n") == 1
        assert conf.read_text().count("log_dest stdout\n") == 1
    place.run("--homeassistant-user", "home", "--no-homeassistant-user", status=2)
    assert "user home\n" in acl.read_text()
    place.run()
    place.start_broker()
    assert place.login("home")
    place.run("--no-homeassistant-user")
    assert "user home\n" not in acl.read_text()
    acl.write_text("user backend\ntopic readwrite #\n")
    assert f"{acl} exists and was not written by this command" in place.run(status=1).stderr

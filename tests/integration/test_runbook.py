"""The runbook's commands, all of them: each chapter's incident is brought about, and is over afterwards."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyrage
import pytest
import yaml
from secretsd_client import SecretsClient, Settings

from tests.support import tmpfs
from tests.support.broker import Broker
from tests.support.daemon import Daemon
from tests.support.host import Host
from tests.support.recipe import Chapter, chapters, recipe
from tests.support.repeating import Repeating
from tests.support.waiting import eventually

DOCUMENT = "runbook.md"
TOKEN = "0f" * 32
SERVICE_TOKEN = "1e" * 32
LEAKED = "the-leaked-value"
ALL = ["read", "write", "rotate", "delete", "audit", "admin"]
COVERED: set[str] = set()


def sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


POLICY: dict[str, Any] = {
    "default_deny": True,
    "clients": {
        "admin": {"allow": ["*"], "can": ALL, "auth": [{"token_sha256": sha256(TOKEN)}]},
        "backend": {
            "allow": ["postgres_password", "brave_api_key"],
            "auth": [{"token_sha256": sha256(SERVICE_TOKEN)}],
        },
    },
}


def covers(title: str) -> pytest.MarkDecorator:
    """The chapter of this title is run by the test, block by block."""
    COVERED.add(title)
    return pytest.mark.parametrize("steps", [title], indirect=True)


class Steps:
    """One chapter being worked through on a host, and what a test needs around it."""

    def __init__(self, host: Host, chapter: Chapter, folder: Path) -> None:
        self.host = host
        self.daemon = host.daemon
        self.api = host.daemon.api.as_("admin", TOKEN)
        self.backups, self.safe = folder / "backups", folder / "safe"
        self.state = host.daemon.vault_path.parents[1]
        self.folder = folder
        self._left = list(chapter.blocks)
        self._settings = self._paths_of_this_host(recipe("settings", DOCUMENT))

    def run(self, name: str, *, given: str = "", status: int | None = 0, env: dict[str, str] | None = None) -> str:
        """Run the next block, which has this name. With `status` None it goes on after a command that fails."""
        assert self._left, f"the chapter has no block {name}"
        block, script = self._left.pop(0)
        assert block == name, f"the next block is {block}"
        assert not re.search(r"(?<![\w$])/(etc|opt|mnt)/", script), "paths are set in the settings"
        done = self.host.bash(self._settings + script, given=given, stops=status is not None, env=env or {})
        assert status in (None, done.returncode), (name, done.stdout, self.daemon.output()[-3000:])
        assert LEAKED not in done.stdout
        return done.stdout

    def all_were_run(self) -> None:
        assert not self._left, f"blocks that no test runs: {[name for name, _ in self._left]}"

    def edits_policy(self, client: str, **changes: object) -> dict[str, str]:
        """Return the environment of an operator whose editor makes these changes to a client."""
        document = yaml.safe_load(self.daemon.policy_path.read_text())
        document["clients"][client] |= changes
        edited, editor = self.folder / "edited", self.folder / "editor"
        edited.write_text(yaml.safe_dump(document))
        editor.write_text(f'#!/bin/sh\ncat {edited} > "$1"\n')
        editor.chmod(0o755)
        return {"EDITOR": str(editor)}

    def service(self) -> SecretsClient:
        token = self.folder / "backend.token"
        token.write_text(SERVICE_TOKEN)
        token.chmod(0o600)
        url = f"http://127.0.0.1:{self.daemon.port}"
        return SecretsClient(
            Settings(url=url, client_id="backend", token_file=token, pubkey=self.daemon.public_key_path)
        )

    def changing_while(self, name: str) -> None:
        """Run the next block while a secret is changed again and again."""
        with Repeating(lambda: self.api.update("brave_api_key", "changed"), pause_secs=0.2):
            self.run(name)

    def safe_is_filled(self) -> None:
        """A recovery file and a copy of the public key lie in the safe, and a backup elsewhere."""
        public = str(self._identity.to_public())
        for words in (
            f"recovery export -o {self.safe}/vault.recovery.age -r {public}",
            f"backup create {self.backups}/first.age --recipient {public}",
        ):
            self.ctl(words)

    def ctl(self, words: str, *, status: int = 0) -> str:
        """Run a command of secretsctl that isn't in the chapter."""
        script = f"secretsctl {words} --config {self.daemon.config_path}"
        done = self.host.bash(script, given="", stops=True, env={})
        assert done.returncode == status, done.stdout
        return done.stdout

    def _paths_of_this_host(self, settings: str) -> str:
        self.safe.mkdir()
        self.backups.mkdir()
        self._identity = pyrage.x25519.Identity.generate()
        for name, text in (("identity.txt", f"{self._identity}\n"), ("admin.token", TOKEN)):
            (self.safe / name).write_text(text)
            (self.safe / name).chmod(0o600)
        shutil.copyfile(self.daemon.public_key_path, self.safe / "audit.sign.pub")
        for there, here in {
            "/etc/jarvis-secretsd/config.toml": self.daemon.config_path,
            "/etc/jarvis-secretsd/policy.yaml": self.daemon.policy_path,
            "/etc/jarvis-secretsd/tokens": self.safe,
            "/opt/jarvis": self.state,
            "/mnt/backups": self.backups,
            "/mnt/safe": self.safe,
        }.items():
            assert there in settings
            settings = settings.replace(there, str(here))
        return settings


@pytest.fixture
def state_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Where the state lies; with a size (KiB) as its parameter it is a disk of its own."""
    folder = tmp_path / "jarvis"
    folder.mkdir()
    size_kib = getattr(request, "param", None)
    with contextlib.nullcontext() if size_kib is None else tmpfs.SmallDisk(folder, size_kib):
        yield folder


@pytest.fixture
def steps(
    request: pytest.FixtureRequest, own: Broker, state_disk: Path, new_daemon: Callable[..., Daemon], tmp_path: Path
) -> Iterator[Steps]:
    """A chapter to be worked through on a host with a daemon, a broker and two secrets; a block left over fails."""
    daemon = new_daemon(bus=own.url, policy=POLICY)
    daemon.vault_path = state_disk / "secrets" / "vault.json"
    daemon.master_key_path = daemon.vault_path.with_name("master.key")
    daemon.audit_path = state_disk / "audit" / "audit.jsonl"
    paths = {key: str(getattr(daemon, key)) for key in ("vault_path", "master_key_path", "audit_path")}
    daemon.configure({"paths": paths})
    daemon.start().wait_bus()
    with Host(tmp_path, daemon, own) as host:
        steps = Steps(host, chapters(DOCUMENT)[request.param], tmp_path)
        steps.api.create("postgres_password", LEAKED, type="password")
        steps.api.create("brave_api_key", LEAKED, type="external")
        yield steps
        steps.all_were_run()


def test_every_block_belongs_to_a_chapter_that_a_test_runs() -> None:
    with_blocks = {title for title, chapter in chapters(DOCUMENT).items() if chapter.blocks}
    assert with_blocks == COVERED | {"Runbook"}
    assert [name for name, _ in chapters(DOCUMENT)["Runbook"].blocks] == ["settings"]


@covers("First look")
def test_a_first_look_says_how_it_is(steps: Steps) -> None:
    said = steps.run("look", status=None)
    assert re.search(r"^status +ok$", said, re.MULTILINE)
    assert re.search(r"^bus +connected, owed: ", said, re.MULTILINE)


@covers("Add")
def test_a_secret_that_is_added_reaches_its_service(steps: Steps) -> None:
    with steps.service() as service:
        allow = ["postgres_password", "brave_api_key", "grafana_password"]
        steps.api.delete("/secret/brave_api_key").ok(204)
        said = steps.run("add", env=steps.edits_policy("backend", allow=allow))
        assert "created grafana_password: version 1" in said
        assert "created brave_api_key: version" in steps.run("add-issued", given="issued")
        assert service.get_secret("grafana_password")
        assert service.get_secret("brave_api_key") == "issued"


@covers("Rotate")
def test_a_rotation_is_heard_of_and_undone(steps: Steps) -> None:
    with steps.service() as service:
        assert service.get_secret("postgres_password") == LEAKED
        assert "version 1 readable until" in steps.run("rotate")
        eventually(lambda: service.get_secret("postgres_password") != LEAKED, "the service has the new value")
        steps.run("rotate-undo")
        eventually(lambda: service.get_secret("postgres_password") == LEAKED, "the service has the old value again")


@covers("Revoke in an emergency")
def test_a_leaked_value_is_worthless_everywhere(steps: Steps) -> None:
    with steps.service() as service:
        assert service.get_secret("postgres_password") == LEAKED
        said = steps.run("revoke", given="issued anew")
        assert "readable until" not in said
        eventually(lambda: service.get_secret("postgres_password") != LEAKED, "the service has the new value")
        eventually(lambda: service.get_secret("brave_api_key") == "issued anew", "and the one from elsewhere")
    token = "2d" * 32
    openssl = steps.host.shims / "openssl"
    openssl.write_text(f"#!/bin/sh\necho {token}\n")
    openssl.chmod(0o755)
    said = steps.run("revoke-token", env=steps.edits_policy("backend", auth=[{"token_sha256": sha256(token)}]))
    assert sha256(token) in said
    assert token not in said
    steps.daemon.api.as_("backend", SERVICE_TOKEN).get("/secret/postgres_password").refused(401, "bad-credential")
    steps.daemon.api.as_("backend", token).get("/secret/postgres_password").ok()
    assert re.search(r"backend\ttoken\t1\t", steps.run("revoke-who"))
    steps.run("revoke-over")
    steps.daemon.verified_log()


@pytest.mark.slow
@covers("Master key lost")
def test_a_lost_master_key_is_brought_back_and_replaced(steps: Steps) -> None:
    steps.safe_is_filled()
    steps.daemon.master_key_path.unlink()
    assert "all 2 values" in steps.run("key-drill")
    steps.daemon.terminate()
    assert "secretsctl recovery import" in steps.daemon.refuses(78)
    steps.daemon.process = None
    assert "it opens the vault" in steps.run("key-import")
    steps.run("key-over")
    assert steps.api.value("postgres_password") == LEAKED
    lost = steps.daemon.master_key_path.read_bytes()
    steps.run("key-anew")
    assert steps.daemon.master_key_path.read_bytes() != lost
    steps.daemon.restart()
    assert steps.api.value("postgres_password") == LEAKED


@covers("Audit review")
def test_the_log_tells_who_was_refused_and_who_changed_what(steps: Steps) -> None:
    steps.daemon.api.as_("backend", SERVICE_TOKEN).get("/secret/other").refused(403, "forbidden")
    steps.api.rotate("postgres_password")
    assert "ok: " in steps.run("audit-verify")
    said = steps.run("audit-read")
    assert re.search(r"\tbackend\t", said)
    assert re.search(r"secret\.rotated\tadmin\tpostgres_password\t2\t", said)


@pytest.mark.slow
@covers("Restore")
def test_a_lost_state_is_brought_back_from_a_backup_of_before(steps: Steps) -> None:
    steps.safe_is_filled()
    with steps.service() as service:
        steps.api.update("postgres_password", "after the backup")
        eventually(lambda: service.get_secret("postgres_password") == "after the backup", "the service follows")
        steps.daemon.wait_bus()
        steps.daemon.terminate()
        shutil.rmtree(steps.state)
        assert "than what is known" in steps.run("restore", status=1)
        steps.run("restore-older")
        assert "ok: " in steps.run("restore-start")
        eventually(lambda: service.get_secret("postgres_password") == LEAKED, "the service follows what was restored")
    assert steps.daemon.api.health()["secrets_count"] == 2


@covers("Broker lost")
def test_a_broker_that_lost_everything_is_told_everything(steps: Steps) -> None:
    broker, topics = steps.host.broker, steps.daemon.prefix
    with steps.service() as service:
        assert service.get_secret("postgres_password") == LEAKED
        broker.kill()
        for database in broker.directory.glob("*.db*"):
            database.unlink()
        eventually(lambda: steps.daemon.api.health()["bus"] != "connected", "the daemon notices")
        [rotated] = steps.api.rotate("postgres_password")
        steps.run("broker", status=None)
        steps.daemon.wait_bus()
        with steps.daemon.tap() as tap:
            state = tap.wait_topic(f"{topics}/secret/postgres_password/state")
            assert state.event is not None
            assert state.event.data["kid"] == rotated["kid"]
        eventually(lambda: service.get_secret("postgres_password") != LEAKED, "the service has the new value")
    steps.changing_while("broker-over")


@pytest.mark.skipif(tmpfs.why_not() is not None, reason=str(tmpfs.why_not()))
@pytest.mark.parametrize("state_disk", [32 * 1024], indirect=True)
@covers("Disk full")
@pytest.mark.slow
def test_a_full_disk_is_served_from_again(steps: Steps, state_disk: Path) -> None:
    disk = tmpfs.SmallDisk(state_disk, 32 * 1024)  # mounted by the fixture; here it is filled and freed
    api = steps.daemon.api.as_("backend", SERVICE_TOKEN)
    steps.daemon.audit_path.rename(f"{steps.daemon.audit_path}.1")
    for value in ("rotated away", LEAKED):
        steps.api.update("postgres_password", value)
    eventually(lambda: "would remove" in steps.ctl("audit prune --before 0s --dry-run"), "the broker has all of it")
    disk.fill()
    eventually(lambda: api.get("/secret/postgres_password").status == 503, "no line can be written")
    said = steps.run("disk-look", status=None)
    assert "can't serve: " in said
    assert f"{state_disk}/ballast" in said
    assert "removed 1 file" in steps.ctl("audit prune --before 0s --yes")  # what it needs beside comes from the reserve
    disk.free()
    assert "nothing to prune" in steps.run("disk-prune")
    eventually(lambda: steps.daemon.api.get("/healthz").status == 200, "it serves again by itself")
    assert "ok: " in steps.run("disk-over")
    assert api.get("/secret/postgres_password").ok()["value"] == LEAKED

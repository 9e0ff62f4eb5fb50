"""The incidents that are recorded: what goes wrong, for how long, and which alerts are right at which moment."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.monitoring.recorder import Recorder
from tests.support.broker import Broker
from tests.support.daemon import OPEN_POLICY, Daemon
from tests.support.fast_clock import FastClock
from tests.support.mqtt_packets import PUBACK, read_packet
from tests.support.relay import Peer, Relay
from tests.support.shims import FailingSync, ForgedClock, SlowSync, together
from tests.support.tmpfs import SmallDisk
from tests.support.waiting import eventually

FACTOR: Final = 30
STEADY_MINUTES: Final = 3.0


class Silent(Relay):
    """Between the daemon and its broker: while told so it keeps the broker's acknowledgements to itself."""

    keeps = False

    async def down(self, near: Peer, far: Peer) -> None:
        """Pass on what the broker says, packet by packet."""
        while True:
            packet = await read_packet(far.reader)
            if not (self.keeps and packet.kind == PUBACK):
                await near.send(packet.encode())


@dataclass
class Scene:
    """A daemon in fast time, what it depends on, and the recorder that watches."""

    daemon: Daemon
    broker: Broker
    relay: Silent
    sync: FailingSync
    slow: SlowSync
    forged: ForgedClock
    disk: SmallDisk | None
    clock: FastClock
    record: Recorder

    def each(self, secs: float, during_minutes: float, what: Callable[[], object]) -> None:
        """Do something again and again, every so many seconds of the daemon's time."""
        until = self.clock.secs() + during_minutes * 60
        while self.clock.secs() < until:
            began = self.clock.secs()
            what()
            self.clock.wait(began + secs)


@dataclass(frozen=True)
class Incident:
    """One thing that goes wrong."""

    what: str
    happens: Callable[[Scene], None]
    disk_kib: int | None = None
    policy: Mapping[str, Any] | None = None
    factor: int = FACTOR
    """How fast its time runs: slower where much is written, since writing takes its true time."""


ROTATING: Final = OPEN_POLICY | {
    "secrets": {"due": {"type": "generic", "rotation": "auto", "rotation_period": "120s", "grace_period": "30s"}}
}


def far_end(program: str) -> dict[str, Any]:
    """Return a policy under which rotations of `far` are done by a program."""
    rule = {"type": "password", "rotator": {"kind": "command", "program": [program], "timeout": "300s"}}
    return OPEN_POLICY | {"secrets": {"far": rule}}


INCIDENTS: Final[dict[str, Incident]] = {}


def incident(what: str, **options: Any) -> Callable[[Callable[[Scene], None]], Callable[[Scene], None]]:
    """Register a function as the incident of its name."""

    def register(happens: Callable[[Scene], None]) -> Callable[[Scene], None]:
        INCIDENTS[happens.__name__] = Incident(what, happens, **options)
        return happens

    return register


@contextmanager
def scene(one: Incident) -> Iterator[Scene]:
    """A daemon that has run for a while, with a secret, a broker and a fresh backup."""
    with ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory()))
        broker = Broker(access="acl", users={"secretsd": "p"}).start()
        held.callback(broker.close)
        relay = held.enter_context(Silent(broker.port))
        fast, forged = FastClock(folder, one.factor), ForgedClock(folder)
        forged.set(0, synchronised=True)
        sync, slow = FailingSync(folder), SlowSync(folder)
        daemon = Daemon(
            bus=f"mqtt://127.0.0.1:{relay.port}",
            policy=one.policy or OPEN_POLICY,
            env=together(forged.env, sync.env, slow.env, fast.env),
            config={
                "bus": {
                    "checkpoint_secs": 10,
                    "username": "secretsd",
                    "password_file": str(broker.password_file("secretsd")),
                }
            },
        )
        held.callback(daemon.close)
        disk = None
        if one.disk_kib is not None:
            disk = held.enter_context(SmallDisk(daemon.audit_path.parent, one.disk_kib))
        daemon.start().wait_bus()
        daemon.api.create("x", "v")
        daemon.vault_path.with_name("vault.json.backup").write_text(
            json.dumps({"created_at": daemon.api.secret("x")["created_at"]})
        )
        with Recorder(daemon, fast) as record:
            record.passes(STEADY_MINUTES)
            record.expects()
            yield Scene(daemon, broker, relay, sync, slow, forged, disk, fast, record)


@incident("The daemon is killed, and started again after five minutes.")
def daemon_killed(scene: Scene) -> None:
    scene.daemon.sigkill()
    scene.record.passes(1.5)
    scene.record.expects()
    scene.record.passes(3)
    scene.record.expects("SecretsdDown")
    scene.daemon.start()
    scene.record.passes(2)
    scene.record.expects()


@incident("The daemon is restarted in order; nobody is woken for that.")
def daemon_restarted(scene: Scene) -> None:
    scene.daemon.restart()
    for _ in range(4):
        scene.record.passes(1)
        scene.record.expects()


@incident("Something kills the daemon five times in a row.")
def daemon_killed_again_and_again(scene: Scene) -> None:
    for _ in range(5):
        scene.daemon.sigkill()
        scene.daemon.start()
        scene.record.passes(3)
    scene.record.expects("SecretsdRestartsOften")
    scene.record.passes(32)
    scene.record.expects()


@incident("The log can't be synced for some minutes: the disk answers EIO.")
def log_not_writable(scene: Scene) -> None:
    scene.sync.fail("audit.jsonl")
    scene.each(5, 3, lambda: scene.daemon.api.get("/secret/x"))
    scene.record.expects("SecretsdAuditFails", "SecretsdNotServing")
    scene.sync.heal()
    eventually(lambda: scene.daemon.api.get("/secret/x").status == 200, "reads go on")
    scene.record.passes(13)
    scene.record.expects()


@incident("The last line of the log is edited, which breaks the chain: the daemon refuses to start.")
def log_edited(scene: Scene) -> None:
    scene.daemon.terminate()
    whole = scene.daemon.audit_path.read_bytes()
    scene.daemon.audit_path.write_bytes(whole[:-40] + whole[-40:].swapcase())
    scene.daemon.refuses(78)
    scene.record.passes(4)
    scene.record.expects("SecretsdDown")
    scene.daemon.audit_path.write_bytes(whole)
    scene.daemon.start()
    scene.record.passes(2)
    scene.record.expects()


@incident("Vault and log of yesterday are put back together; only the broker's checkpoint knows better.")
def state_rolled_back(scene: Scene) -> None:
    def replaced(before: str, now: str) -> None:
        """Take the state away under one name, and bring that of another back."""
        scene.daemon.terminate()
        for folder in (scene.daemon.vault_path.parent, scene.daemon.audit_path.parent):
            folder.rename(folder.with_name(f"{folder.name}.{before}"))
            folder.with_name(f"{folder.name}.{now}").rename(folder)
        scene.daemon.spawn()

    for folder in (scene.daemon.vault_path.parent, scene.daemon.audit_path.parent):
        shutil.copytree(folder, folder.with_name(f"{folder.name}.older"))
    for _ in range(3):
        scene.daemon.api.update("x", "v")
    scene.record.passes(1)
    replaced("newer", "older")
    eventually(lambda: scene.daemon.api.get("/healthz").status == 503, "the daemon learns that it is older")
    scene.record.passes(3)
    scene.record.expects("SecretsdNotServing")
    replaced("older", "newer")
    scene.record.passes(3)
    scene.record.expects()


@incident("The disk fills up, and is full for some minutes.", disk_kib=300 * 1024)
def disk_full(scene: Scene) -> None:
    assert scene.disk is not None
    ballast = scene.disk.folder / "grows"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 200 * 1024 * 1024)
    scene.record.passes(8)
    scene.record.expects()
    scene.record.passes(4)
    scene.record.expects("SecretsdDiskFillsUp")
    scene.disk.fill()
    scene.each(5, 3, lambda: scene.daemon.api.get("/secret/x"))
    scene.record.expects("SecretsdAuditFails", "SecretsdDiskFillsUp", "SecretsdDiskFull", "SecretsdNotServing")
    scene.disk.free()
    ballast.unlink()
    scene.record.passes(14)
    scene.record.expects()


@incident("The disk gets slow: a sync takes over a second, for half an hour.")
def disk_slow(scene: Scene) -> None:
    def changes() -> None:
        scene.daemon.api.update("x", "v")

    scene.each(15, 5, changes)
    scene.record.expects()
    scene.slow.set(1200)
    scene.each(15, 30, changes)
    scene.record.expects("SecretsdAuditSlow", "SecretsdVaultSlow")
    scene.slow.set(0)
    scene.each(15, 22, changes)
    scene.record.expects()


@incident("The clock jumps by two days while the kernel doesn't call it synchronised.")
def clock_jumps(scene: Scene) -> None:
    scene.forged.set(2 * 86400)
    scene.record.passes(8)
    scene.record.expects()
    scene.record.passes(4)
    scene.record.expects("SecretsdClockInDoubt")
    scene.forged.set(0, synchronised=True)
    scene.record.passes(3)
    scene.record.expects()


@incident("The broker is killed, and comes back after a quarter of an hour.")
def broker_killed(scene: Scene) -> None:
    scene.broker.kill()
    scene.record.passes(4)
    scene.record.expects()
    scene.record.passes(3)
    scene.record.expects("SecretsdBrokerLost")
    scene.broker.start()
    scene.daemon.wait_bus()
    scene.record.passes(1)
    scene.record.expects()


@incident("The broker's ACL takes nothing from the daemon any more.")
def broker_denies(scene: Scene) -> None:
    acl = scene.broker.acl.read_text()
    scene.broker.write_acl("user nobody\n")
    scene.daemon.api.update("x", "v")
    scene.daemon.wait_bus("denied")
    scene.record.passes(4)
    scene.record.expects()
    scene.record.passes(3)
    scene.record.expects("SecretsdBrokerDenies")
    scene.broker.write_acl(acl)
    scene.daemon.wait_bus()
    scene.record.passes(1)
    scene.record.expects()


@incident("The broker accepts the daemon and acknowledges nothing: the daemon breaks off after 15 seconds, each time.")
def broker_silent(scene: Scene) -> None:
    scene.relay.keeps = True
    scene.record.passes(4)
    scene.record.expects()
    scene.record.passes(4)
    scene.record.expects("SecretsdBrokerLost")
    scene.relay.keeps = False
    scene.relay.cut()
    scene.daemon.wait_bus()
    scene.record.passes(1)
    scene.record.expects()


@incident("The broker acknowledges nothing while services go on reading.")
def backlog_grows(scene: Scene) -> None:
    scene.relay.keeps = True
    scene.each(3, 26, lambda: scene.daemon.api.get("/secret/x").ok())
    scene.record.expects("SecretsdBrokerLost", "SecretsdOwedEventsGrow")
    scene.relay.keeps = False
    scene.relay.cut()
    scene.daemon.wait_bus()
    scene.record.passes(4)
    scene.record.expects()


@incident("A secret that nobody rotates expires, and is replaced half an hour later.")
def secret_expired(scene: Scene) -> None:
    scene.daemon.api.create("brief", "v", type="external", rotation="manual", rotation_period="60s", grace_period="1s")
    scene.record.passes(14)
    scene.record.expects()
    scene.record.passes(6)
    scene.record.expects("SecretsdSecretExpired")
    scene.daemon.api.delete("/secret/brief").ok(204)
    scene.record.passes(1)
    scene.record.expects()


@incident("A secret that doesn't rotate by itself is about to expire.")
def secret_expiring(scene: Scene) -> None:
    scene.daemon.api.create("soon", "v", type="external", rotation="manual", rotation_period="20h", grace_period="19h")
    scene.record.passes(62)
    scene.record.expects()
    scene.record.passes(63)
    scene.record.expects("SecretsdSecretExpiring")
    scene.daemon.api.delete("/secret/soon").ok(204)
    scene.record.passes(1)
    scene.record.expects()


@incident("What is due can't be carried out: vault.json can't be replaced.", policy=ROTATING)
def schedule_fails(scene: Scene) -> None:
    scene.daemon.api.create("due")
    scene.record.passes(5)
    scene.record.expects()
    scene.sync.fail("vault.json.new")
    scene.record.passes(16)
    scene.record.expects("SecretsdScheduleFails")
    scene.sync.heal()
    scene.record.passes(4)
    scene.record.expects()


@incident("The other end of a rotation doesn't take the new value.", policy=far_end("/bin/false"), factor=8)
def rotation_fails(scene: Scene) -> None:
    scene.daemon.api.create("far", "v")
    scene.daemon.api.post("/rotate", {"names": ["far"]})
    scene.record.passes(4)
    scene.record.expects()
    scene.record.passes(4)
    scene.record.expects("SecretsdRotationFails")
    scene.daemon.write_policy(far_end("/bin/true"))
    scene.daemon.reload()
    eventually(lambda: scene.daemon.api.post("/rotate", {"names": ["far"]}).status == 200, "it is rotated")
    scene.record.passes(2)
    scene.record.expects()


@incident("A service asks again and again for what its policy doesn't allow.")
def many_refusals(scene: Scene) -> None:
    scene.each(3, 12, lambda: scene.daemon.api.as_("backend").get("/secret/x").refused(403, "forbidden"))
    scene.record.expects("SecretsdManyRefusals")
    scene.record.passes(12)
    scene.record.expects()


@incident("After a rotation somebody goes on reading the version before.")
def previous_version_read(scene: Scene) -> None:
    scene.daemon.api.update("x", "w")
    scene.each(120, 20, lambda: scene.daemon.api.get("/secret/x?version=previous").ok())
    scene.record.expects()
    scene.each(120, 20, lambda: scene.daemon.api.get("/secret/x?version=previous").ok())
    scene.record.expects("SecretsdPreviousVersionInUse")
    scene.record.passes(62)
    scene.record.expects()


@incident("The newest backup is nine days old.")
def backup_old(scene: Scene) -> None:
    record = scene.daemon.vault_path.with_name("vault.json.backup")
    record.write_text('{"created_at":"2026-11-01T00:00:00.000Z"}')
    scene.record.passes(58)
    scene.record.expects()
    scene.record.passes(4)
    scene.record.expects("SecretsdBackupOld")
    record.write_text(json.dumps({"created_at": scene.daemon.api.secret("x")["created_at"]}))
    scene.record.passes(3)
    scene.record.expects()


@incident(
    "A service goes on with the version before until its grace is over, and is left behind.",
    policy=OPEN_POLICY | {"secrets": {"x": {"type": "external", "grace_period": "5400s"}}},
)
def consumers_lag(scene: Scene) -> None:
    scene.daemon.api.as_("admin").value("x")
    scene.daemon.api.update("x", "w")
    scene.record.passes(72)
    scene.record.expects()
    scene.record.passes(6)
    scene.record.expects("SecretsdConsumersLag")
    scene.record.passes(14)
    scene.record.expects("SecretsdConsumersLeftBehind")
    scene.record.passes(62)
    scene.record.expects()

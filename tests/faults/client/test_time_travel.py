"""Messages that were true once: another epoch's, an earlier session's, held back or said again, and old wills."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from secretsd_client import Times

from tests.faults.client.service import BOUND_SECS, HEARD_ONLY, NewService
from tests.support.daemon import COMMANDS, Daemon
from tests.support.mqtt_proxy import MqttProxy, Publish, everything, on
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

NewDaemon = Callable[..., Daemon]


def data(message: Publish) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(message.payload)["data"]
    return found


class Backup:
    """The folders of a daemon's vault and audit log as they were when it was taken."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        daemon.terminate()
        for folder in self._folders():
            shutil.copytree(folder, f"{folder}.backup")
        daemon.start().wait_bus()

    def restore(self) -> None:
        """Put it back, and accept that it is older."""
        self._daemon.terminate()
        for folder in self._folders():
            shutil.rmtree(folder)
            shutil.copytree(f"{folder}.backup", folder)
        accepted = subprocess.run(
            [COMMANDS / "secretsctl", "vault", "accept-rollback", "--yes", "--config", self._daemon.config_path],
            capture_output=True,
            text=True,
            check=False,
        )
        assert accepted.returncode == 0, accepted.stdout + accepted.stderr
        self._daemon.start().wait_bus()

    def _folders(self) -> Iterable[Any]:
        return (self._daemon.vault_path.parent, self._daemon.audit_path.parent)


def test_a_daemon_restored_from_a_backup_and_the_old_epoch_s_events_after_it(
    new_daemon: NewDaemon, proxy: MqttProxy, new_service: NewService, name: str
) -> None:
    daemon = new_daemon()
    api = daemon.api
    api.create(name, "one")
    api.create(f"{name}-kept", "kept")
    backup = Backup(daemon)
    api.update(name, "two")
    api.create(f"{name}-lost", "lost")
    service = new_service(daemon)
    told, _, _ = service.follow(name, f"{name}-kept", f"{name}-lost")
    service.settle()
    api.update(name, "three")
    told.wait(3)
    service.rest()
    old = list(proxy.heard)

    backup.restore()
    service.serves(name, "one", within=30)
    assert service.client.get_secret(f"{name}-kept") == "kept"
    assert [secret.value for secret in told.secrets] == ["three", "one"]
    assert service.stat("started_over") >= 1
    with pytest.raises(LookupError):
        _cached(service.client)[f"{name}-lost"]

    service.settle()
    service.rest()
    asked = service.stat("changes_asked")
    foreign = [message for message in old if data(message).get("name") == name]
    for _ in range(10):
        proxy.inject(*foreign)
    service.counts("other_epoch", 10 * len(foreign))
    service.rest()
    assert service.stat("changes_asked") <= asked + 2  # once per interval, however many come
    assert service.client.get_secret(name) == "one"

    api.update(name, "four")
    eventually(lambda: told.secrets[-1].value == "four", "the new epoch's events count")
    assert [secret.value for secret in told.secrets] == ["three", "one", "four"]


def test_a_slow_replay_of_a_whole_earlier_session_looks_like_silence(
    new_daemon: NewDaemon, proxy: MqttProxy, new_service: NewService, name: str
) -> None:
    daemon = new_daemon()
    daemon.api.create(name, "one")
    service = new_service(daemon)
    (told,) = service.follow(name)
    service.settle()
    for version in (2, 3):
        daemon.api.update(name, f"v{version}")
        told.wait(version)
    heard = len(proxy.wait_heard("*/checkpoint/*"))
    proxy.wait_heard("*/checkpoint/*", count=heard + 3)
    earlier = list(proxy.heard)
    daemon.restart().wait_bus()
    service.settle()

    # From now on the broker says the earlier session word by word, one word for each thing the daemon says.
    service.rest()
    replay = proxy.drop()
    stale, verified = service.stat("stale_checkpoints"), service.stat("verified")
    daemon.api.update(name, "v4")
    for said, word in enumerate(earlier, 1):
        proxy.inject(word)
        service.counts("verified", verified + said)
        replay.wait(min(said // 4, 3))  # the daemon goes on meanwhile
    service.serves(name, "v4")
    told.wait(4)
    service.counts("stale_checkpoints", stale + 1)
    eventually(lambda: not service.vouched(), "a replayed session vouches for nothing", within=BOUND_SECS)
    daemon.api.update(name, "v5")
    proxy.inject(*earlier)
    service.serves(name, "v5")
    told.wait(5)
    assert told.versions == [2, 3, 4, 5]


def test_checkpoints_that_are_held_back_do_not_look_fresh(
    new_daemon: NewDaemon, proxy: MqttProxy, new_service: NewService, name: str
) -> None:
    daemon = new_daemon()
    daemon.api.create(name, "one")
    service = new_service(daemon)
    (told,) = service.follow(name)
    service.settle()
    service.rest()

    class Late:
        """Says each checkpoint when the fifth one after it comes; says nothing else."""

        def __init__(self) -> None:
            self.waiting: list[bytes] = []

        def __call__(self, payload: bytes) -> bytes:
            self.waiting.append(payload)
            return self.waiting.pop(0) if len(self.waiting) > 5 else self.waiting[0]

    proxy.drop(on("*/secret/*"))
    late = proxy.rewrite(on("*/checkpoint/*"), Late())
    daemon.api.update(name, "two")
    service.serves(name, "two")
    told.wait(2)
    late.wait(8)
    service.counts("stale_checkpoints", 1)
    assert not service.vouched()


def test_one_checkpoint_said_for_ever_vouches_no_longer_than_it_is_young(
    new_daemon: NewDaemon, proxy: MqttProxy, new_service: NewService, name: str
) -> None:
    daemon = new_daemon()
    daemon.api.create(name, "one")
    service = new_service(daemon)
    service.follow(name)
    service.settle()
    service.rest()
    first = proxy.wait_heard("*/checkpoint/*")[-1].payload
    proxy.drop(on("*/secret/*"))
    proxy.rewrite(on("*/checkpoint/*"), lambda _: first)
    daemon.api.update(name, "two")
    service.serves(name, "two")
    service.counts("stale_checkpoints", 1)
    assert not service.vouched()


def test_an_old_will_has_no_effect(new_daemon: NewDaemon, proxy: MqttProxy, new_service: NewService, name: str) -> None:
    daemon = new_daemon()
    daemon.api.create(name, "one")
    service = new_service(daemon, times=HEARD_ONLY)
    (told,) = service.follow(name)
    service.settle()
    daemon.sigkill()
    will = proxy.wait_heard("*/status/*", count=2)[-1]
    assert data(will)["state"] == "offline"
    daemon.start().wait_bus()
    online = proxy.wait_heard("*/status/*", count=3)[-1]
    assert data(online)["session"] > data(will)["session"]
    eventually(service.vouched, "the new session vouches", within=BOUND_SECS)
    service.rest()
    fetches, asked, verified = (service.stat(counter) for counter in ("fetches", "changes_asked", "verified"))
    for _ in range(10):
        proxy.inject(will)
    service.counts("verified", verified + 10)
    service.rest()
    assert (service.stat("fetches"), service.stat("changes_asked")) == (fetches, asked)
    assert service.vouched()
    assert service.client.get(name).stale is False
    daemon.api.update(name, "two")
    told.wait(2)


def test_a_client_that_starts_amid_a_replay_takes_nothing_from_it(
    new_daemon: NewDaemon, proxy: MqttProxy, new_service: NewService, name: str
) -> None:
    daemon = new_daemon()
    daemon.api.create(name, "one")
    witness = new_service(daemon)
    (told,) = witness.follow(name)
    witness.settle()
    daemon.api.update(name, "two")
    told.wait(2)
    old = list(proxy.heard)
    daemon.api.delete(f"/secret/{name}").ok(204)
    daemon.api.create(name, "again")
    daemon.restart().wait_bus()
    proxy.drop(everything)
    late = new_service(daemon, times=Times(ttl_silent=1.0))
    (late_told,) = late.follow(name)
    assert late.client.wait_ready()
    for _ in range(3):
        proxy.inject(*old)
    late.counts("verified", 3 * len([message for message in old if name in message.topic]))
    late.serves(name, "again")
    assert not late.vouched()
    assert late_told.versions == []


def _cached(client: Any) -> dict[str, object]:
    """Return what the client could serve without asking."""
    found: dict[str, object] = client._fresh
    return found

"""Disks that say EIO when they are to make something durable: what was written may be gone, so it is not trusted."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.daemon.load import Load
from tests.support.daemon import Daemon
from tests.support.log import verify_log
from tests.support.shims import AVAILABLE, FailingSync

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="no gcc to compile the failing fdatasync with")

Placed = tuple[Daemon, FailingSync]
Figure = Callable[[str, object], None]
LOG, VAULT, VAULT_FOLDER = "/audit.jsonl", "/vault.json.new", "/secrets"


@pytest.fixture
def placed(new_daemon: Callable[..., Daemon], tmp_path: Path) -> Placed:
    sync = FailingSync(tmp_path)
    daemon = new_daemon(env=sync.env).start()
    daemon.api.create("x", "one", type="generic")
    return daemon, sync


def descriptors(daemon: Daemon, path: Path) -> list[str]:
    """The daemon's descriptors of a file."""
    assert daemon.process is not None
    folder = Path(f"/proc/{daemon.process.pid}/fd")
    found = []
    for entry in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            if entry.readlink() == path:
                found.append(entry.name)
    return found


def test_after_a_failed_sync_nothing_is_released_and_the_file_is_cut_back(placed: Placed) -> None:
    daemon, sync = placed
    for _ in range(10):
        before = daemon.audit_path.read_bytes()
        sync.fail(LOG)
        answer = daemon.api.get("/secret/x")
        answer.refused(503, "audit-unavailable")
        assert b"one" not in answer.body
        assert daemon.audit_path.read_bytes() == before
        sync.heal()
        assert daemon.api.value("x") == "one"
        daemon.verified_log()


def test_a_descriptor_that_failed_once_is_given_up(placed: Placed) -> None:
    daemon, sync = placed
    if os.geteuid() != 0:
        pytest.skip("only root may look at the descriptors of a process that is not dumpable")
    assert len(descriptors(daemon, daemon.audit_path)) == 1
    sync.fail(LOG)
    daemon.api.get("/secret/x").refused(503, "audit-unavailable")
    assert descriptors(daemon, daemon.audit_path) == []
    sync.heal()
    daemon.api.value("x")
    assert len(descriptors(daemon, daemon.audit_path)) == 1


def test_a_log_that_was_rotated_while_it_failed_is_cut_back_too(placed: Placed) -> None:
    daemon, sync = placed
    sync.fail(LOG)
    daemon.api.get("/secret/x").refused(503, "audit-unavailable")
    rotated = daemon.audit_path.with_name("audit.jsonl.1")
    daemon.audit_path.rename(rotated)
    sync.heal()
    assert daemon.api.value("x") == "one"
    verify_log([rotated, daemon.audit_path], daemon.keyring())


def test_every_value_released_around_failed_syncs_is_in_the_log(placed: Placed, figure: Figure) -> None:
    daemon, sync = placed
    with Load(daemon, "x", clients=4) as load:
        for _ in range(20):
            sync.fail(LOG)
            load.wait_refused()
            sync.heal()
            load.wait_released(20)
    figure("released", len(load.released))
    logged = {event.data.get("request_id") for event in verify_log([daemon.audit_path], daemon.keyring())}
    assert set(load.released) <= logged


def test_a_change_whose_line_is_not_synced_is_made_once(placed: Placed) -> None:
    daemon, sync = placed
    for number in range(10):
        headers, body = {"Idempotency-Key": f"key {number}"}, {"value": f"value {number}"}
        sync.fail(LOG)
        daemon.api.put("/secret/x", body, headers).refused(503, "outcome-unknown")
        sync.heal()
        assert daemon.api.put("/secret/x", body, headers).ok()["version"] == number + 2
    assert [line["data"]["version"] for line in daemon.events("secret.updated")] == list(range(2, 12))
    daemon.verified_log()


def test_a_vault_that_is_not_synced_is_not_put_in_place(placed: Placed) -> None:
    daemon, sync = placed
    for _ in range(10):
        before = daemon.vault_path.read_bytes()
        sync.fail(VAULT)
        daemon.api.put("/secret/x", {"value": "two"}).refused(503, "vault-unavailable")
        assert daemon.vault_path.read_bytes() == before
        assert daemon.api.value("x") == "one"
    sync.heal()
    assert daemon.api.update("x", "two")["version"] == 2


def test_a_vault_whose_folder_is_not_synced_is_in_force_only_when_it_is(placed: Placed) -> None:
    daemon, sync = placed
    sync.fail(VAULT_FOLDER)
    daemon.api.put("/secret/x", {"value": "two"}, {"Idempotency-Key": "k"}).refused(503, "outcome-unknown")
    # Which of the two a crash would leave nobody knows: the old one is served, and no line says otherwise.
    assert daemon.api.value("x") == "one"
    assert daemon.events("secret.updated") == []
    assert daemon.api.get("/healthz").status == 503
    sync.heal()
    assert daemon.api.put("/secret/x", {"value": "two"}, {"Idempotency-Key": "k"}).ok()["version"] == 2
    assert [line["data"]["version"] for line in daemon.events("secret.updated")] == [2]
    assert daemon.api.get("/healthz").status == 200


def test_a_vault_whose_folder_was_not_synced_is_in_force_after_a_kill(placed: Placed) -> None:
    daemon, sync = placed
    sync.fail(VAULT_FOLDER)
    daemon.api.put("/secret/x", {"value": "two"}, {"Idempotency-Key": "k"}).refused(503, "outcome-unknown")
    daemon.sigkill()
    sync.heal()
    daemon.start()
    assert daemon.api.value("x") == "two"
    assert [line["data"]["version"] for line in daemon.events("secret.updated")] == [2]
    assert json.loads(daemon.vault_path.read_bytes())["generation"] == daemon.api.get("/secrets").position[1]
    daemon.verified_log()


def test_health_is_good_all_through_an_ordinary_commit(placed: Placed) -> None:
    daemon, _ = placed
    names = [daemon.api.create(f"n{number}", type="generic")["name"] for number in range(300)]
    with Load(daemon, "x", clients=1):
        statuses: set[int] = set()
        for _ in range(3):
            rotation = threading.Thread(target=lambda: daemon.api.rotate(*names))
            rotation.start()
            while rotation.is_alive():
                statuses.add(daemon.api.get("/healthz").status)
            rotation.join()
    assert statuses == {200}

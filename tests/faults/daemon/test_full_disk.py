"""Disks that are full: nothing is released that isn't audited, nothing is half done, and it goes on by itself."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator

import pytest

from tests.faults.daemon.load import Load
from tests.support.daemon import Daemon
from tests.support.http import Answer
from tests.support.log import verify_log
from tests.support.tmpfs import SmallDisk, why_not
from tests.support.waiting import eventually

_WHY_NOT = why_not()
pytestmark = pytest.mark.skipif(_WHY_NOT is not None, reason=str(_WHY_NOT))

New = Callable[..., Daemon]
Placed = tuple[Daemon, SmallDisk]
Figure = Callable[[str, object], None]
DISK_KIB = 8192


@contextlib.contextmanager
def on_a_small_disk(daemon: Daemon, folder: str) -> Iterator[Placed]:
    with SmallDisk(daemon.directory / folder, DISK_KIB) as disk:
        daemon.start()
        daemon.api.create("x", "one", type="generic")
        try:
            yield daemon, disk
        finally:
            if daemon.process is not None and daemon.process.poll() is None:
                daemon.sigkill()


@pytest.fixture
def small_audit(new_daemon: New) -> Iterator[Placed]:
    with on_a_small_disk(new_daemon(), "audit") as both:
        yield both


@pytest.fixture
def small_vault(new_daemon: New) -> Iterator[Placed]:
    with on_a_small_disk(new_daemon(), "secrets") as both:
        yield both


def full(daemon: Daemon, disk: SmallDisk) -> Answer:
    """Fill the disk, then read until the page that the log has begun is full too; return the first refusal."""
    disk.fill()
    for _ in range(50):
        answer = daemon.api.get("/secret/x")
        if answer.status != 200:
            return answer
    raise AssertionError("the disk is never full")


def test_health_is_good_again_by_itself_once_there_is_room(small_audit: Placed) -> None:
    daemon, disk = small_audit
    full(daemon, disk).refused(503, "audit-unavailable")
    assert daemon.api.get("/healthz").status == 503
    disk.free()
    eventually(lambda: daemon.api.get("/healthz").status == 200, "it can serve again, though nobody asked it to")
    verify_log([daemon.audit_path], daemon.keyring())


# The audit log's disk


def test_what_cannot_be_audited_is_not_released(small_audit: Placed) -> None:
    daemon, disk = small_audit
    answer = full(daemon, disk)
    answer.refused(503, "audit-unavailable")
    assert b"one" not in answer.body
    for path in ("/secret/x", "/secrets", "/changes", "/audit"):
        daemon.api.get(path).refused(503, "audit-unavailable")
    health = daemon.api.get("/healthz")
    assert health.status == 503
    assert "No space left" in health.json()["reason"]


def test_a_full_log_goes_on_by_itself_when_there_is_room_again(small_audit: Placed) -> None:
    daemon, disk = small_audit
    for _ in range(10):
        full(daemon, disk).refused(503, "audit-unavailable")
        disk.free()
        assert daemon.api.value("x") == "one"
        assert daemon.api.get("/healthz").status == 200
        daemon.verified_log()
    daemon.restart()
    daemon.verified_log()


def test_every_value_released_around_full_disks_is_in_the_log(small_audit: Placed, figure: Figure) -> None:
    daemon, disk = small_audit
    with Load(daemon, "x", clients=4) as load:
        for _ in range(10):
            disk.fill()
            load.wait_refused()
            disk.free()
            load.wait_released(20)
    figure("released", len(load.released))
    logged = {event.data.get("request_id") for event in verify_log([daemon.audit_path], daemon.keyring())}
    assert len(load.released) > 200
    assert set(load.released) <= logged
    assert set(load.statuses) == {200, 503}


def test_a_daemon_does_not_start_where_it_cannot_audit(small_audit: Placed) -> None:
    daemon, disk = small_audit
    full(daemon, disk)
    daemon.sigkill()
    said = daemon.refuses(78)
    assert "No space left" in said
    disk.free()
    daemon.start()
    daemon.verified_log()


# A change that is in the vault, and whose line has no room


def stuck(daemon: Daemon, disk: SmallDisk, key: str) -> None:
    """Make a change whose line can't be written."""
    full(daemon, disk)
    daemon.api.put("/secret/x", {"value": "two"}, {"Idempotency-Key": key}).refused(503, "outcome-unknown")


def test_a_change_without_its_line_is_not_served_and_nothing_else_is_done(small_audit: Placed) -> None:
    daemon, disk = small_audit
    before = json.loads(daemon.vault_path.read_bytes())["generation"]
    stuck(daemon, disk, "k")
    assert json.loads(daemon.vault_path.read_bytes())["generation"] == before + 1
    daemon.api.get("/secret/x").refused(503, "audit-unavailable")
    for _ in range(3):
        daemon.api.post("/secret", {"name": "other", "value": "v"}).refused(503, "audit-unavailable")
    assert json.loads(daemon.vault_path.read_bytes())["generation"] == before + 1
    assert daemon.api.get("/healthz").status == 503


def test_a_change_without_its_line_is_completed_by_its_repetition_and_made_once(small_audit: Placed) -> None:
    daemon, disk = small_audit
    stuck(daemon, disk, "k")
    daemon.api.put("/secret/x", {"value": "two"}, {"Idempotency-Key": "k"}).refused(503, "audit-unavailable")
    disk.free()
    done = daemon.api.put("/secret/x", {"value": "two"}, {"Idempotency-Key": "k"}).ok()
    assert done["version"] == 2
    again = daemon.api.put("/secret/x", {"value": "two"}, {"Idempotency-Key": "k"}).ok()
    assert (again["version"], again["kid"]) == (2, done["kid"])
    assert [line["data"]["version"] for line in daemon.events("secret.updated")] == [2]
    assert daemon.api.get("/healthz").status == 200


def test_a_change_without_its_line_is_completed_before_anything_else(small_audit: Placed) -> None:
    daemon, disk = small_audit
    stuck(daemon, disk, "k")
    ends = len(daemon.lines())
    disk.free()
    read = daemon.api.secret("x")
    assert (read["value"], read["version"]) == ("two", 2)
    first, second = daemon.lines()[ends : ends + 2]
    assert (first["type"], first["data"]["version"]) == ("jarvis.secretsd.secret.updated", 2)
    assert second["type"] == "jarvis.secretsd.secret.read"
    daemon.verified_log()


def test_a_change_without_its_line_is_completed_without_being_asked(small_audit: Placed) -> None:
    daemon, disk = small_audit
    stuck(daemon, disk, "k")
    disk.free()
    eventually(lambda: daemon.events("secret.updated"), "the line is written")
    eventually(lambda: daemon.api.get("/healthz").status == 200, "the daemon is well again")


def test_a_change_without_its_line_is_completed_after_a_kill(small_audit: Placed) -> None:
    daemon, disk = small_audit
    stuck(daemon, disk, "k")
    daemon.sigkill()
    disk.free()
    daemon.start()
    assert daemon.api.value("x") == "two"
    assert [line["data"]["version"] for line in daemon.events("secret.updated")] == [2]
    updated, started = daemon.events("secret.updated")[-1], daemon.events("daemon.started")[-1]
    assert updated["sequence"] < started["sequence"]
    assert daemon.api.put("/secret/x", {"value": "two"}, {"Idempotency-Key": "k"}).ok()["version"] == 2


def test_ten_changes_without_lines_are_each_made_once(small_audit: Placed) -> None:
    daemon, disk = small_audit
    for number in range(10):
        full(daemon, disk)
        headers, body = {"Idempotency-Key": f"key {number}"}, {"value": f"value {number}"}
        daemon.api.put("/secret/x", body, headers).refused(503, "outcome-unknown")
        disk.free()
        assert daemon.api.put("/secret/x", body, headers).ok()["version"] == number + 2
    assert [line["data"]["version"] for line in daemon.events("secret.updated")] == list(range(2, 12))
    daemon.verified_log()


# The vault's disk


def test_a_change_that_has_no_room_changes_nothing(small_vault: Placed) -> None:
    daemon, disk = small_vault
    before, lines = daemon.vault_path.read_bytes(), len(daemon.lines())
    disk.fill()
    api = daemon.api
    for answer in (
        api.put("/secret/x", {"value": "two"}), api.post("/secret", {"name": "y", "value": "v"}),
        api.post("/rotate", {"names": ["x"]}), api.delete("/secret/x"),
    ):  # fmt: skip
        answer.refused(503, "vault-unavailable")
    assert daemon.vault_path.read_bytes() == before
    assert len(daemon.lines()) == lines
    assert daemon.api.value("x") == "one"
    assert daemon.api.get("/healthz").status == 200


def test_a_full_vault_goes_on_by_itself_when_there_is_room_again(small_vault: Placed) -> None:
    daemon, disk = small_vault
    for number in range(10):
        disk.fill()
        daemon.api.put("/secret/x", {"value": "no"}).refused(503, "vault-unavailable")
        disk.free()
        assert daemon.api.update("x", f"value {number}")["version"] == number + 2
    daemon.restart()
    assert daemon.api.value("x") == "value 9"
    daemon.verified_log()


def test_a_rotation_that_is_due_waits_for_room(new_daemon: New) -> None:
    rule = {"type": "generic", "rotation": "auto", "rotation_period": "2s"}
    daemon = new_daemon()
    daemon.write_policy({**_policy(), "secrets": {"auto_*": rule}})
    with on_a_small_disk(daemon, "secrets") as (_, disk):
        daemon.api.create("auto_x")
        disk.fill()
        eventually(lambda: "schedule:" in daemon.output(), "the schedule can't write")
        assert daemon.api.secret("auto_x")["version"] <= 2
        disk.free()
        version = daemon.api.secret("auto_x")["version"]
        eventually(lambda: daemon.api.secret("auto_x")["version"] > version, "it rotates", within=35)
        versions = [line["data"]["version"] for line in daemon.events("secret.rotated")]
        assert versions == list(range(2, 2 + len(versions)))


def _policy() -> dict[str, object]:
    return {"default_deny": True, "clients": {"admin": {"allow": ["*"]}}}
